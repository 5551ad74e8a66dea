"""A full disk is one clear error, whichever write it meets, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from mechconn.core import _atomic as files
from mechconn.paper import RunStore
from mechconn.store import DiskFullError, StepOutput
from mechconn.store._disk_errors import explain_full_disk
from work import made, run_record, step


class Disk:
    """Stands in for os: the n-th fsync finds no space."""

    def __init__(self, writes: int, code: int) -> None:
        self.left, self.code = writes, code

    def fsync(self, handle: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.code, os.strerror(self.code))

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("writes", range(3))
def test_a_step(writes: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", Disk(writes, code))
        with pytest.raises(DiskFullError, match=r"is full .*free some space or pass another folder, --store"):
            store.step(step(), lambda _: made())
    assert not list(tmp_path.glob("steps/*")) and not list(tmp_path.glob("drafts/*"))
    assert store.step(step(), lambda _: made()).computed


def test_a_checkpoint_inside_a_step(tmp_path: Path) -> None:
    def full(_: Path) -> StepOutput:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="No space left on device"):
        RunStore(tmp_path).step(step(), full)


def test_other_errors_pass(tmp_path: Path) -> None:
    def fails(_: Path) -> StepOutput:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        RunStore(tmp_path).step(step(), fails)


def test_a_run_keeps_its_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    store.save(run_record("run-a", "stopped"))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", Disk(0, errno.ENOSPC))
        with pytest.raises(DiskFullError):
            store.save(run_record("run-a", "done"))
    assert store.show("run-a").status == "stopped"
    assert [file.name for file in (tmp_path / "runs" / "run-a").iterdir()] == ["record.json"]


FILLING = """
import sys, torch
from pathlib import Path
from mechconn.store import StepOutput, Store
from mechconn.store import DiskFullError
from work import made, step
root = Path(sys.argv[1])
store = Store(root)
store.step(step(), lambda _: made())
try:
    store.step(step(1), lambda _: StepOutput({}, {"weights": {"w": torch.ones(10**6)}}))
except DiskFullError as error:
    print(error)
print(sorted(place.name for place in (root / "steps").iterdir()) == [step().key], list((root / "drafts").iterdir()))
print(store.step(step(2), lambda _: made()).computed)
"""


def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    shell = f'mount -t tmpfs -o size=1m tmpfs "$2" && exec "{sys.executable}" -c "$1" "$2"'
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here, to mount a small disk with")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, "sh", FILLING, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine does not let a process mount a small disk")
    assert done.stderr == ""
    error, clean, goes_on = done.stdout.splitlines()
    assert "is full (No space left on device)" in error and "free some space" in error
    assert (clean, goes_on) == ("True []", "True")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_store_that_may_not_be_written_to(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be read, a run that was killed too; to write there is one clear line."""
    store = RunStore(tmp_path)
    store.save(run_record("run-a", status="running"))

    def refused(lock: FileLock, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), lock.lock_file)

    monkeypatch.setattr(FileLock, "acquire", refused)
    assert [run.id for run in store.runs()] == ["run-a"] and store.show("run-a").status == "running"
    for write in (lambda: store.step(step(), lambda _: made()), lambda: store.remove("run-a")):
        with pytest.raises(PermissionError) as caught:
            write()
        expected = f"the store {tmp_path} cannot be written to ({os.strerror(code)}); pass another folder, --store"
        assert str(caught.value) == expected
    with pytest.raises(PermissionError, match=r"^elsewhere$"):
        with explain_full_disk(tmp_path):
            raise PermissionError("elsewhere")


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    with pytest.raises(
        DiskFullError, match=r"would be larger than this system allows \(File too large; see ulimit -f\)"
    ):
        with explain_full_disk(tmp_path):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
