"""Files of weights are told by their content: every name will do, and what holds no weights is called by its name."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

import mechconn as mc
from checkpoint_files import fresh, network, same
from zoo import build

NAMES = ("a.ckpt", "a.pth.tar", "pytorch_model.bin", "a.pt", "a.safetensors", "weights")


def zipped() -> bytes:
    torch.save(network().state_dict(), file := io.BytesIO())
    return file.getvalue()


def before_1_6() -> bytes:
    torch.save(network().state_dict(), file := io.BytesIO(), _use_new_zipfile_serialization=False)
    return file.getvalue()


def protocol_5() -> bytes:
    torch.save(network().state_dict(), file := io.BytesIO(), pickle_protocol=5)
    return file.getvalue()


def safetensors() -> bytes:
    return save({name: t.contiguous() for name, t in network().state_dict().items()})


KINDS = (zipped, before_1_6, protocol_5, safetensors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_content_tells_the_kind(tmp_path: Path, name: str, kind: Callable[[], bytes]) -> None:
    (tmp_path / name).write_bytes(kind())
    assert same(mc.load_model(fresh, tmp_path / name), network())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short_is_one_line(tmp_path: Path, kind: Callable[[], bytes]) -> None:
    whole, file = kind(), tmp_path / "a.pt"
    for length in (16, 64, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.pt cannot be read as .* damaged") as caught:
            mc.load_model(fresh, file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [zipped, before_1_6, protocol_5])
def test_damage_anywhere_is_one_line_or_other_values(tmp_path: Path, kind: Callable[[], bytes]) -> None:
    """No byte of a file may lead to another error than a ValueError of one line."""
    whole, file = kind(), tmp_path / "a.pt"
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            assert mc.load_model(fresh, file).state_dict().keys() == network().state_dict().keys()
        except ValueError as error:
            assert "\n" not in str(error)


def test_views_strides_and_shared_memory_come_back(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32)
    weight, bias = whole[2:14].view(3, 4).t()[:, :2], whole[1::8]
    for new in (True, False):
        torch.save({"weight": weight.t(), "bias": bias[:2]}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        loaded = mc.load_model(lambda: nn.Linear(4, 2), tmp_path / "a.pt")
        assert torch.equal(loaded.state_dict()["weight"], weight.t())
        assert torch.equal(loaded.state_dict()["bias"], bias[:2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_floating_point_type_is_read_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    halves = build(lambda: nn.Linear(3, 2), dtype=dtype)
    torch.save(halves.state_dict(), tmp_path / "a.pt")
    assert same(mc.load_model(lambda: nn.Linear(3, 2).to(dtype), tmp_path / "a.pt"), halves)


READABLE = "weights are read from files of torch.save or safetensors, the index of their shards, or the folder they"
OTHERS: dict[str, tuple[bytes, str]] = {
    "lfs.bin": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "is a pointer of git-lfs, not the weights themselves; fetch them with `git lfs pull`",
    ),
    "page.pt": (b"\n<!DOCTYPE html>\n<html>", "is a web page, perhaps the error page of a download that failed; fetch"),
    "text.pt": (b"no weights\nat all", f"is a text that begins 'no weights'; {READABLE}"),
    "empty.pt": (b"", "is empty; copy or save it again"),
    "a.tar.gz": (b"\x1f\x8b\x08rest", "is compressed by gzip; unpack it and pass what is in it"),
    "a.tar": (b"\0" * 257 + b"ustar" + b"\0" * 250, "is a tar archive; unpack it and pass what is in it"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "is HDF5, as Keras saves; load it there"),
    "a.gguf": (b"GGUF\x03\0\0\0", "is GGUF, whose weights are quantised for llama.cpp; pass the model"),
    "config.json": (b'{"a": 1}', "is JSON without a weight_map, so no index of shards"),
    "a.pkl": (b"\x80\x04K\x01.", "is a pickle that torch.save did not write, which is not read"),
    "noise.pt": (b"\xff\xfe\xfd\xfc", "is of no kind that is known here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_holds_no_weights_is_called_by_its_name(tmp_path: Path, name: str) -> None:
    content, text = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        mc.load_model(fresh, tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name} {text}") and "\n" not in str(caught.value)


def test_other_zip_files(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(network()), tmp_path / "jit.pt")
    np.savez(tmp_path / "a.npz", weight=np.ones(2))
    for name, text in {"jit.pt": "is a program of TorchScript", "a.npz": "is an .npz of NumPy"}.items():
        with pytest.raises(ValueError, match=text):
            mc.load_model(fresh, tmp_path / name)


def test_a_file_that_is_not_there_is_told_before_the_factory(tmp_path: Path) -> None:
    for factory in ("no_such_package:build", "nonsense", fresh):
        with pytest.raises(FileNotFoundError) as caught:
            mc.load_model(factory, tmp_path / "none.pt")
        assert str(caught.value) == (
            f"weights: {tmp_path / 'none.pt'} is no file; pass a file of weights, or the folder they are in"
        )


# ---------------------------------------------------------------- nothing in a file is run


class Acts:
    """What unpickling calls a function for."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("new", [True, False])
def test_a_file_that_would_act_is_refused_and_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], new: bool
) -> None:
    acts = {
        "builtins.print": Acts(print, "this ran"),
        f"{os.name}.system": Acts(os.system, f"touch {tmp_path / 'ran'}"),
        "builtins.eval": Acts(eval, "print('this ran')"),
    }
    for name, act in acts.items():
        torch.save(
            {"state_dict": network().state_dict(), "more": [act]}, tmp_path / "a.pt", _use_new_zipfile_serialization=new
        )
        with pytest.raises(ValueError) as caught:
            mc.load_model(fresh, tmp_path / "a.pt")
        assert str(caught.value) == (
            f"{tmp_path / 'a.pt'} is not read: unpickling it would call {name}, which runs code; nothing was run; load "
            "it where it was made and save model.state_dict() alone, best as .safetensors"
        )
    assert not (tmp_path / "ran").exists() and capsys.readouterr().out == ""


def make_repeating(count: int, empty: bytes = b")", join: bytes = b"\x86") -> bytes:
    """A tuple of two, each of which is one tuple of two, and so on: 2^count values in a few bytes."""
    return empty + b"".join(b"q%c0h%ch%c" % (n, n, n) + join for n in range(count))


HUGE: dict[str, bytes] = {
    "a key": b"}" + make_repeating(60) + b"K\x01s",
    "a key of an unknown class": b"}cmade.up\nClass\n" + make_repeating(60) + b"\x85RK\x01s",
    "a deep key": b"})" + b"\x85" * 300_000 + b"K\x01s",
    "an encoded text": b"c_codecs\nencode\n" + make_repeating(60) + b"\x85R",
    "what a module keeps": b"}(X\x01\x00\x00\x00wcmade.up\nTensor\n)RX\x0c\x00\x00\x00_extra_state"
    + make_repeating(60) + b"u",
    "a name": make_repeating(60) * 2 + b"\x93",
    "the key of a storage": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + make_repeating(60) + b"K\x00K\x01tQ",
    "itself": b"ctorch._tensor\n_rebuild_from_type_v2\n]q\x00(h\x00h\x00h\x00e0h\x00R",
    "copies": b"}(" + b"".join(b"M%c%cN" % (n % 256, n // 256) for n in range(9999)) + b"uq\x00"
    + b"ccollections\nOrderedDict\nh\x00\x85R0" * 9999,
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_few_bytes_that_stand_for_very_much_take_no_time(tmp_path: Path, name: str) -> None:
    """Hashing, printing or copying these values would end in no time that matters, or with the process."""
    file = tmp_path / "a.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + HUGE[name] + b".")
    with pytest.raises(
        ValueError, match=r"a\.pt (cannot be read|holds (no state_dict|tensors that))|a\.pt and those of the model"
    ) as caught:
        mc.load_model(fresh, file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_length_that_no_file_has_is_one_line(tmp_path: Path) -> None:
    content, file = zipped(), tmp_path / "a.pt"
    at = content.index(b"PK\x01\x02") + 20  # sizes in the directory of the first part, data.pkl
    file.write_bytes(content[:at] + b"\xf0\xff\xff\x7f" * 2 + content[at + 8 :])
    with pytest.raises(ValueError, match=r"it ends before its data do\); it is damaged"):
        mc.load_model(fresh, file)


def test_plain_objects_are_no_danger(tmp_path: Path) -> None:
    plain = {"range": range(3), "error": ValueError("x"), "iterator": iter([1]), ("a", frozenset({1})): {1}}
    for new in (True, False):
        torch.save(
            {"model": network().state_dict(), "run": plain}, tmp_path / "a.pt", _use_new_zipfile_serialization=new
        )
        assert same(mc.load_model(fresh, tmp_path / "a.pt"), network())


MADE: list[str] = []


class Counting:
    """An object of a script, whose making leaves a trace."""

    def __new__(cls) -> Counting:
        MADE.append("made")
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        MADE.append("filled")


def test_objects_of_scripts_are_left_out_and_not_made(tmp_path: Path) -> None:
    mine = Counting()
    mine.__dict__["tensor"] = torch.ones(1)
    torch.save({"state_dict": network().state_dict(), "run": {"config": mine}}, tmp_path / "a.pt")
    MADE.clear()
    notes: list[str] = []
    assert same(mc.load_model(fresh, tmp_path / "a.pt", note=notes.append), network())
    name = f"{Counting.__module__}.Counting"
    assert notes == [f"left out of {tmp_path / 'a.pt'}: run.config ({name})"]
    assert MADE == []


@pytest.mark.parametrize("new", [True, False])
def test_whole_modules_are_refused_by_their_class(tmp_path: Path, new: bool) -> None:
    file = tmp_path / "a.pt"
    for content, found in {
        "itself": "found: a pickled module, torch.nn.modules.container.Sequential",
        "entry": "found: 'epoch' (int), 'model' (pickled module, torch.nn.modules.container.Sequential)",
    }.items():
        saved = network() if content == "itself" else {"epoch": 3, "model": network()}
        torch.save(saved, file, _use_new_zipfile_serialization=new)
        with pytest.raises(ValueError) as caught:
            mc.load_model(fresh, file)
        assert str(caught.value) == (
            f"{file} holds no state_dict, tensors by name ({found}); a pickled module needs its own code to be read, "
            "which is not run; load it where it was made and save model.state_dict()"
        )


def test_the_advice_to_save_the_state_is_good(tmp_path: Path) -> None:
    torch.save({"model": network()}, tmp_path / "a.pt")
    trusted = network()
    torch.save(trusted.state_dict(), tmp_path / "b.pt")
    assert same(mc.load_model(fresh, tmp_path / "b.pt"), network())


def test_no_state_at_all(tmp_path: Path) -> None:
    for content, found in {"{'a': 1}": "'a' (int)", "1": "a int", "[]": "a list"}.items():
        torch.save({"{'a': 1}": {"a": 1}, "1": 1, "[]": []}[content], tmp_path / "a.pt")
        with pytest.raises(ValueError, match="holds no state_dict, tensors by name") as caught:
            mc.load_model(fresh, tmp_path / "a.pt")
        assert f"(found: {found})" in str(caught.value)
