"""The Ray engine: the same results, also when a worker is killed in the middle of a cell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechconn.paper import CellEngine, run_jobs
from work import HANGING, Work, log_of, refuse, two_steps

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mechconn[ray]'")

pytestmark = [
    pytest.mark.slow,
    # Ray leaves files and sockets to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

RAY = CellEngine("ray", 2, 1)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """One small cluster for all tests here, which sees what this process imports; an engine that finds one uses it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_worker_register_timeout_seconds", f"{HANGING:.0f}")  # on a busy machine workers start late
        ray.init(num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def test_the_same_results_when_a_worker_is_killed_mid_cell(tmp_path: Path) -> None:
    jobs = [Work(tmp_path, number, fatal=1) for number in range(4)]
    found = {number: future.result() for number, future in run_jobs(two_steps, jobs, RAY, print)}
    expected = {number: sum(range(6)) / 7 + 7 * number for number in range(4)}
    assert found == pytest.approx(expected, rel=1e-6)
    assert (tmp_path / "died").exists()
    assert log_of(tmp_path) == sorted([f"first {n}" for n in range(4)] + [f"second {n}" for n in range(4)])


def test_an_error_comes_as_it_was_raised() -> None:
    done = {number: future for number, future in run_jobs(refuse, [0, 1], RAY, print)}
    assert done[0].result() == 0
    with pytest.raises(ValueError, match=r"^1 is odd$"):
        done[1].result()


def test_a_recipe_gives_what_it_gives_here(tmp_path: Path) -> None:
    from mechconn.paper import run_plan
    from recipes import small_plan

    there = run_plan(small_plan(tmp_path / "ray", RAY))
    here = run_plan(small_plan(tmp_path / "inline", CellEngine("inline", 1, 1)))
    assert there.status == here.status == "done"
    assert there.results == here.results and there.id == here.id
