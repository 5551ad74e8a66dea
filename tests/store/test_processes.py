"""Two processes on one store: the same work is done once, and a killed process stands in nobody's way."""

from __future__ import annotations

from pathlib import Path

from mechconn.paper import RunStore
from work import child, heard, kill, made, step

WAITING = """
import sys
from pathlib import Path
from mechconn.store import Store
from work import made, step
def compute(folder):
    (folder / "half").write_text("done")
    print("computing", flush=True)
    sys.stdin.readline()
    return made(int(sys.argv[2]))
print(Store(Path(sys.argv[1])).step(step(), compute).numbers["number"], flush=True)
"""

READING = """
import sys
from pathlib import Path
from mechconn.store import Store
from work import made, step
store = Store(Path(sys.argv[1]))
print("starting", flush=True)
found = store.step(step(), lambda folder: made(2))
print(found.computed, found.numbers["number"], flush=True)
"""


def test_the_second_waits_and_reads(tmp_path: Path) -> None:
    first = child(WAITING, tmp_path, 1)
    assert heard(first) == "computing"
    second = child(READING, tmp_path)
    assert heard(second) == "starting"
    assert not (tmp_path / "steps" / step().key).exists()
    assert first.communicate("go\n")[0] == "1\n"
    assert second.communicate()[0] == "False 1\n"


def test_the_lock_and_the_drafts_of_a_killed_process_are_no_hindrance(tmp_path: Path) -> None:
    first = child(WAITING, tmp_path, 1)
    assert heard(first) == "computing"
    second = child(READING, tmp_path)
    assert heard(second) == "starting"
    kill(first)
    assert second.communicate()[0] == "True 2\n"
    assert not RunStore(tmp_path).step(step(), lambda _: made()).computed


def test_killed_between_its_files_and_their_place(tmp_path: Path) -> None:
    """The moment before the rename: every file is there, the step is not."""
    code = WAITING.replace("print(Store", "import os\nos.rename = lambda *_: os.kill(os.getpid(), 9)\nprint(Store")
    process = child(code, tmp_path, 1)
    assert heard(process) == "computing"
    process.communicate("go\n")
    assert process.returncode == -9
    assert len(list(tmp_path.glob("drafts/*/*"))) == 2 and not list(tmp_path.glob("steps/*"))
    found = RunStore(tmp_path).step(step(), lambda _: made(3))
    assert found.computed and found.numbers["number"] == 3
    assert not list(tmp_path.glob("drafts/*"))


def test_a_run_whose_process_was_killed_has_stopped(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from mechconn.paper import RunStore
from work import run_record
store = RunStore(Path(sys.argv[1]))
with store.running("run-a") as alone:
    store.save(run_record("run-a", "running"))
    print(alone, flush=True)
    sys.stdin.readline()
"""
    process = child(code, tmp_path)
    assert heard(process) == "True"
    assert RunStore(tmp_path).show("run-a").status == "running"
    kill(process)
    assert RunStore(tmp_path).show("run-a").status == "stopped"
