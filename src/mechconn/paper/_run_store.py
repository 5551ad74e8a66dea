"""The runs of a store: listed, read, written and found again by their ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mechconn.core import check_choice
from mechconn.paper._run_record import RunRecord
from mechconn.store import DamagedError, DiskFullError, Store


@dataclass(frozen=True)
class RunStore(Store):
    """A store whose runs are read as `RunRecord`; see `mechconn.store.Store`.

    Raises:
        DiskFullError: from every method that writes; nothing half-written stays.
        PermissionError: from every method that writes, where the store may not be written to.
    """

    def runs(self) -> list[RunRecord]:
        """Every run, the latest first; records that are damaged are left out, and noted."""
        found = []
        for name in self.names():
            try:
                found.append(self._read_record(name))
            except DamagedError as why:
                self.say(_explain_damaged_record(name, why))
        return sorted(found, key=lambda run: (run.started, run.id), reverse=True)

    def stored(self, run: str) -> RunRecord | None:
        """The record of the run with just this id; None where there is none, or a damaged one, which is set aside."""
        try:
            return self._read_record(run) if self.has_run(run) else None
        except DamagedError as why:
            self.set_run_aside(run, why)
            return None

    def show(self, run: str) -> RunRecord:
        """The record of a run, by its id or the start of it.

        Raises:
            ValueError: no run, or several, have such an id, or its record is damaged.
        """
        names = self.names()
        fitting = [name for name in names if run and name.startswith(run)]
        if run not in names and len(fitting) != 1:
            if fitting:
                raise ValueError(f"several runs start with {run!r}: {', '.join(fitting)}; write more of the id")
            if not names:
                raise ValueError(self.explain_no_runs())
            check_choice("run", run, names)
        name = run if run in names else fitting[0]
        try:
            return self._read_record(name)
        except DamagedError as why:
            raise ValueError(_explain_damaged_record(name, why)) from why

    def save(self, record: RunRecord) -> None:
        """Write a run's record in the place of its old one."""
        self.write_run(record.id, record.to_dict())

    def explain_no_runs(self) -> str:
        """What to know of an empty store."""
        return (
            f"the store {self.root} holds no runs yet; start one with mechconn run quickstart, or name another with "
            "--store"
        )

    def _read_record(self, run: str) -> RunRecord:
        """A run's record; one that says "running" while no process works on it is of a process that was killed.

        Raises:
            DamagedError: it is not what was written, or has another form.
        """
        try:
            record = RunRecord.from_dict(self.read_run(run))
        except ValueError as error:
            raise DamagedError(str(error)) from error
        if record.status != "running":
            return record
        try:
            with self.running(record.id) as alone:
                return replace(record, status="stopped") if alone else record
        except (OSError, DiskFullError):  # undecided where no lock can be taken
            return record


def _explain_damaged_record(run: str, why: DamagedError) -> str:
    return f"the record of run {run} is damaged ({why}); starting the run again writes it anew"
