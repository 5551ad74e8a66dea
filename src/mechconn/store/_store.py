"""The store: every finished step once, by its key, and the runs that used them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mechconn.core import UnusableFileError, check_choice, log, sync_folder, write_atomically, write_folder
from mechconn.store._disk_errors import explain_full_disk, move_to_free_name
from mechconn.store._sealed import DamagedError, open_sealed, seal
from mechconn.store._step_files import RECORD, StepOutput, StoredStep, make_step_files, read_step
from mechconn.store._step_identity import StepIdentity

Note = Callable[[str], None]


@dataclass(frozen=True)
class Store:
    """Results in the folder `root`.

    steps/<key>/ holds a finished step: record.json and *.safetensors. It is written elsewhere and renamed, so it is
    there whole or not at all; a lock per key lets two processes that need the same step compute it once; every reading
    checks every hash, and what is damaged, a checkpoint too, is named, moved to damaged/ and computed again. runs/<id>/
    holds a run's record, and an empty file for each step that it used.

    Attributes:
        root: the folder; made when first written to.
        run: the run in whose name steps are used, if any.
        note: called with one line for each damaged file.

    Raises:
        DiskFullError: from every method that writes; nothing half-written stays.
        PermissionError: from every method that writes, where the store may not be written to.
    """

    root: Path
    run: str | None = None
    note: Note | None = None

    def of(self, run: str, note: Note | None = None) -> Store:
        """The same store, used in the name of a run."""
        return replace(self, run=run, note=note)

    def step(self, step: StepIdentity, compute: Callable[[Path], StepOutput], device: str = "cpu") -> StoredStep:
        """The step's result, read where it is there, else computed and written.

        Args:
            step: its identity.
            compute: does the work. It is given a folder for checkpoints: what it leaves there is found again when the
                process was killed, and removed once the step is finished.
            device: what it computes on, for the record.
        """
        with explain_full_disk(self.root), self._lock(step.key):
            # The mark and the reading under one lock: `remove` either sees the mark, or is done before it.
            self._use(step.key)
            found = self._sound(step.key)
            if found is not None:
                return found
            self._write(step, compute, device)
            return replace(self._read(step.key), computed=True)

    def names(self) -> list[str]:
        """The ids of all runs, those with a damaged record too."""
        return sorted(folder.name for folder in self.root.glob("runs/*/"))

    def has_run(self, run: str) -> bool:
        """Whether there is a record of the run with just this id."""
        return (self.root / "runs" / run / RECORD).is_file()

    def read_run(self, run: str) -> dict[str, Any]:
        """The plain values of a run's record, by its whole id.

        Raises:
            DamagedError: it is not there, cut short, or was changed.
        """
        try:
            return open_sealed((self.root / "runs" / run / RECORD).read_bytes())
        except FileNotFoundError as error:
            raise DamagedError(str(error.strerror)) from error

    def write_run(self, run: str, plain: Mapping[str, Any]) -> None:
        """Write a run's record in the place of its old one."""
        with explain_full_disk(self.root):
            file = self.root / "runs" / run / RECORD
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, seal(plain))
            sync_folder(file.parent)

    def set_run_aside(self, run: str, why: DamagedError) -> None:
        """Move a damaged record away, and say where it is."""
        place = move_to_free_name(self.root / "runs" / run / RECORD, self.root / "damaged" / f"record-{run}")
        self.say(f"the record of run {run} is damaged ({why}); it was moved to {place} and is written anew")

    def remove(self, run: str) -> int:
        """Remove a run, and the steps that no other run used; gives the number of these steps.

        Args:
            run: its whole id; its record may be damaged.

        Raises:
            ValueError: there is no such run, or it is running.
        """
        check_choice("run", run, self.names())
        with self.running(run) as alone:
            if not alone:
                raise ValueError(f"run {run} is at work just now; wait until it ends, or stop it, before it is removed")
            folder = self.root / "runs" / run
            own = sorted(mark.name for mark in folder.glob("steps/*"))
            self._discard(folder)
        return sum(self._remove_step(key) for key in own)

    @contextmanager
    def running(self, run: str, patience: float | None = 0.0) -> Iterator[bool]:
        """A block that works on a run; whether it is the only one to do so. A killed process does not count.

        Args:
            run: its whole id.
            patience: seconds to wait for another block to end; None waits as long as it takes.
        """
        with explain_full_disk(self.root):
            try:
                held = self._lock(f"run-{run}").acquire(timeout=-1 if patience is None else patience)
            except Timeout:
                yield False
                return
            with held:
                yield True

    # ------------------------------------------------------------ steps

    def _read(self, key: str) -> StoredStep:
        return read_step(self.root / "steps" / key)

    def _sound(self, key: str) -> StoredStep | None:
        """The step of that key, whose lock is held; what is damaged is set aside."""
        try:
            return self._read(key)
        except FileNotFoundError:
            return None
        except DamagedError as why:
            place = move_to_free_name(self.root / "steps" / key, self.root / "damaged" / key)
            self.say(f"step {key[:12]} is damaged ({why}); it was moved to {place} and is computed again")
            return None

    def _write(self, step: StepIdentity, compute: Callable[[Path], StepOutput], device: str) -> None:
        unfinished = self.root / "unfinished" / step.key
        started = time.perf_counter()
        made = self._made(step.key, compute, unfinished)
        files = make_step_files(step, made, time.perf_counter() - started, device)
        folder, draft = self.root / "steps" / step.key, self.root / "drafts" / step.key
        write_folder(folder, files, draft)
        shutil.rmtree(unfinished, ignore_errors=True)

    def _made(self, key: str, compute: Callable[[Path], StepOutput], unfinished: Path) -> StepOutput:
        """What the computation gives; where its checkpoint cannot be used, that is set aside."""
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            return compute(unfinished)
        except UnusableFileError as why:
            place = move_to_free_name(unfinished, self.root / "damaged" / f"unfinished-{key}")
            self.say(
                f"the checkpoint of step {key[:12]} cannot be used ({why}); it was moved to {place} and the step "
                "starts afresh"
            )
        unfinished.mkdir()
        return compute(unfinished)

    def _remove_step(self, key: str) -> bool:
        """Remove a step that no run uses at this moment; whether it was there."""
        with explain_full_disk(self.root), self._lock(key):
            if any(self.root.glob(f"runs/*/steps/{key}")):
                return False
            shutil.rmtree(self.root / "unfinished" / key, ignore_errors=True)
            return self._discard(self.root / "steps" / key)

    def _discard(self, folder: Path) -> bool:
        """Remove a folder so that readers find it whole or not at all; whether it was there."""
        if not folder.is_dir():
            return False
        shutil.rmtree(move_to_free_name(folder, self.root / "drafts" / f"removed-{folder.name}"))
        return True

    def _use(self, key: str) -> None:
        if self.run is not None:
            mark = self.root / "runs" / self.run / "steps" / key
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    # ------------------------------------------------------------ locks and words

    def _lock(self, name: str) -> FileLock:
        """A lock by its name; the system frees that of a process which was killed."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    def say(self, line: str) -> None:
        """Log a line, and pass it to `note` where one was given."""
        log(line)
        if self.note is not None:
            self.note(line)
