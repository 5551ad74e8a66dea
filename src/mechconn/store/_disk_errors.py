"""What goes wrong with the disk of a store, and moving aside what is damaged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)


class DiskFullError(RuntimeError):
    """There is no room for a file of the store."""


@contextmanager
def explain_full_disk(root: Path) -> Iterator[None]:
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
                f"a file of the store {root} would be larger than this system allows ({error.strerror}; see "
                "ulimit -f); nothing half-written stayed, and what was finished is not repeated"
            ) from error
        if error.errno in LOCKED and Path(str(error.filename)).is_relative_to(root):
            raise PermissionError(
                f"the store {root} cannot be written to ({error.strerror}); pass another folder, --store"
            ) from error
        raise


def move_to_free_name(folder: Path, target: Path) -> Path:
    """Move a file or folder to `target`, or beside it under a number that is free; gives the place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    place = target
    while place.exists():
        number += 1
        place = target.with_name(f"{target.name}-{number}")
    os.rename(folder, place)
    return place
