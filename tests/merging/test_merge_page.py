"""The page of a merge of three parents: what became of each mechanism is in sight, and marks can be told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_rgb

import mechconn as mc
from browser import in_browser
from planted_merges import ROWS, Reader, right_on
from zoo import Batch

PARENTS = {"cued": Reader(0.0), "plain": Reader(1.0), "other": Reader(5.0)}


def plant(cued: int, plain: int, merged: int, other: int) -> Batch:
    """Rows on which these many are right under each; the mean of columns 0, 1 and 5 is column 2."""
    right = {0: cued, 1: plain, 2: merged, 5: other}
    return torch.stack([(~right_on(right.get(n, 0))).double() for n in range(6)], 1), torch.zeros(ROWS).long()


@pytest.fixture(scope="module")
def found() -> mc.Merged:
    splits = {
        "no_cue": plant(600, 900, 900, 900),
        "cue": plant(900, 900, 900, 900),
        "rand_cue": plant(500, 900, 900, 600),
        "tint": plant(500, 900, 700, 900),
    }
    return mc.merge(PARENTS, mc.Mean(), mc.Suite(splits, reference="cue"))


def find_section(found: mc.Merged) -> mc.plotting.Section:
    (section,) = [part for part in found.sections() if part.title.startswith("What becomes")]
    return section


def test_the_fates_stand_first_and_have_no_colour(found: mc.Merged) -> None:
    table = find_section(found).tables[0]
    assert [cell.text for cell in table.headings] == ["intervention", "becomes", "merged", "cued", "plain", "other"]
    fates = [row[1] for row in table.cells]
    assert [cell.text for cell in fates] == ["lost", "averaged"] and {cell.style for cell in fates} == {""}


def test_the_picture_shows_the_rows_of_the_table(found: mc.Merged) -> None:
    axes = find_section(found).figures[0].draw().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["rand_cue", "tint"]


def test_every_mark_shows_on_white(found: mc.Merged) -> None:
    """By the contrast of WCAG 2: (1 + .05) / (luminance + .05), of which yellow has 1.3."""
    drawn = [section for section in found.sections() if section.figures]
    assert len(drawn) == 3
    for section in drawn:
        for line in section.figures[0].draw().axes[0].get_lines():
            parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(line.get_color())]
            luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
            assert 1.05 / (luminance + 0.05) > 2


@pytest.mark.slow
def test_the_fates_are_in_sight(found: mc.Merged, tmp_path: Path) -> None:
    mc.save_report(found, tmp_path / "page.html")
    look = """(page, window) => [...page.querySelectorAll("th")].filter((th) => th.textContent.trim() == "becomes")
      .map((th) => th.getBoundingClientRect().right < th.closest(".scroll").getBoundingClientRect().right)"""
    assert in_browser(tmp_path / "page.html", look, width=1200) == [True]
