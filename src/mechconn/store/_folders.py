"""Atomic writes of files and folders: readers find the whole content or nothing, also if the writer is killed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mechconn.core import write_whole

FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)


class DiskFullError(RuntimeError):
    """There is no room for a file of the store."""


@contextmanager
def room_on(root: Path) -> Iterator[None]:
    """Context manager: re-raise errors of a full or read-only disk as one-line errors.

    Raises:
        DiskFullError: no space is left.
        PermissionError: the store may not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"the disk of the store {root} is full ({error.strerror}); free some space or pass another folder, "
                "--store, and start again: nothing half-written stayed, and what was finished is not repeated"
            ) from error
        if error.errno == errno.EFBIG:
            raise DiskFullError(
                f"a file of the store {root} would be larger than this system allows ({error.strerror}; ulimit -f "
                "tells); nothing half-written stayed, and what was finished is not repeated"
            ) from error
        if error.errno in LOCKED and Path(str(error.filename)).is_relative_to(root):
            raise PermissionError(
                f"the store {root} cannot be written to ({error.strerror}); pass another folder, --store"
            ) from error
        raise


def write_file(file: Path, data: bytes) -> None:
    """Write and wait until it is on the disk."""
    with open(file, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def write_folder(folder: Path, files: Mapping[str, bytes], draft: Path) -> None:
    """A folder with these files, or none: they are written to `draft` on the same disk, which is then renamed.

    What an earlier writer left in `draft` is removed, and on an error so is what this one wrote.
    """
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        for name, data in files.items():
            write_file(draft / name, data)
        sync_folder(draft)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def replace_file(file: Path, data: bytes) -> None:
    """Put new content in the place of a file, whole: a reader finds the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, data)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's own entries are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move_aside(folder: Path, target: Path) -> Path:
    """Move a file or folder to `target`, or beside it under a number that is free; gives the place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    place = target
    while place.exists():
        number += 1
        place = target.with_name(f"{target.name}-{number}")
    os.rename(folder, place)
    return place
