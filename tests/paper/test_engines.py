"""Engines: every job once, its result or its error as it was raised, whichever workers die."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mechconn.paper import ENGINES, CellEngine, EngineName, make_engine, run_jobs
from mechconn.paper._run_recipe import _RunProgress
from work import HANGING, Work, child, heard, log_of, refuse, two_steps, unless_first_for_ever

INLINE, PROCESSES = CellEngine("inline", 1, 1), CellEngine("processes", 2, 1)


def results(jobs: list[Work], engine: CellEngine, said: list[str] | None = None) -> dict[int, float]:
    notes = [] if said is None else said
    return {number: future.result() for number, future in run_jobs(two_steps, jobs, engine, notes.append)}


def test_every_engine_gives_the_same(tmp_path: Path) -> None:
    found = {}
    for engine in (INLINE, PROCESSES):
        root = tmp_path / engine.name
        root.mkdir()
        found[engine.name] = results([Work(root, number) for number in range(4)], engine)
        assert log_of(root) == sorted([f"first {n}" for n in range(4)] + [f"second {n}" for n in range(4)])
    total = [sum(range(6)) / 7 + 6 * number + number for number in range(4)]
    assert found["inline"] == found["processes"] == pytest.approx(dict(enumerate(total)), rel=1e-6)


def test_inline_hands_over_one_job_at_a_time(tmp_path: Path) -> None:
    seen = [len(log_of(tmp_path)) for _ in run_jobs(two_steps, [Work(tmp_path, n) for n in range(3)], INLINE, print)]
    assert seen == [2, 4, 6]


@pytest.mark.slow
def test_a_killed_worker_costs_the_step_at_work_alone(tmp_path: Path) -> None:
    said: list[str] = []
    found = results([Work(tmp_path, number, fatal=1) for number in range(4)], PROCESSES, said)
    assert sorted(found) == [0, 1, 2, 3]
    # A dying pool takes its other worker along, whose step may then have been at work; no other is computed twice.
    log, every = log_of(tmp_path), {f"{which} {n}" for which in ("first", "second") for n in range(4)}
    assert set(log) == every and len(log) <= len(every) + 1
    assert log.count("first 1") == log.count("second 1") == 1
    assert len(said) == 1 and said[0].startswith("a worker died; ") and said[0].endswith("go to a fresh pool")


@pytest.mark.slow
def test_a_cell_that_always_kills_its_worker_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"pools of workers in a row died .* --engine inline, both with --threads 1"):
        results([Work(tmp_path, 0, fatal=0, always=True)], CellEngine("processes", 1, 1))
    assert log_of(tmp_path) == ["first 0"]


@pytest.mark.parametrize("engine", [INLINE, pytest.param(PROCESSES, marks=pytest.mark.slow)], ids=lambda e: e.name)
def test_an_error_belongs_to_its_job(engine: CellEngine) -> None:
    done = {number: future for number, future in run_jobs(refuse, [0, 1, 2, 3], engine, print)}
    assert sorted(done) == [0, 1, 2, 3]
    for number in (1, 3):
        with pytest.raises(ValueError, match=f"{number} is odd"):
            done[number].result()
    assert [done[number].result() for number in (0, 2)] == [0, 2]


ORPHANS = """
import sys
from mechconn.paper import CellEngine
if __name__ == "__main__":
    pool = CellEngine("processes", 1, 1).pool()
    import os
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd, to wait for a process that is no child")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS, encoding="utf-8")
    parent = child(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    worker = os.pidfd_open(int(heard(parent)))
    parent.kill()
    parent.wait()
    gone = threading.Event()
    threading.Thread(target=lambda: (_ended(worker), gone.set()), daemon=True).start()
    assert gone.wait(HANGING)
    parent.communicate()
    os.close(worker)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe, to know that both jobs are at work")
def test_workers_end_when_the_run_is_given_up(tmp_path: Path) -> None:
    """One job is done, the other would never be: giving up ends it, and comes back once both workers are gone."""
    os.mkfifo(tmp_path / "pipe")
    running = run_jobs(unless_first_for_ever, [(0, tmp_path / "pipe"), (1, tmp_path / "pipe")], PROCESSES, print)
    _, first = next(running)
    workers = first.result()
    closed = threading.Event()
    threading.Thread(target=lambda: (running.close(), closed.set()), daemon=True).start()
    assert closed.wait(HANGING)
    assert len(set(workers)) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def _ended(handle: int) -> None:
    import select

    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()


def test_engines_keep_to_the_standard_interface() -> None:
    for engine in (INLINE, PROCESSES):
        with engine.pool() as pool:
            assert isinstance(pool, Executor)
            assert list(pool.map(abs, [-1, 2])) == [1, 2]


def test_defaults_depend_on_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_engine("inline").threads == torch.get_num_threads()
    assert set(ENGINES) == {"inline", "processes", "ray"}
    for cores, workers, threads in ((2, 2, 1), (8, 2, 4), (16, 4, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        for name in ("processes", "ray"):
            found = make_engine(cast(EngineName, name))
            assert (found.workers, found.threads) == (workers, threads)
    assert make_engine("processes", workers=4, threads=3).threads == 3


def test_what_an_engine_would_ignore_is_refused() -> None:
    assert make_engine("ray", 2, 1, 0.5, "auto") == CellEngine("ray", 2, 1, 0.5, "auto")
    wrong: list[tuple[EngineName, dict[str, Any]]] = [
        ("inline", {"workers": 2}),
        ("inline", {"gpus": 1.0}),
        ("processes", {"ray_address": "auto"}),
    ]
    for name, options in wrong:
        with pytest.raises(ValueError, match=f"has no effect with --engine {name}"):
            make_engine(name, **options)


def test_the_record_of_many_cells_lags_by_a_hundredth_and_is_written_a_few_hundred_times() -> None:
    """Inside: ten thousand cells would have to be run to see it, and each writes to the disk."""
    progress: Any = object.__new__(_RunProgress)
    progress._done, progress._written, written = {}, 0, []
    for cell in range(10_000):
        progress._done[cell] = None
        written += [cell + 1] if progress.is_due() else []
    assert written[:99] == list(range(1, 100))
    assert all(later - earlier <= 1 + later / 100 for earlier, later in pairwise(written))
    assert len(written) < 700 and written[-1] > 9_900
