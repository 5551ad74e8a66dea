"""Checkpoints: a run stopped at any moment ends bit for bit as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.descent import Method
from operations import METHODS
from stopping import CLEAN, CUED, Counting, StoppedError, as_is, check_same, run
from zoo import build, dropout_mlp, mlp, rows


def loader(data: tuple[Tensor, Tensor]) -> Any:
    """It shuffles by the global generator."""
    return DataLoader(TensorDataset(*data), batch_size=8, shuffle=True)


def own_order(data: tuple[Tensor, Tensor]) -> Any:
    """It shuffles by a generator of its own, which moves on from epoch to epoch."""
    return DataLoader(TensorDataset(*data), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))


def interrupted(file: Path, every: int, method: Method, form: Callable[[Any], Any], **settings: Any) -> mc.Trained:
    """StoppedError after two losses, after four, and so on until it is done: a start for every two losses at least."""
    last = 2
    while True:
        loss = Counting(last)
        try:
            return run(method, form, loss=loss, checkpoint=mc.Checkpoint(file, every=every), **settings)
        except StoppedError:
            last += 2


@pytest.mark.parametrize(("form", "every"), [(as_is, 1), (loader, 2), (own_order, 1)])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_stopped_again_and_again_ends_with_the_same_bits(
    name: str, form: Callable[[Any], Any], every: int, tmp_path: Path
) -> None:
    whole = run(METHODS[name], form)
    check_same(interrupted(tmp_path / "run.safetensors", every, METHODS[name], form), whole)


def test_so_does_one_with_a_choice_of_epochs_and_accumulated_clipped_gradients(tmp_path: Path) -> None:
    method = mc.CBFT(epochs=4, batch_size=4, accumulate=3, clip_norm=0.5)
    settings = {"validation": rows(12, 7), "transform": lambda x: x + 0.1 * torch.randn_like(x)}
    whole = run(method, **settings)
    check_same(interrupted(tmp_path / "run.safetensors", 1, method, as_is, **settings), whole)
    assert whole.settings["selected_epoch"] == min(range(4), key=lambda n: whole.history[n]["validation"])


def test_a_checkpoint_is_no_part_of_the_result(tmp_path: Path) -> None:
    method = mc.CBFT(epochs=2, batch_size=8)
    check_same(run(method, checkpoint=mc.Checkpoint(tmp_path / "run.safetensors", every=1)), run(method))


def test_a_run_that_is_done_is_read_and_not_repeated(tmp_path: Path) -> None:
    place, loss = mc.Checkpoint(tmp_path / "run.safetensors"), Counting()
    first = run(mc.CBFT(epochs=2, batch_size=8), loss=loss, checkpoint=place)
    calls = loss.calls
    check_same(run(mc.CBFT(epochs=2, batch_size=8), loss=loss, checkpoint=place), first)
    assert calls > 0 and loss.calls == calls


def test_training_goes_on_too(tmp_path: Path) -> None:
    model, method = build(dropout_mlp), mc.Training(epochs=3, batch_size=8, milestones=(1,))
    place = mc.Checkpoint(tmp_path / "run.safetensors", every=2)
    with pytest.raises(StoppedError):
        mc.train(model, CLEAN, method, loss=Counting(6), checkpoint=place)
    check_same(mc.train(model, CLEAN, method, checkpoint=place), mc.train(model, CLEAN, method))


# ---------------------------------------------------------------- what is refused, and what stays


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"method": mc.CBFT(epochs=3, batch_size=8)},
        {"method": mc.NaiveFineTuning(epochs=2, batch_size=8)},
        {"model": build(mlp, 1)},
        {"clean": (CLEAN[0], CLEAN[1].flip(0))},
        {"clean": (2 * CLEAN[0], CLEAN[1])},
        {"validation": rows(8, 5)},
        {"transform": torch.neg},
        {"cued": rows(28, 4)},
        {"references": {"cued": build(mlp, 2)}, "cued": {"cued": CUED}},
    ],
)
def test_the_checkpoint_of_another_run_is_refused_and_stays(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    arguments: dict[str, Any] = {
        "model": build(mlp), "method": mc.CBFT(epochs=2, batch_size=8), "clean": CLEAN, "cued": CUED,
        "checkpoint": mc.Checkpoint(file),
    }  # fmt: skip
    mc.fine_tune(**arguments)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"run\.safetensors was written by another run"):
        mc.fine_tune(**{**arguments, **changes})
    assert file.read_bytes() == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    run(mc.CBFT(epochs=2, batch_size=8), checkpoint=mc.Checkpoint(file))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"run\.safetensors cannot be read as safetensors"):
        run(mc.CBFT(epochs=2, batch_size=8), checkpoint=mc.Checkpoint(file))


def test_a_changed_bit_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    run(mc.CBFT(epochs=2, batch_size=8), checkpoint=mc.Checkpoint(file))
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"run\.safetensors was changed after it was written; delete it"):
        run(mc.CBFT(epochs=2, batch_size=8), checkpoint=mc.Checkpoint(file))


def test_one_that_cannot_be_written_whole_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, method = tmp_path / "run.safetensors", mc.CBFT(epochs=2, batch_size=8)
    with pytest.raises(StoppedError):
        run(method, loss=Counting(9), checkpoint=mc.Checkpoint(file, every=1))
    before = file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(method, checkpoint=mc.Checkpoint(file, every=1))
    assert [file.name] == [entry.name for entry in tmp_path.iterdir()]
    assert file.read_bytes() == before
    check_same(run(method, checkpoint=mc.Checkpoint(file, every=1)), run(method))


def test_groups_and_validation_data_are_part_of_a_run(tmp_path: Path) -> None:
    place, method = mc.Checkpoint(tmp_path / "run.safetensors"), mc.GroupDRO(epochs=1, batch_size=8)
    given: dict[str, Any] = {"groups": [0, 1] * 12, "validation": rows(8, 5), "checkpoint": place}
    run(method, **given)
    for other in ({"groups": [0, 0, 1, 1] * 6}, {"validation": rows(8, 6)}):
        with pytest.raises(ValueError, match="was written by another run"):
            run(method, **{**given, **other})


def test_its_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every must be a whole number greater than zero, got 0"):
        mc.Checkpoint(tmp_path / "run.safetensors", every=0)
    with pytest.raises(FileNotFoundError, match="its folder does not exist; make it first"):
        mc.Checkpoint(tmp_path / "nowhere" / "run.safetensors")


# ---------------------------------------------------------------- kill -9

CHILD = """
import os, signal, sys
import torch
from torch.nn.functional import cross_entropy
import mechconn as mc
from operations import METHODS
from stopping import CLEAN, CUED, Counting, StoppedError, as_is, check_same, run
from world import Delicate
from zoo import build, rows

calls = 0
def loss(outputs, targets):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return cross_entropy(outputs, targets, reduction="none")

place = mc.Checkpoint(sys.argv[1], every=1)
mc.fine_tune(build(Delicate), METHODS["LPFT"], clean=rows(24), cued=rows(28, 3), seed=2, loss=loss, checkpoint=place)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Killed in the first part of the method, then in the second."""
    file = tmp_path / "run.safetensors"
    for last in (4, 8):
        command = [sys.executable, "-c", CHILD, str(file), str(last)]
        environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    loss = Counting()
    check_same(run(METHODS["LPFT"], loss=loss, checkpoint=mc.Checkpoint(file, every=1)), run(METHODS["LPFT"]))
    assert 0 < loss.calls < 12


def test_a_run_that_froze_other_weights_is_another(tmp_path: Path) -> None:
    file, method, model = mc.Checkpoint(tmp_path / "run.safetensors"), mc.NaiveFineTuning(epochs=2), build(mlp)
    mc.fine_tune(model, method, clean=CLEAN, checkpoint=file)
    model.get_submodule("2").requires_grad_(False)
    with pytest.raises(ValueError, match="was written by another run"):
        mc.fine_tune(model, method, clean=CLEAN, checkpoint=file)


def test_what_a_killed_process_half_wrote_is_removed(tmp_path: Path) -> None:
    file, method = tmp_path / "run.safetensors", mc.NaiveFineTuning(epochs=2)
    others = [tmp_path / name for name in (".run.safetensors.0123abcd", ".run.safetensors.mine", ".x.0123abcd")]
    for other in others:
        other.write_bytes(b"half")
    mc.fine_tune(build(mlp), method, clean=CLEAN, checkpoint=mc.Checkpoint(file))
    assert sorted(tmp_path.iterdir()) == sorted([file, *others[1:]])


class Expanded(nn.Module):
    """A buffer whose elements share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("shift", torch.zeros(1, dtype=torch.float64).expand(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shift


def test_expanded_buffers_are_chosen_and_read_back(tmp_path: Path) -> None:
    method = mc.NaiveFineTuning(epochs=3, batch_size=8)
    settings: dict[str, Any] = {"validation": rows(12, 7)}
    whole = run(method, model=build(Expanded), **settings)
    check_same(interrupted(tmp_path / "run.safetensors", 1, method, as_is, model=build(Expanded), **settings), whole)
