"""The hub: asked only when the user says so, probed first, and read through the same files afterwards."""

from __future__ import annotations

import sys
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import mechconn as mc
from image_files import pngs, write, write_set


class Fake(types.ModuleType):
    """Stands in for the hub's library; notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[str, dict[str, str], str]] = []

    def load_dataset(self, kind: str, data_files: dict[str, str], split: str) -> Any:
        self.asked.append((kind, data_files, split))
        return types.SimpleNamespace(to_parquet=lambda target: write(Path(target), pngs(4), [0, 1, 2, 0]))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    monkeypatch.setattr("mechconn.datasets._hub.check_hub_reachable", lambda: None)
    return fake


def test_a_split_is_fetched_once_and_read_from_the_folder(tmp_path: Path, hub: Fake) -> None:
    data = mc.datasets.load("cifar10", root=tmp_path, download=True)
    assert data.y.tolist() == [0, 1, 2, 0]
    source = "hf://datasets/uoft-cs/cifar10/plain_text/train-*.parquet"
    assert hub.asked == [("parquet", {"train": source}, "train")]
    assert [path.name for path in tmp_path.rglob("*.p*")] == ["train-00000-of-00001.parquet"]
    again = mc.datasets.load("cifar10", root=tmp_path, download=True)
    assert len(mc.datasets.load("cifar10", root=tmp_path)) == len(again) == 4
    assert len(hub.asked) == 1


def test_any_set_of_the_hub_by_its_owner_and_name(tmp_path: Path, hub: Fake) -> None:
    data = mc.datasets.load("someone/pets", root=tmp_path, split="test", download=True)
    assert len(data) == 4
    assert hub.asked[0][1] == {"test": "hf://datasets/someone/pets/*/test-*.parquet"}
    assert len(mc.datasets.load("someone/pets", root=tmp_path, split="test")) == 4


def test_a_task_fetches_both_splits(tmp_path: Path, hub: Fake) -> None:
    task = mc.datasets.cue_task("cifar10", root=tmp_path, download=True)
    assert len(task.train) == 4
    assert sorted(split for _, _, split in hub.asked) == ["test", "train"]


def test_splits_of_their_own_come_from_the_hub_too(tmp_path: Path, hub: Fake) -> None:
    sources = {"cue": "someone/pets#test", "no_cue": "someone/plain#validation"}
    assert [len(data) for data in mc.datasets.load_splits(sources, root=tmp_path, download=True).values()] == [4, 4]
    assert [next(iter(files.values())) for _, files, _ in hub.asked] == [
        "hf://datasets/someone/pets/*/test-*.parquet",
        "hf://datasets/someone/plain/*/validation-*.parquet",
    ]
    assert len(mc.datasets.load_splits(sources, root=tmp_path)) == 2 == len(hub.asked)
    with pytest.raises(ValueError, match="someone/new has not one split but these: none; name one after '#'"):
        mc.datasets.load_splits({"cue": "someone/new"}, root=tmp_path, download=True)


def test_nothing_is_fetched_unasked(tmp_path: Path, hub: Fake) -> None:
    write_set(tmp_path / "cifar10")
    mc.datasets.load("cifar10", root=tmp_path, download=True)
    mc.datasets.cue_task("cifar10", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="or pass download=True"):
        mc.datasets.load("cifar100", root=tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"no folder someone/pets or .*; if someone/pets is a set of the hub, pass download=True",
    ):
        mc.datasets.load("someone/pets", root=tmp_path)
    assert hub.asked == []


def test_without_a_network_it_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> None:
        assert request.get_method() == "HEAD"
        assert timeout <= 10
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    message = r"cannot reach https://hub\.example \(no route\); copy the parquet files by hand"
    with pytest.raises(ConnectionError, match=message):
        mc.datasets.load("cifar10", root=tmp_path, download=True)


def test_any_answer_of_the_hub_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(request: urllib.request.Request, timeout: float) -> None:
        raise urllib.error.HTTPError(request.full_url, 403, "forbidden", None, None)  # type: ignore[arg-type]

    fake = Fake()
    monkeypatch.setattr(urllib.request, "urlopen", forbidden)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert len(mc.datasets.load("cifar10", root=tmp_path, download=True)) == 4


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mechconn.datasets._hub.check_hub_reachable", lambda: None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs the package datasets.* pip install 'mechconn\[hub\]'"):
        mc.datasets.load("cifar10", root=tmp_path, download=True)
