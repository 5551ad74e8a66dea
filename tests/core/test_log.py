"""The logger "mechconn": notes and ends of stages, warnings once where a result is made, and silence by default."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mechconn as mc
from zoo import FEATURES, build, mlp, rows

QUIET = """
import logging, torch, mechconn as mc
logger = logging.getLogger("mechconn")
root = logging.getLogger()
x = torch.arange(8.0).view(4, 2)
mc.train(torch.nn.Linear(2, 2).requires_grad_(True), (x, torch.tensor([0, 1, 0, 1])), mc.Training(epochs=1, lr=1e-30))
print(logger.level, root.level, root.handlers, [type(handler).__name__ for handler in logger.handlers])
"""


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_nothing_is_configured_and_nothing_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0 30 [] ['NullHandler']\n"


def test_a_warning_is_logged_once_where_the_result_is_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mechconn")
    trained = mc.train(build(mlp), rows(8), mc.Training(epochs=2, lr=1e-30))
    assert len(trained.notes) == 1 and logged(caplog, logging.WARNING) == [f"training: {trained.notes[0]}"]
    (stage,) = logged(caplog, logging.INFO)
    assert stage.startswith("training (clean ") and stage.endswith("): 2 of 2")
    assert trained.notes[0] in str(trained)
    assert len(caplog.records) == 2


def test_measurements_paths_and_alignments_warn_too(caplog: pytest.LogCaptureFixture) -> None:
    model, data = (
        build(lambda: nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))),
        rows(24),
    )
    model.eval()
    suite = mc.Suite({"cue": data, "rand_cue": data})
    log = lambda: logged(caplog, logging.WARNING)  # noqa: E731
    found = mc.measure_invariance(nn.Sequential(model, nn.Softmax(1)), suite)
    assert found.notes and log() == [f"invariance: {note}" for note in found.notes]
    caplog.clear()
    moved = mc.align(model, model, mc.WeightMatching(restarts=1), mc.symmetry_of(model, data[0]))
    assert moved.notes and log() == [f"alignment: {note}" for note in moved.notes]
    caplog.clear()
    path = mc.LinearPath.between(model, model)
    profile = mc.evaluate_path(model, path, suite, ts=2, norm=mc.Reestimate((3 * data[0] + 1, data[1])))
    shifted = profile.shifted_ends()
    assert shifted and log() == [f"path: {end}" for end in shifted]


def test_notes_of_files_are_logged(caplog: pytest.LogCaptureFixture, tmp_path) -> None:
    caplog.set_level(logging.INFO, "mechconn")
    weights = {f"module.{name}": tensor for name, tensor in build(mlp).state_dict().items()}
    save_file(weights, tmp_path / "a.safetensors")
    mc.load_model(build(mlp), tmp_path / "a.safetensors")
    assert any("removed 'module.'" in text for text in logged(caplog, logging.INFO))
    assert torch.is_grad_enabled() and not logged(caplog, logging.WARNING)
