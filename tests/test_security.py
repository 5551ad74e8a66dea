"""What SECURITY.md says and no other test holds: adapters, images, names, files that are written, the network."""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import struct
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mechconn.cli import main
from mechconn.core import import_function, isolate_rng, write_atomically
from mechconn.datasets import load
from mechconn.models import load_model

FACTORY = """
from torch import nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
"""


class Acts:
    """What unpickling would make a file of."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_an_adapter_that_would_act_is_refused_and_does_not(tmp_path: Path) -> None:
    adapter, trap = tmp_path / "adapter", tmp_path / "trap"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["1"], "base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.save(
        {"base_model.model.1.lora_A.weight": torch.ones(2, 16), "more": Acts(trap)}, adapter / "adapter_model.bin"
    )
    with isolate_rng(0), pytest.raises(ValueError, match=r"unpickling it would call \w+\.system, which runs code"):
        load_model(adapter, base=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    assert not trap.exists()


def make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_an_image_of_very_many_pixels_is_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    picture = (
        b"\x89PNG\r\n\x1a\n"
        + make_chunk(b"IHDR", header)
        + make_chunk(b"IDAT", zlib.compress(b""))
        + make_chunk(b"IEND", b"")
    )
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(picture)
    with pytest.raises(ValueError, match=r"cannot decode the image \(Image size .* exceeds limit"):
        load(tmp_path / "photos")


def test_a_file_in_the_working_directory_does_not_replace_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("statistics.py").write_text("def mean(values):\n    return 'this ran'\n", encoding="utf-8")
    assert import_function("the function", "statistics:mean") is statistics.mean


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.html"
    write_atomically(file, b"first")

    def fail(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the power went"):
        write_atomically(file, b"second")
    assert file.read_bytes() == b"first" and list(tmp_path.iterdir()) == [file]


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_commands_write_what_they_name_and_reach_for_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []  # also where who asked goes on without an answer

    def refuse(*words: object, **_: object) -> None:
        asked.append(words)
        raise OSError("no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("secure_net.py").write_text(FACTORY, encoding="utf-8")
    with isolate_rng(0):
        for name in "ab":
            save_file(import_function("the factory", "secure_net:build")().state_dict(), f"{name}.safetensors")
        x, y = torch.rand(40, 1, 4, 4), torch.arange(40) % 2
    save_file({"x": x, "y": y}, "cue.safetensors")
    save_file({"x": x.flip(3), "y": y}, "rand_cue.safetensors")
    before, model = list_files(tmp_path), ("--model", "secure_net:build")
    for words, written in (
        (("init", "."), "audit.toml"),
        (("audit", "a.safetensors", "b.safetensors", "--data", "audit.toml", *model), "audit.html"),
        (("data", "digits", "--samples", "2"), "cues.png"),
        (("list",), None),
    ):
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        after = list_files(tmp_path)
        assert stop.value.code == 0
        assert set(after) - set(before) == ({written} if written else set())
        assert {name: after[name] for name in before} == before
        before = after
    assert asked == []


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_files_that_the_pages_name_are_there(page: str) -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"(?<![\w/])(?:tests|docs|src)/[\w/.]+\w", (root / page).read_text(encoding="utf-8"))
    assert len(named) > 5 and [name for name in named if not (root / name).exists()] == []
