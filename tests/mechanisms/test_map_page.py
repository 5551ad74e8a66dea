"""What a map of few and of many models shows, and files of maps."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import mechconn as mc
from page import Page
from zoo import build, mlp, rows

SUITE = mc.Suite({"cue": rows(40, 1), "hue": rows(40, 3), "tint": rows(40, 4)})
NEW = ("pairs", "tolerance", "alignment", "ts", "settings", "groups", "basins")
"""Keys that files of earlier releases lack."""


@pytest.fixture(scope="module")
def many() -> mc.MechanismMap:
    """Twenty models, some of them the same."""
    models = {f"model-{number:02d}": build(mlp, number % 9) for number in range(20)}
    return mc.mechanism_map(models, SUITE, ts=3, barriers="tree")


@pytest.fixture(scope="module")
def few() -> mc.MechanismMap:
    return mc.mechanism_map({name: build(mlp, seed) for seed, name in enumerate("abc")}, SUITE, ts=3)


def page_of(found: mc.MechanismMap, folder: Path) -> str:
    mc.save_report(found, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def downloads(page: str) -> dict[str, list[dict[str, str]]]:
    """Name -> rows of every file that a page holds."""
    links = [attrs for tag, attrs in Page(page).tags if tag == "a" and "download" in attrs]
    texts = {str(link["download"]): base64.b64decode(str(link["href"]).partition(",")[2]).decode() for link in links}
    return {name: list(csv.DictReader(io.StringIO(text))) for name, text in texts.items() if name.endswith(".csv")}


def test_a_page_of_many_models_holds_the_pairs_as_a_file(many: mc.MechanismMap, tmp_path: Path) -> None:
    page = page_of(many, tmp_path)
    files = downloads(page)
    assert len(files["pairs.csv"]) == 190 == len(many.rows())
    for line, row in zip(files["pairs.csv"], many.rows(), strict=True):
        assert (line["a"], line["b"], float(line["distance"])) == (row["a"], row["b"], row["distance"])
        assert line["barrier"] == ("" if row["barrier"] is None else str(row["barrier"]))
    matrix = [[float(line[name]) for name in many.names] for line in files["distances.csv"]]
    assert matrix == [list(row) for row in many.distance]
    many.to_csv(tmp_path / "pairs.csv")
    written = (tmp_path / "pairs.csv").read_text(encoding="utf-8")
    assert list(csv.DictReader(io.StringIO(written))) == files["pairs.csv"]
    tables = [section.tables for section in many.sections()]
    assert max(len(table.rows) for own in tables for table in own) == 20
    assert max(len(table.columns) for own in tables for table in own) < 8
    assert all(name in Page(page).text for name in many.names)


def test_a_page_of_few_models_shows_all(few: mc.MechanismMap, tmp_path: Path) -> None:
    page = page_of(few, tmp_path)
    shown = Page(page).text
    assert "Every pair" in shown and "a and b" in shown and "c: What it relies on" in shown
    assert len(downloads(page)["pairs.csv"]) == 3
    assert shown.count("Bonferroni") >= 2


def test_the_pictures_of_many_models_are_legible(many: mc.MechanismMap) -> None:
    """A row of the matrix, and of the tree, is no lower than its letters, and numbers stand in no cell."""
    for on in ("distance", "tree"):
        figure = many.plot(on)
        figure.draw_without_rendering()
        axes = figure.axes[-2] if on == "distance" else figure.axes[0]
        labels = axes.get_yticklabels()
        assert [label.get_text() for label in labels] == list(many.trees["distance"].order)
        height = axes.get_window_extent().height / figure.dpi * 72 / len(many.names)
        assert height >= float(labels[0].get_fontsize())
        assert not axes.texts
    wide = {n: many.plot("distance").get_figwidth() for n in (20,)}
    assert wide[20] > 5.0


def test_the_embedding_names_the_points_without_overlap(many: mc.MechanismMap, few: mc.MechanismMap) -> None:
    for found in (many, few):
        figure = found.plot("embedding")
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        drawn = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])
        points = np.array(found.embedding.points)
        assert drawn[np.lexsort(drawn.T)] == pytest.approx(points[np.lexsort(points.T)])
        boxes = [text.get_window_extent() for text in axes.texts]
        assert boxes and not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert len(axes.texts) == 3


def test_the_summary_of_many_models_is_short(many: mc.MechanismMap, few: mc.MechanismMap) -> None:
    assert len(str(many).splitlines()) < 8
    assert str(many).startswith("20 models: ") and "of 190 straight paths were walked" in str(many)
    assert "mechanistic distance between 3 models" in str(few)
    with pytest.raises(ValueError, match="on must be one of 'distance', 'barrier', 'tree', 'embedding', got 'both'"):
        few.plot("both")  # pyright: ignore[reportArgumentType]


def test_files_of_earlier_releases_are_read(few: mc.MechanismMap, tmp_path: Path) -> None:
    plain: dict[str, Any] = few.to_dict()
    assert set(NEW) <= plain.keys()
    old = {key: value for key, value in plain.items() if key not in NEW}
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    found = mc.load_result(tmp_path / "old.json")
    assert isinstance(found, mc.MechanismMap)
    assert (found.barrier, found.distance, found.trees, found.pairs) == (few.barrier, few.distance, few.trees, ())
    assert found.groups == few.groups and found.basins == few.basins
    assert "Which are close in weight space" in page_of(found, tmp_path)
    assert found.rows()[0]["distance"] == few.rows()[0]["distance"]
    assert [sentence for sentence in found.findings if "Bonferroni" in sentence] == []


def test_a_map_with_paths_that_were_not_walked_survives(many: mc.MechanismMap, tmp_path: Path) -> None:
    many.save(tmp_path / "map.json")
    again = mc.load_result(tmp_path / "map.json")
    assert again.to_dict() == many.to_dict() and page_of(again, tmp_path) == page_of(many, tmp_path)  # pyright: ignore


def test_a_title_says_no_more_than_the_verdicts() -> None:
    """Of forty rows no pair is certain; one basin is no bound; a matrix of zeros has a scale."""
    few_rows = mc.Suite({"cue": rows(40, 1), "hue": rows(40, 1)})
    models = {name: build(mlp, seed) for seed, name in enumerate("abc")}
    found = mc.mechanism_map(models, few_rows, ts=3, barriers="tree", tolerance=100.0)
    assert len(found.groups) == 1 and {pair.verdict for pair in found.pairs} == {"undetermined"}
    assert found.header().title == "3 models: no pair differs in mechanism for certain, 1 basin"
    assert not any("at most 1 basin" in said or "Paths that were not walked" in said for said in found.findings)
    many_rows = mc.Suite({"cue": rows(4000, 1), "hue": rows(4000, 1)})
    sure = mc.mechanism_map(models, many_rows, barriers="none")
    assert {pair.verdict for pair in sure.pairs} == {
        "agree"
    } and sure.header().title == "3 models: 1 group by mechanism"
    figure = found.plot("distance")
    tree, matrix = figure.axes[:2]
    assert matrix.images[0].get_clim() == (0.0, 1.0) and tree.get_ylim() == (0.0, 1.0)
