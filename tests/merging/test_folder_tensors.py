"""Merged folders of unlike number types, tied tensors and bases; methods that return no tensor; where they are put."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from merge_files import make_tensors, write_berts, write_parents, write_weights


def write(folder: Path, **states: dict[str, Tensor]) -> dict[str, Path]:
    """Name -> file; every tensor has memory of its own."""
    own = {name: {key: tensor.clone() for key, tensor in state.items()} for name, state in states.items()}
    return {name: write_weights(folder / f"{name}.safetensors", state) for name, state in own.items()}


def read(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_unlike_types_are_merged_in_the_wider_one_and_rounded_once(tmp_path: Path) -> None:
    half, full = torch.tensor([1.0, 0.0]).half(), torch.tensor([1e5, 1e-8])
    paths = write(tmp_path, a={"w": half}, b={"w": full})
    mc.merge_folders(paths, mc.Mean(), tmp_path / "mean")
    got = read(tmp_path / "mean")["w"]
    assert got.dtype == torch.float16 and got[0] == torch.tensor(50000.5).half()
    # A base of a wider type keeps its digits: the changes are those of the files.
    base = torch.tensor([1.0001, 2.0001])
    paths = write(tmp_path, a={"w": torch.tensor([1.0, 2.0]).half()}, b={"w": torch.tensor([1.0, 2.0]).half()})
    file = write_weights(tmp_path / "base.safetensors", {"w": base})
    mc.merge_folders(paths, mc.TaskArithmetic(scale=-1000.0), tmp_path / "far", base=file)
    exact = base + 2 * 1000.0 * (base - torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(read(tmp_path / "far")["w"], exact.half())


def test_a_value_that_the_first_type_does_not_hold_is_told(tmp_path: Path) -> None:
    paths = write(tmp_path, a={"w": torch.ones(2).half()}, b={"w": torch.full((2,), 1e6)})
    with pytest.raises(ValueError, match=r"^w is up to 5e\+05 in the merged network, more than float16 of a holds"):
        mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    mc.merge_folders(dict(reversed(paths.items())), mc.Mean(), tmp_path / "merged")  # as it advises
    assert read(tmp_path / "merged")["w"].tolist() == [500000.5] * 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_far_base_is_noted_in_every_type_as_in_a_merge_of_networks(tmp_path: Path, kind: torch.dtype) -> None:
    models = {}
    for name, value in {"a": 1e-4, "b": 1.2e-4, "base": 0.0}.items():
        with isolate_rng(0, name):
            models[name] = nn.Linear(30, 2, bias=False, dtype=kind).requires_grad_(False)
        models[name].weight.fill_(value)
    paths = write(tmp_path, **{name: model.state_dict() for name, model in models.items()})
    base = paths.pop("base")
    notes = mc.merge_folders(paths, mc.TaskArithmetic(), tmp_path / "merged", base=base).notes
    assert len(notes) == 2 and all("farther from the base" in note for note in notes)
    rows = torch.ones(4, 30, dtype=kind)
    suite = mc.Suite({"rows": (rows, torch.tensor([0, 1, 0, 1]))}, reference="rows")
    own = models.pop("base")
    assert mc.merge(models, mc.TaskArithmetic(), suite, base=own).notes[:2] == notes


def test_a_parent_that_is_the_base_is_noted(tmp_path: Path) -> None:
    base = make_tensors(0)
    near = {name: tensor + 0.1 for name, tensor in base.items()}
    paths = write(tmp_path, a=base, b=near)
    found = mc.merge_folders(paths, mc.TIES(), tmp_path / "merged", base=paths["a"])
    assert found.notes == ("'a' is the base itself, parameter by parameter, and changed nothing of it",)


def test_tensors_that_are_equal_by_chance_are_not_left_out(tmp_path: Path) -> None:
    zeros, drawn = torch.zeros(3), torch.arange(3.0)
    for extra in (
        {"head.bias": zeros},  # as l.bias, at its start
        {"x.w": drawn, "y.w": drawn},  # neither is in the other one
    ):
        paths = write(tmp_path, a={"l.bias": zeros, **extra}, b={"l.bias": zeros + 1})
        with pytest.raises(ValueError, match="has other tensors than a: missing"):
            mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    paths = write(tmp_path, a={"l.w": drawn, "head.w": drawn}, b={"l.w": drawn + 1})
    (note,) = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged").notes
    assert note == "head.w of a equals its l.w; it is stored once, as in the others"
    torch.save({"l.bias": zeros, "head.bias": zeros}, tmp_path / "a.pt")  # one place in the file: tied
    torch.save({"l.bias": zeros + 1}, tmp_path / "b.pt")
    (note,) = mc.merge_folders({n: tmp_path / f"{n}.pt" for n in "ab"}, mc.Mean(), tmp_path / "tied").notes
    assert note == "head.bias of a equals its l.bias; it is stored once, as in the others"


def test_integers_of_every_type_are_copied(tmp_path: Path) -> None:
    kinds = (torch.uint16, torch.uint32, torch.uint64)
    state = {str(kind): torch.arange(4).to(kind) for kind in kinds}
    for name in "ab":
        torch.save({"w": torch.ones(2), **state}, tmp_path / f"{name}.pt")
    mc.merge_folders({name: tmp_path / f"{name}.pt" for name in "ab"}, mc.Mean(), tmp_path / "merged")
    got = read(tmp_path / "merged")
    assert all(torch.equal(got[name], tensor) for name, tensor in state.items())


def test_a_type_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for name in "ab":
        torch.save({"w": torch.ones(2).to(torch.float8_e5m2), "v": torch.ones(1)}, tmp_path / f"{name}.pt")
    with pytest.raises(ValueError) as caught:
        mc.merge_folders({name: tmp_path / f"{name}.pt" for name in "ab"}, mc.Mean(), tmp_path / "merged")
    (line,) = str(caught.value).splitlines()
    assert "holds tensors of types that cannot be merged: w float8_e5m2[2]; save them as one of float64" in line


class Wrong(mc.TensorMerge):
    """Returns what it is told to."""

    def __init__(self, found: Any, ready: Any = "self") -> None:
        self.found, self.ready = found, ready

    def prepare(self, tensors):
        return self if self.ready == "self" else self.ready

    def merge_tensor(self, name, parents, base, seed):
        return self.found

    def describe(self):
        return {"method": "wrong"}


class WrongWhole(mc.MergeMethod):
    def __init__(self, found: Any) -> None:
        self.found = found

    def merge(self, problem):
        return self.found

    def describe(self):
        return {"method": "wrong"}


RETURNED = {
    "a list": (
        Wrong([1.0]),
        r"^what Wrong.merge_tensor returns for \S+ must be a Tensor, got list; return a",
    ),
    "no tensor": (Wrong(None), r"^what Wrong.merge_tensor returns for \S+ must be a Tensor, got NoneType; return"),
    "nothing prepared": (
        Wrong(1, None),
        r"^what Wrong.prepare returns must be a TensorMerge, got NoneType; return",
    ),
    "nothing": (WrongWhole(None), r"^what WrongWhole.merge returns must be a Mapping, got NoneType; return \{name of"),
    "lists": (
        WrongWhole({"weight": [1.0], "bias": [1.0]}),
        r"^what WrongWhole.merge returns for weight must be a Tensor, got list; return \{name of the",
    ),
}


@pytest.mark.parametrize("case", RETURNED)
def test_what_a_method_of_ones_own_returns_is_told_with_its_name(tmp_path: Path, case: str) -> None:
    method, line = RETURNED[case]
    x = torch.linspace(-1, 1, 20)[:, None]
    suite = mc.Suite({"rows": (x, (x[:, 0] > 0).long())}, reference="rows")
    with isolate_rng(0, "networks"):
        models = {name: nn.Linear(1, 2) for name in "ab"}
    with pytest.raises(TypeError, match=line):
        mc.merge(models, method, suite)
    if isinstance(method, mc.TensorMerge):
        with pytest.raises(TypeError, match=line):
            mc.merge_folders(write_parents(tmp_path), method, tmp_path / "merged")
        assert not (tmp_path / "merged").exists()


def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path: Path) -> None:
    paths = write_parents(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="link is a link; name the folder that it leads to, or a new one"):
        mc.merge_folders(paths, mc.Mean(), tmp_path / "link")
    with pytest.raises(ValueError, match=r"no/where cannot be written: \S+/no is no folder; make it first, or name"):
        mc.merge_folders(paths, mc.Mean(), tmp_path / "no" / "where")


def test_what_a_killed_run_left_is_noted_and_stays(tmp_path: Path) -> None:
    paths, left = write_parents(tmp_path), tmp_path / ".merged.0123abcd"
    for other in (left, tmp_path / ".merged.mine", tmp_path / ".other.0123abcd"):
        other.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    (note,) = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged").notes
    assert note == f"{left} is left of a run that was stopped; remove it, unless another is writing it"
    assert (left / "model.safetensors").read_bytes() == b"half"


def test_the_configuration_names_the_type_of_the_weights(tmp_path: Path) -> None:
    paths = write_berts(tmp_path)
    file = paths["a"] / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    mc.merge_folders(paths, mc.Mean(), tmp_path / "merged", files_from="b")
    told = json.loads((tmp_path / "merged" / "config.json").read_text(encoding="utf-8"))
    assert told.get("dtype", told.get("torch_dtype")) == "bfloat16"
