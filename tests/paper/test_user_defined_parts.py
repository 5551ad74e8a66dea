"""A recipe's file that names a cue, a loss and a method of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechconn.cli import main
from mechconn.paper import RunPlan, RunWatcher, TuningSettings, resolve_settings, run_plan
from mechconn.report import draw_preview
from recipes import INLINE
from user_defined_data import Margin, StartPenalty

FILE = """
recipe = "table1"
rows = 90
test_rows = 30
proportions = [0.9]
loss = {name = "user_defined_data:Margin"}
training = {epochs = 2, batch_size = 20, milestones = [1]}
width = 4
points = 3
clean_samples = 30

[[datasets]]
name = "striped"
source = "digits"
cue = {name = "user_defined_data:StripeCue", columns = 10}

[methods.mine]
method = "user_defined_data:StartPenalty"
strength = 0.5
epochs = 2
batch_size = 20
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_run_uses_them_and_finds_its_steps_again(file: Path, tmp_path: Path) -> None:
    recipe, scale, settings, _ = resolve_settings(str(file))
    assert isinstance(settings, TuningSettings)
    assert settings.methods["mine"] == StartPenalty(strength=0.5, epochs=2, batch_size=20)
    assert settings.loss == Margin()
    changed = settings.model_copy(update={"methods": {"mine": settings.methods["mine"]}, "relearn": None})
    plan = RunPlan(recipe, scale, changed, tmp_path / "store", INLINE)
    record = run_plan(plan)
    (cell,) = record.cells
    (found,) = record.cue_results
    assert record.status == "done" and "fine-tune: mine" in cell.steps and len(cell.steps) == 4
    assert set(found.models) == {"theta_C", "mine"}
    assert record.settings["loss"] == "user_defined_data:Margin"
    assert record.settings["methods"]["mine"]["method"] == "user_defined_data:StartPenalty"
    assert record.settings["datasets"][0]["cue"] == {"name": "user_defined_data:StripeCue", "columns": 10}
    said: list[str] = []
    again = run_plan(plan, RunWatcher(line=said.append))
    assert any("4 of 4 steps were there" in line for line in said) and again.results == record.results


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"user_defined_data:StripeCue"', '"stripes"', r"^datasets\.0\.cue: cue must be one of .*, got 'stripes'"),
        ("columns = 10", "rows = 1", r"cue '.*:StripeCue' has no option 'rows'; it has brightness, columns$"),
        ("data:Margin", "data:Hinge", r"^loss: the loss 'user_defined_data:Hinge': .*has no 'Hinge'"),
        ('"user_defined_data:Margin"', '"squared", k = 1', "^loss: the loss 'squared' has no option 'k'; it has none$"),
        ("data:StartPenalty", "data:StripeCue", r"^methods\.mine: .*must be a subclass of Method"),
        ("strength = 0.5", "strenght = 0.5", r"^methods\.mine\.strenght: unknown key; did you mean 'strength'\?$"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_name_is_one_line(file: Path, old: str, new: str, text: str) -> None:
    file.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=text) as caught:
        resolve_settings(str(file))
    assert "\n" not in str(caught.value)


def test_the_command_that_shows_a_cue_takes_the_same_name(tmp_path: Path) -> None:
    pictures = draw_preview("digits", "user_defined_data:StripeCue", count=2)
    assert list(pictures) == ["no_cue", "cue", "rand_cue", "rand_image"]
    sheet = tmp_path / "cues.png"
    with pytest.raises(SystemExit, match="0"):
        main(["data", "digits", "--cue", "hue-box", "--preview", str(sheet)])
    assert sheet.read_bytes().startswith(b"\x89PNG")
