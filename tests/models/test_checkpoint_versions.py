"""States of older versions: modules convert them by rules of their own, as torch lets them."""

from __future__ import annotations

import argparse
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import mechconn as mc
from zoo import build


class Renamed(nn.Module):
    """Version 1 called the layer `old`, and kept half of its weights."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Linear(2, 2)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Any, prefix: str, versions: Any, *rest: Any
    ) -> None:
        if versions.get("version", 1) < 2:
            for name in ("weight", "bias"):
                if f"{prefix}old.{name}" in state:
                    state[f"{prefix}new.{name}"] = 2 * state.pop(f"{prefix}old.{name}")
        super()._load_from_state_dict(state, prefix, versions, *rest)


def version_1(prefix: str = "") -> OrderedDict[str, Tensor]:
    state = OrderedDict({f"{prefix}old.weight": torch.eye(2), f"{prefix}old.bias": torch.ones(2)})
    versions = OrderedDict({"": {"version": 1}, prefix.removesuffix("."): {"version": 1}})
    vars(state)["_metadata"] = versions
    return state


@pytest.mark.parametrize("prefix", ["", "net.", "model.net."])
@pytest.mark.parametrize("new", [True, False])
def test_a_state_of_an_older_version_is_converted_by_the_model(tmp_path: Path, prefix: str, new: bool) -> None:
    torch.save({"state_dict": version_1(prefix)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    notes: list[str] = []
    loaded = mc.load_model(Renamed, tmp_path / "a.pt", note=notes.append)
    assert all(torch.equal(t, 2 * version_1()[n.replace("new", "old")]) for n, t in loaded.state_dict().items())
    assert (
        notes[0]
        == f"the names or shapes in {tmp_path / 'a.pt'} were converted by the model's own _load_from_state_dict"
    )
    assert len(notes) == 1 + bool(prefix)


def test_a_state_of_the_present_version_is_not(tmp_path: Path) -> None:
    state = OrderedDict({"new.weight": torch.eye(2), "new.bias": torch.ones(2)})
    vars(state)["_metadata"] = OrderedDict({"": {"version": 2}})
    torch.save(state, tmp_path / "a.pt")
    assert torch.equal(mc.load_model(Renamed, tmp_path / "a.pt").state_dict()["new.weight"], torch.eye(2))


def test_what_the_rule_cannot_convert_is_refused(tmp_path: Path) -> None:
    torch.save(OrderedDict({**version_1(), "older.weight": torch.ones(1)}), tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"missing 2 \(new.weight, new.bias\); unexpected 3 \(old.weight, old.bias, old"
    ):
        mc.load_model(Renamed, tmp_path / "a.pt")


def test_a_rule_does_not_hide_another_type(tmp_path: Path) -> None:
    state = {"new.weight": torch.ones(2, 2, dtype=torch.int64), "new.bias": torch.ones(2)}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"do not fit the model: new.weight int64\[2, 2\] against float32\[2, 2\]"):
        mc.load_model(Renamed, tmp_path / "a.pt")


class Widened(nn.Module):
    """As torchvision's MNASNet: a state of version 1, or of none, gives the stem the width it had then, and warns."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 4)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Any, prefix: str, versions: Any, *rest: Any
    ) -> None:
        if versions.get("version") in (None, 1):
            self.stem = nn.Linear(2, 8)
            self._version = 1
            warnings.warn("a new version of the model was implemented", UserWarning, stacklevel=2)
        super()._load_from_state_dict(state, prefix, versions, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, 4 or 8] of [N, 2]."""
        return self.stem(x)


def first_version() -> Widened:
    model = Widened()
    model.stem, model._version = nn.Linear(2, 8), 1
    return model


def test_versions_decide_which_layers_a_state_is_for(tmp_path: Path) -> None:
    """Safetensors and copied dictionaries keep no versions: there the shapes decide."""
    old, new = build(first_version, dtype=torch.float32), build(Widened, dtype=torch.float32)
    torch.save(old.state_dict(), tmp_path / "1.pt")
    torch.save(dict(old.state_dict()), tmp_path / "1_copied.pt")
    torch.save(new.state_dict(), tmp_path / "2.pt")
    torch.save(dict(new.state_dict()), tmp_path / "2_copied.pt")
    save_file(new.state_dict(), tmp_path / "2.safetensors")
    for file in sorted(tmp_path.iterdir()):
        notes: list[str] = []
        loaded, saved = mc.load_model(Widened, file, note=notes.append), old if file.name[0] == "1" else new
        assert torch.equal(loaded.state_dict()["stem.weight"], saved.state_dict()["stem.weight"]), file.name
        assert ("a new version of the model was implemented" in notes) == (file.name[0] == "1")


def old_weight_norm(layer: nn.Linear) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return nn.utils.weight_norm(layer)


def test_both_spellings_of_weight_normalisation_are_one(tmp_path: Path) -> None:
    """As torch converts the older names to the newer, also the other way round and behind a prefix."""
    x, spellings = torch.ones(1, 3), {"old": old_weight_norm, "new": weight_norm}
    for saved, save in spellings.items():
        model = build(lambda save=save: nn.Sequential(save(nn.Linear(3, 2)), nn.Linear(2, 2)), dtype=torch.float32)
        torch.save({"state_dict": {f"net.{n}": t for n, t in model.state_dict().items()}}, tmp_path / f"{saved}.pt")
        for other in spellings.values():
            loaded = mc.load_model(lambda other=other: nn.Sequential(other(nn.Linear(3, 2)), nn.Linear(2, 2)),
                                   tmp_path / f"{saved}.pt")  # fmt: skip
            # The two compute the norm by different kernels.
            torch.testing.assert_close(loaded(x), model(x), rtol=1e-6, atol=1e-6)


class Keeping(nn.Module):
    """A module that saves a number beside its tensors, and computes with it."""

    def __init__(self, factor: Any = 1) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(2, 2), factor

    def get_extra_state(self) -> Any:
        return {"factor": self.factor}

    def set_extra_state(self, state: Any) -> None:
        self.factor = state["factor"]


def test_what_modules_keep_beside_tensors(tmp_path: Path) -> None:
    """Plain values are handed to the module; objects are left out, and files without them are told of."""
    saved = build(lambda: Keeping(3), dtype=torch.float32)
    torch.save({f"net.{name}": value for name, value in saved.state_dict().items()}, tmp_path / "a.pt")
    assert mc.load_model(Keeping, tmp_path / "a.pt").factor == 3
    tensors = {name: t for name, t in saved.state_dict().items() if isinstance(t, Tensor)}
    save_file(tensors, tmp_path / "b.safetensors")
    torch.save({**tensors, "_extra_state": {"factor": argparse.Namespace(value=3)}}, tmp_path / "c.pt")
    for name, expected in {
        "b.safetensors": ["{} lacks _extra_state; what these modules keep beside tensors stays as it is"],
        "c.pt": ["left out of {}: _extra_state (dict)", "{} lacks _extra_state; what these modules keep beside "],
    }.items():
        notes: list[str] = []
        assert mc.load_model(Keeping, tmp_path / name, note=notes.append).factor == 1
        assert len(notes) == len(expected)
        for note, text in zip(notes, expected, strict=True):
            assert note.startswith(text.format(tmp_path / name)), notes
