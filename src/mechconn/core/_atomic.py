"""Atomic writes: a file or a folder appears whole or not at all, whenever the writer dies."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; an existing one stays until then."""
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder of {file} does not exist; make it first, or name another")
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; name a file in it")
    draft = file.parent / f".{file.name}.{secrets.token_hex(4)}"
    try:
        _write(draft, content)
        os.replace(draft, file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def remove_drafts(file: Path) -> None:
    """Remove what processes that were killed while they wrote this file left beside it; no other may be writing."""
    for draft in file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 8}"):
        draft.unlink(missing_ok=True)


def write_folder(folder: Path, files: Mapping[str, bytes], draft: Path) -> None:
    """Write a folder that appears whole or not at all: the files go to `draft` on the same disk, which is then renamed.

    What an earlier writer left in `draft` is removed, and on an error so is what this one wrote.
    """
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        for name, data in files.items():
            _write(draft / name, data)
        sync_folder(draft)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def check_new_folder(folder: Path) -> None:
    """Raise unless a folder can be written there: it is not there, or empty, and its parent can be written to.

    Raises:
        ValueError: it holds something, is a file or a link, the folder that it goes to is missing, or it cannot be
            written.
    """
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise ValueError(f"{folder} cannot be written: {parent} is no folder; make it first, or name another")
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link; name the folder that it leads to, or a new one")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is there and not empty; name a new folder, or remove this one")
    if (folder.exists() and not folder.is_dir()) or not os.access(parent, os.W_OK):
        raise ValueError(f"{folder} cannot be written: expected a new folder, in a folder that can be written")


def note_drafts(folder: Path) -> list[str]:
    """A sentence for each draft of this folder that a writer left beside it, as one that was killed does.

    It may be another one's that is still being written, which only its owner knows: nothing is removed.
    """
    target = folder.absolute()
    drafts = sorted(target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}/"))
    return [f"{draft} is left of a run that was stopped; remove it, unless another is writing it" for draft in drafts]


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Context manager: a new folder beside `folder`, which takes its name at the end; after an error it is removed.

    Raises:
        ValueError: as `check_new_folder` raises, also where it was made meanwhile.
    """
    check_new_folder(folder)
    target = folder.absolute()
    draft = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir()
        yield draft
        for path in sorted(draft.rglob("*"), reverse=True):  # what a folder holds comes before the folder
            sync_folder(path) if path.is_dir() else _sync_file(path)
        sync_folder(draft)
        check_new_folder(folder)
        os.rename(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _sync_file(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the folder's own entries are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(file: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with open(file, "xb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
