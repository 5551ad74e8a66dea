"""The tensors of one network in a file or folder, to be read one at a time."""

from __future__ import annotations

from pathlib import Path

from mechconn.core import check_choice
from mechconn.models._adapter_folder import is_adapter_folder, list_adapter_files
from mechconn.models._fill_weights import Note
from mechconn.models._saved_states import SavedState
from mechconn.models._torch_files import StoredTensor
from mechconn.models._unfit_weights import list_names
from mechconn.models._weight_files import hash_weight_files, list_weight_files, read_checkpoint


def open_stored_tensors(path: Path, note: Note, key: str | None = None) -> dict[str, StoredTensor]:
    """The tensors of one state by name, in the order of the file; none is read yet.

    Args:
        path: a file, the index of its shards, or a folder.
        note: called with a line where one of several files is read.
        key: which state of a file that holds several.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: no weights, damaged or quantised ones, ones that would run code, several states, or no such state.
    """
    found = read_checkpoint(path, note, stream=True)
    if not found.states:
        raise ValueError(f"{path} holds no weights by name (it holds {found.found or 'nothing'}); save a state_dict")
    tensors = dict(_choose_state(path, found.states, key).tensors)
    if problems := [f"{name} {tensor.problem}" for name, tensor in tensors.items() if tensor.problem]:
        raise ValueError(
            f"{path} holds tensors that cannot be taken: {list_names(problems)}; save the whole state as plain tensors"
        )
    return tensors


def _choose_state(path: Path, states: tuple[SavedState, ...], key: str | None) -> SavedState:
    if key is not None:
        check_choice(f"key of {path}", key, [state.key for state in states])
        return next(state for state in states if state.key == key)
    if len(states) > 1:
        listed = ", ".join(repr(state.key) for state in states)
        raise ValueError(f"{path} holds {len(states)} states, {listed}; name the one to take: key=... (--key ...)")
    return next(iter(states))


def hash_weights(path: Path) -> str:
    """SHA-256 of the SHA-256 of each file of weights, in the order of their names; of an adapter its configuration too.

    Raises:
        FileNotFoundError, ValueError: as `list_weight_files` raises.
    """
    return hash_weight_files(list_adapter_files(path) if is_adapter_folder(path) else list_weight_files(path))
