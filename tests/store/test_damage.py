"""What is not as it was written is found by its hash, named, set aside and computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mechconn as mc
from mechconn.paper import RunStore
from mechconn.store import StepOutput
from mechconn.store._step_files import RECORD
from work import made, step
from zoo import build, mlp, rows


def cut(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder: Path) -> None:
    file = folder / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def lose(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def cut_record(folder: Path) -> None:
    (folder / RECORD).write_bytes((folder / RECORD).read_bytes()[:100])


def change_digit(folder: Path) -> None:
    text = (folder / RECORD).read_text(encoding="utf-8")
    assert "0.3333333333333333" in text
    (folder / RECORD).write_text(text.replace("0.3333333333333333", "0.3333333333333334"), encoding="utf-8")


def lose_record(folder: Path) -> None:
    (folder / RECORD).unlink()


def empty_record(folder: Path) -> None:
    (folder / RECORD).write_bytes(b"")


def of_another(folder: Path) -> None:
    other = RunStore(folder.parents[1]).step(step(1), lambda _: made(1)).record.key
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name(other), folder)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a torn file": (cut, "weights.safetensors is cut short or was changed"),
    "a changed bit": (flip, "weights.safetensors is cut short or was changed"),
    "a lost file": (lose, "weights.safetensors: No such file"),
    "a torn record": (cut_record, "record.json is cut short or no JSON"),
    "a changed digit": (change_digit, "record.json was changed after it was written"),
    "a lost record": (lose_record, "record.json: No such file"),
    "an empty record": (empty_record, "record.json is cut short or no JSON"),
    "another step": (of_another, "record.json is that of another step"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_set_aside_and_mended(what: str, tmp_path: Path) -> None:
    damage, expected = DAMAGE[what]
    said: list[str] = []
    store = RunStore(tmp_path, note=said.append)
    whole = store.step(step(), lambda _: made())
    damage(tmp_path / "steps" / step().key)
    assert said == []
    again = store.step(step(), lambda _: made())
    assert again.computed and again.numbers == whole.numbers and again.input == whole.input
    assert len(said) == 1 and step().key[:12] in said[0] and expected in said[0] and "damaged" in said[0]
    assert [place.name for place in (tmp_path / "damaged").iterdir()] == [step().key]
    assert not store.step(step(), lambda _: made()).computed


def test_damage_that_comes_back_is_kept_beside_the_first(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for _ in range(3):
        store.step(step(), lambda _: made())
        cut(tmp_path / "steps" / step().key)
    store.step(step(), lambda _: made())
    key = step().key
    assert sorted(place.name for place in (tmp_path / "damaged").iterdir()) == [key, f"{key}-1", f"{key}-2"]


def test_a_record_of_another_form_is_told_from_a_torn_one(tmp_path: Path) -> None:
    from mechconn.core import hash_values

    said: list[str] = []
    store = RunStore(tmp_path, note=said.append)
    store.step(step(), lambda _: made())
    file = tmp_path / "steps" / step().key / RECORD
    plain = json.loads(file.read_text(encoding="utf-8"))["record"] | {"schema_version": 99}
    file.write_text(json.dumps({"record": plain, "sha256": hash_values(plain)}), encoding="utf-8")
    assert store.step(step(), lambda _: made()).computed
    assert "record.json has another form (1 fields)" in said[0]


def test_a_damaged_run_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    said: list[str] = []
    store = RunStore(tmp_path, note=said.append)
    (tmp_path / "runs" / "fig4-smoke-aa").mkdir(parents=True)
    (tmp_path / "runs" / "fig4-smoke-aa" / RECORD).write_text("{", encoding="utf-8")
    assert store.runs() == []
    assert said == [
        "the record of run fig4-smoke-aa is damaged (record.json is cut short or no JSON); "
        "starting the run again writes it anew"
    ]
    with pytest.raises(ValueError, match="the record of run fig4-smoke-aa is damaged"):
        store.show("fig4")
    assert store.stored("fig4-smoke-aa") is None and store.names() == ["fig4-smoke-aa"]
    assert "it was moved to" in said[-1] and "and is written anew" in said[-1]
    assert (tmp_path / "damaged" / "record-fig4-smoke-aa").read_text(encoding="utf-8") == "{"
    assert store.stored("fig4-smoke-aa") is None and len(said) == 2
    assert store.remove("fig4-smoke-aa") == 0 and store.names() == []


def test_a_run_whose_record_is_lost_can_be_removed_with_its_steps(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.of("run-a").step(step(), lambda _: made())
    assert store.runs() == [] and store.names() == ["run-a"]
    assert store.remove("run-a") == 1 and not list(tmp_path.glob("steps/*"))


# ---------------------------------------------------------------- checkpoints of steps at work


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flipped(file: Path) -> None:
    """One bit of the last tensor; the file can be read as before."""
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(bytes(data))


def renumbered(file: Path) -> None:
    """One digit of the history."""
    data = file.read_bytes()
    at = data.index(b'\\"clean\\": ') + len(b'\\"clean\\": 0.')
    digit = b"1" if data[at : at + 1] != b"1" else b"2"
    file.write_bytes(data[:at] + digit + data[at + 1 :])


def of_another_run(file: Path) -> None:
    file.unlink()
    trained(file.parent, seed=7)


class StoppedError(Exception):
    """The machine went away."""


def trained(folder: Path, seed: int = 1, stop: bool = False) -> StepOutput:
    """A training with a checkpoint after every step, which may stop after its second epoch."""

    def told(event: mc.ProgressEvent) -> None:
        if stop and event.done == 2:
            raise StoppedError

    place = mc.Checkpoint(folder / "run.safetensors", every=1)
    method = mc.NaiveFineTuning(epochs=3, batch_size=8, lr=0.5)
    found = mc.fine_tune(build(mlp), method, clean=rows(24), checkpoint=place, seed=seed, progress=told)
    return StepOutput({"history": found.history}, {"weights": found.model.state_dict()})


CHECKPOINTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn": (torn, "cannot be read as safetensors"),
    "a changed bit": (flipped, "was changed after it was written"),
    "a changed digit": (renumbered, "was changed after it was written"),
    "another run's": (of_another_run, "was written by another run"),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_set_aside_and_the_step_starts_afresh(what: str, tmp_path: Path) -> None:
    damage, expected = CHECKPOINTS[what]
    said: list[str] = []
    whole = RunStore(tmp_path / "whole").step(step(), trained)
    store = RunStore(tmp_path / "store", note=said.append)
    with pytest.raises(StoppedError):
        store.step(step(), lambda folder: trained(folder, stop=True))
    damage(store.root / "unfinished" / step().key / "run.safetensors")
    mended = store.step(step(), trained)
    assert mended.computed and mended.input == whole.input and mended.numbers == whole.numbers
    assert len(said) == 1 and step().key[:12] in said[0] and expected in said[0]
    assert [place.name for place in (store.root / "damaged").iterdir()] == [f"unfinished-{step().key}"]
    assert not list(store.root.glob("unfinished/*"))
