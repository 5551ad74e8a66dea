"""Folders of `save_to_disk`, written by their layout (datasets 5.2.0: arrow streams, state.json, dataset_info.json)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mechconn as mc
from image_files import pngs
from mechconn.datasets import ImageSet, load, load_column, load_splits

NAMES = ("cat", "dog")


def save_to_disk(folder: Path, rows: Sequence[int], shards: int = 1, split: str | None = None) -> Path:
    """One split: a stream of record batches for each shard, and the JSON beside them."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(NAMES), "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
        "share": {"dtype": "float32", "_type": "Value"},
    }
    columns: dict[str, Any] = {
        "image": pa.array(
            [{"bytes": pngs(1, first=row)[0], "path": f"{row}.png"} for row in rows],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array([row % 2 for row in rows], pa.int64()),
        "text": [f"text {row}" for row in rows],
        "share": pa.array([row / 8 for row in rows], pa.float32()),
    }
    note = json.dumps({"info": {"features": features}})
    whole = pa.table(columns).replace_schema_metadata({"huggingface": note})
    folder.mkdir(parents=True)
    files = [f"data-{k:05}-of-{shards:05}.arrow" for k in range(shards if len(rows) else 0)]
    for k, file in enumerate(files):
        first, last = (len(rows) * at // shards for at in (k, k + 1))
        with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole.slice(first, last - first), max_chunksize=2)
    state = {"_data_files": [{"filename": file} for file in files], "_fingerprint": "0", "_split": split}
    (folder / "state.json").write_text(json.dumps({**state, "_format_type": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def save_splits(folder: Path, **rows: Sequence[int]) -> Path:
    for split, own in rows.items():
        save_to_disk(folder / split, own, split=split)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(rows)}))
    return folder


def numbers(data: object) -> list[int]:
    assert isinstance(data, ImageSet)
    return data.x[:, 0, 0, 0].tolist()


def test_a_single_set_and_its_shards(tmp_path: Path) -> None:
    data = load(save_to_disk(tmp_path / "one", range(5)))
    assert (numbers(data), data.y.tolist(), data.classes) == ([0, 1, 2, 3, 4], [0, 1, 0, 1, 0], NAMES)
    sharded = save_to_disk(tmp_path / "sharded", range(7), shards=3)
    assert numbers(load(sharded)) == list(range(7))
    assert numbers(load(sharded, rows=4)) == [0, 1, 2, 3]
    test = save_to_disk(tmp_path / "test", [4, 6], split="test")
    assert numbers(load(test, split="test")) == [4, 6]
    with pytest.raises(FileNotFoundError, match="has no split 'train'; splits found: test"):
        load(test)


def test_splits_and_columns(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "all", train=range(6), test=[7, 8, 9])
    splits = load_splits({"cue": f"{folder}#train", "moved": f"{folder}#test"})
    assert [numbers(data) for data in splits.values()] == [[0, 1, 2, 3, 4, 5], [7, 8, 9]]
    assert load_column(f"{folder}#test", "text") == ("text 7", "text 8", "text 9")
    assert load_column(f"{folder}#test", "share", threshold=1.0) == (0, 1, 1)
    assert load(folder, label="share", threshold=0.5).y.tolist() == [0, 0, 0, 0, 1, 1]
    task = mc.datasets.cue_task(folder)
    assert (len(task.train), len(task.suite["cue"])) == (6, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=r"has no column 'txt'; columns: image, label, text, share; did you mean 'text'"
    ):
        load_column(f"{folder}#test", "txt")
    with pytest.raises(ValueError, match="has not one split but these: train, test; name one after '#'"):
        load_column(folder, "text")


def test_the_library_datasets_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(load(save_to_disk(tmp_path / "one", range(2)))) == 2
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"reading arrow files needs .*pip install 'mechconn.data.'"):
        load(tmp_path / "one")


def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    whole = save_splits(tmp_path / "whole", train=range(6), test=range(2), val=[])

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(whole, tmp_path / name))

    first = Path("train", "data-00000-of-00001.arrow")
    (damaged("lacking") / first).unlink()
    (damaged("cut") / first).write_bytes((whole / first).read_bytes()[:200])
    (damaged("no state") / "test" / "state.json").unlink()
    (damaged("broken") / "train" / "state.json").write_text("{")
    (damaged("odd") / "dataset_dict.json").write_text('{"splits": 3}')
    (damaged("unlisted") / "train" / "state.json").write_text("{}")
    indexed = {"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}
    (damaged("indexed") / "train" / "state.json").write_text(json.dumps(indexed))
    for name, text in {
        "lacking": "lacks data-00000-of-00001.arrow (1 of the 1 files that state.json lists); copy the folder whole",
        "cut": "cannot be read as arrow (",
        "no state": "state.json is missing, which lists the files of the split; copy the folder whole",
        "broken": "state.json cannot be read as JSON (",
        "odd": "dataset_dict.json must list the splits, got 3; save the set again",
        "unlisted": "state.json lists no files under _data_files; save the set again",
        "indexed": "holds rows chosen by an index, as old versions of datasets saved them; load it there, and save",
    }.items():
        with pytest.raises(ValueError) as caught:
            load(tmp_path / name)
        assert text in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"split 'val' of .*whole holds no samples; at least one is needed"):
        load(whole, split="val")
