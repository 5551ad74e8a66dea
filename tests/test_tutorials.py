"""The tutorials in docs/tutorials: their form, and every cell at small sizes. `make docs` runs them whole."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import mechconn as mc
from mechconn.cli import main
from mechconn.core import isolate_rng

with isolate_rng(0, "import"):
    import transformers

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
SMALL: dict[str, dict[str, Any]] = {
    "shortcut_removed": {
        "TRAIN_ROWS": 120, "TEST_ROWS": 60, "TUNE_ROWS": 60, "EPOCHS": 2, "TUNE_EPOCHS": 1, "RELEARN_STEPS": (0, 2),
        "RELEARN_SEEDS": 2,
    },
    "shortcut_in_text": {
        "TRAIN_ROWS": 80, "TUNE_ROWS": 40, "TEST_ROWS": 60, "EPOCHS": 1, "GENTLE_EPOCHS": 1, "SHUFFLED_EPOCHS": 1,
        "RELEARN_STEPS": (0, 2), "RELEARN_SEEDS": 2,
    },
    "can_i_merge": {"TRAIN_ROWS": 150, "TEST_ROWS": 200, "UNITS": 8, "EPOCHS": 3},
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))


def join(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def list_tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """What the last line of a cell shows; None where it is no expression."""
    *before, last = ast.parse(source).body
    shown = isinstance(last, ast.Expr)
    exec(compile(ast.Module(before if shown else [*before, last], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def run_small(name: str) -> tuple[dict[str, Any], list[Any]]:
    """(the names after the last cell, what the cells show), at small sizes; what holds at full size is not checked."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    shown = []
    for cell in read(name)["cells"]:
        if cell["cell_type"] != "code" or "check" in list_tags(cell):
            continue
        if "parameters" in list_tags(cell):
            names.update(SMALL[name])
        else:
            shown.append(run_cell(join(cell), names))
    return names, [value for value in shown if value is not None]


def count(shown: list[Any], kind: type) -> int:
    return sum(isinstance(value, kind) for value in shown)


@pytest.fixture
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    transformers.utils.logging.enable_progress_bar()  # the tutorial on text turns them off


def test_every_tutorial_is_tried_small() -> None:
    assert {file.stem for file in TUTORIALS.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_form(name: str) -> None:
    notebook = read(name)
    cells = notebook["cells"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in cells}) == len(cells) <= 25
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "parameters" in list_tags(code[0])
    sizes = ast.parse(join(code[0])).body
    assigned = [n.id for line in sizes for n in ast.walk(line) if isinstance(n, ast.Name)]
    assert set(assigned) == set(SMALL[name])
    assert {"check", "remove-cell"} <= set(list_tags(cells[-1]))
    assert sum("check" in list_tags(cell) for cell in cells) == 1


@pytest.mark.parametrize("name", SMALL)
def test_the_text_teaches_and_names_what_there_is(name: str) -> None:
    text = "\n".join(join(cell) for cell in read(name)["cells"] if cell["cell_type"] == "markdown")
    for part in ("**The usual mistake**", "what it does not", "## What to do next", "## Exercise", "margin|tolerance"):
        assert re.search(part.replace("*", r"\*"), text), part
    for mentioned in set(re.findall(r"`mc\.([\w.]+)", text)):
        assert callable(reduce(getattr, mentioned.split("."), mc)), mentioned


@pytest.mark.slow
@pytest.mark.usefixtures("_in_a_folder")
def test_shortcut_removed() -> None:
    names, shown = run_small("shortcut_removed")
    assert count(shown, mc.Result) == 4
    assert count(shown, Figure) == 1
    assert isinstance(names["relearned"], mc.Relearned)
    assert names["second"].names == ("original", "tuned_harder")
    assert mc.load_result("shortcut_removed.json").to_dict() == names["second"].to_dict()
    page = Path("shortcut_removed.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("tuned_harder", "with_box", "no_box", "box_shuffled", "box_only"))


@pytest.mark.slow
@pytest.mark.usefixtures("_in_a_folder")
def test_shortcut_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    names, shown = run_small("shortcut_in_text")
    assert count(shown, mc.Result) == 4
    assert count(shown, Figure) == 1
    assert names["second"].relearned.keys() == {"original", "tuned_on_shuffled"}
    page = Path("shortcut_in_text.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("tuned_on_shuffled", "with_tag", "no_tag", "tag_shuffled", "tag_only"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "original/", "fine_tuned/", "--data", "audit.toml", "-o", "audit.html"])
    assert stopped.value.code == 0
    assert names["first"].headline in capsys.readouterr().out
    assert Path("audit.html").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("_in_a_folder")
def test_can_i_merge() -> None:
    names, shown = run_small("can_i_merge")
    assert count(shown, mc.Merged) == 1
    assert count(shown, Figure) == 5
    assert [names[name].before is None for name in ("as_they_are", "aligned", "shortcut")] == [False, False, False]
    assert mc.load_result("can_i_merge.json").to_dict() == names["shortcut"].to_dict()
    page = Path("can_i_merge.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("north", "east", "ward_tells", "ward_shuffled", "ward_unknown"))
