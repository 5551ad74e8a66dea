"""Files and folders of weights as states of tensors, told by content, without running code from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mechconn.core import UnusableFileError, list_first, read_note, read_safetensors, sha256
from mechconn.models._distributed_folder import explain_missing_shards, read_distributed
from mechconn.models._file_kinds import check_weights_there, read_file_kind
from mechconn.models._saved_states import Checkpoint, collect_states
from mechconn.models._tensor_places import read_tensor_places
from mechconn.models._torch_files import StoredTensor, read_torch_file, store_tensor
from mechconn.network import WEIGHT_CHANGE

BESIDE = re.compile(
    r"optim|.*optim_states|.*_optimizer|(lr_)?scheduler|scaler|.*sampler|random_states|rng_state|training_args"
    r"|trainer_state|dl_state_dict|custom_checkpoint|meta\.pt$|zero_to_fp32|tokenizer|\."
)
"""Files that training leaves beside the weights; names are told by their beginning."""
SHARD = re.compile(r"-\d+-of-\d+\.")
ZERO_3 = re.compile(r"zero_pp_rank_.*model_states\.pt")
BOTH = ({"model.safetensors", "pytorch_model.bin"}, {"model.safetensors.index.json", "pytorch_model.bin.index.json"})
"""Names of one model that was saved in two ways."""

TRANSFORMERS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where Transformers looks for weights beside a config.json, in its order."""

Note = Callable[[str], object]


def read_checkpoint(path: str | Path, note: Note, stream: bool = False) -> Checkpoint:
    """All states in a file of weights, the index of its shards, or a folder.

    Args:
        path: where they are.
        note: called with a line where one of several files is read.
        stream: read each tensor of a .safetensors file when it is asked for, into memory of its own.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: no weights, damaged ones, or ones that would run code.
    """
    check_weights_there(Path(path))
    found = find_weights(Path(path), note)
    if found.is_dir():
        return collect_states(Path(path), read_distributed(found))
    return collect_states(Path(path), _read_file(found, stream))


def list_weight_files(path: Path) -> list[Path]:
    """The files that hold the weights, in the order of their names: all shards of an index or folder."""
    found = find_weights(path, lambda text: None)
    if found.is_dir():
        return [found / ".metadata", *sorted(found.glob("*.distcp"))]
    return _list_shards(found, _read_map(found)) if read_file_kind(found) == "index" else [found]


def hash_weight_files(files: Iterable[Path]) -> str:
    """SHA-256 of the SHA-256 of each file, read in parts."""
    digests = []
    for file in files:
        with file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").digest())
    return sha256(b"".join(digests))


def _read_file(file: Path, stream: bool) -> Any:
    kind = read_file_kind(file)
    if kind == "index":
        return _read_shards(file, stream)
    if kind == "safetensors" and _holds_change(file):
        raise ValueError(
            f"{file} holds a change of weights and no network; add it to one: "
            "with_change(base, load_weight_change(file))"
        )
    if kind == "safetensors" and stream:
        return read_tensor_places(file)
    if kind == "safetensors":
        return {name: store_tensor(tensor) for name, tensor in read_safetensors(file).items()}
    return read_torch_file(file)


def _holds_change(file: Path) -> bool:
    """Whether `WeightChange.save` wrote it; notes of other programs are none of ours."""
    with suppress(UnusableFileError):
        return read_note(file).get("format") == WEIGHT_CHANGE
    return False


def _read_map(index: Path) -> dict[str, str]:
    """Name of each tensor -> its shard."""
    return {str(name): str(shard) for name, shard in json.loads(index.read_text("utf-8"))["weight_map"].items()}


def _list_shards(index: Path, places: dict[str, str]) -> list[Path]:
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise ValueError(f"{index} names {outside[0]}, which lies outside its folder; put all shards beside the index")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise ValueError(explain_missing_shards(index, missing, len(names)))
    return [index.parent / name for name in names]


def _read_shards(index: Path, stream: bool) -> dict[str, StoredTensor]:
    """The tensors of all shards by name."""
    places, tensors = _read_map(index), {}
    for shard in _list_shards(index, places):
        if read_file_kind(shard) == "index":
            raise ValueError(f"{index} names {shard.name}, which is an index too; name files of weights")
        states = collect_states(shard, _read_file(shard, stream)).states
        if len(states) != 1:
            raise ValueError(f"{shard} holds {len(states)} states, and a shard holds one; save the model again")
        own = {name for name, where in places.items() if where == shard.name}
        read = states[0].tensors
        if lacking := sorted(own - read.keys()):
            raise ValueError(f"{shard} lacks {', '.join(lacking[:8])}, which {index} places there; copy both again")
        tensors |= {name: tensor for name, tensor in read.items() if places.get(name, shard.name) == shard.name}
    return tensors


def find_weights(path: Path, note: Note) -> Path:
    """The file of weights, the index, or the folder of torch.distributed.checkpoint that a path means.

    Raises:
        ValueError: a folder holds none or several; the text names them.
    """
    if not path.is_dir() or (path / ".metadata").is_file():
        return path
    if (inner := _find_latest(path)) is not None:
        return find_weights(inner, note)
    files = list_candidates(path)
    shards = [file for file in files if SHARD.search(file.name)]
    listed = {name for file in files if file.name.endswith(".index.json") for name in _read_map(file).values()}
    choice = [file for file in files if file not in shards and file.name not in listed]
    lost = [file.name for file in shards if file.name not in listed]
    if choice:
        chosen = _choose_file(path, choice, note)
        if lost:
            note(f"{path} also holds {list_first(lost)} without an index; {chosen.name} is read")
        return chosen
    if shards:
        if broken := [file.name for file in path.glob("*.index.json")]:
            lacking = f", and {broken[0]} is no index of them, JSON with a weight_map; copy it again"
        else:
            lacking = " without their index; copy it too"
        raise ValueError(f"{path} holds shards ({list_first(lost)}){lacking}")
    raise ValueError(_explain_no_weights(path))


def _choose_file(folder: Path, files: list[Path], note: Note) -> Path:
    """The one file of several, where their names tell it."""
    names = {file.name for file in files}
    own = find_own(folder) if (folder / "config.json").is_file() or names in BOTH else []
    if not own and len(files) > 1:
        raise ValueError(
            f"{folder} holds {len(files)} files of weights ({list_first(sorted(names))}); pass the one to read"
        )
    chosen = (own or files)[0]
    if others := sorted(names - {chosen.name}):
        note(f"{folder} holds {chosen.name} and {list_first(others)}; {chosen.name} is read")
    return chosen


def find_own(folder: Path) -> list[Path]:
    """The files under the names that Transformers gives, those it reads first in front."""
    return [folder / name for name in TRANSFORMERS if (folder / name).is_file()]


def _find_latest(folder: Path) -> Path | None:
    """The folder that DeepSpeed's file `latest` names."""
    file = folder / "latest"
    if not file.is_file() or file.stat().st_size > 1024:
        return None
    name = file.read_text(encoding="utf-8", errors="replace").strip()
    inner = folder / name
    return inner if name and Path(name).name == name and inner.is_dir() else None


def list_candidates(folder: Path) -> list[Path]:
    """The files that hold weights, by content, without what training leaves beside them."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not BESIDE.match(file.name))
    if parts := [file.name for file in files if ZERO_3.fullmatch(file.name)]:
        raise ValueError(
            f"{folder} holds one device's part of each tensor in a file (DeepSpeed, ZeRO stage 3: {parts[0]}); gather "
            "them where they were made: python zero_to_fp32.py FOLDER OUTPUT"
        )
    return [file for file in files if _holds_weights(file)]


def _holds_weights(file: Path) -> bool:
    try:
        return read_file_kind(file) != "index" or file.name.endswith(".index.json")
    except ValueError:
        return False


def _explain_no_weights(folder: Path) -> str:
    inner = [
        part
        for part in sorted(folder.iterdir())
        if part.is_dir() and not BESIDE.match(part.name) and ((part / ".metadata").is_file() or list_candidates(part))
    ]
    if inner:
        return f"{folder} holds no weights itself; pass {' or '.join(map(str, inner[:8]))}"
    damaged = [why for part in sorted(folder.iterdir()) if (why := _explain_unread(part))]
    if damaged:
        return damaged[0]
    names = [part.name for part in sorted(folder.iterdir())]
    return (
        f"{folder} holds no weights (it holds {list_first(names) or 'nothing'}); pass a file of weights, or its folder"
    )


def _explain_unread(file: Path) -> str:
    """What is wrong with a file that is named as weights and holds none; empty of any other."""
    if file.suffix not in (".safetensors", ".bin", ".pt", ".pth", ".ckpt"):
        return ""
    if file.is_symlink() and not file.exists():
        return f"{file} is a link to {file.readlink()}, which is not there; fetch the weights again"
    try:
        read_file_kind(file)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
