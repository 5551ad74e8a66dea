"""`mechconn page`: the page of any saved result, and of what `mechconn audit --json` printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

import mechconn as mc
from mechconn.cli import main
from zoo import build, mlp, rows

MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
"""
AUDIT = "audit a.safetensors b.safetensors --data audit.toml --model page_models:build -o audit.html".split()


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    suite = mc.Suite({"cue": rows(20), "rand_cue": rows(20, 2)})
    mc.measure_invariance(build(mlp), suite).save("found.json")
    return tmp_path / "found.json"


def test_the_page_of_a_saved_result(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = saved.read_bytes()
    assert run("page", "found.json", "-o", "found.html") == 0
    assert capsys.readouterr().out == "Report: found.html\n"
    mc.save_report(mc.load_result(saved), "expected.html")
    assert Path("found.html").read_bytes() == Path("expected.html").read_bytes()
    assert run("page", saved) == 0 and Path("page.html").read_bytes() == Path("expected.html").read_bytes()
    assert saved.read_bytes() == before


def test_the_page_of_what_an_audit_without_samples_printed_is_the_audits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page_models.py").write_text(MODELS, encoding="utf-8")
    for seed, name in enumerate("ab"):
        save_file(build(mlp, seed).state_dict(), f"{name}.safetensors")
    for name, (x, y) in (("cue", rows(20)), ("rand_cue", rows(20, 2))):
        save_file({"x": x, "y": y}, f"{name}.safetensors")
    Path("audit.toml").write_text(
        "points = 3\nsamples = false\n[splits]\ncue = 'cue.safetensors'\nrand_cue = 'rand_cue.safetensors'\n",
        encoding="utf-8",
    )
    assert run(*AUDIT, "--json") == 0
    printed = capsys.readouterr().out
    Path("audit.json").write_text(printed, encoding="utf-8")
    assert json.loads(printed)["kind"] == "audit" and printed.count("\n") == 1
    assert run("page", "audit.json", "-o", "again.html") == 0
    assert Path("again.html").read_bytes() == Path("audit.html").read_bytes()


WRONG: dict[str, tuple[str, str]] = {
    "no JSON": ("nothing", "found.json is no JSON (Expecting value: line 1 column 1 (char 0)); name a file that"),
    "a list": (
        "[]",
        "found.json holds no result but a list; name a file that result.save(file), or --json of audit, reliances,",
    ),
    "no kind": ("{}", "found.json names no kind of result; pass what to_dict() gave or save() wrote"),
    "a demo of 0.1.0": (
        '{"kind": "demo", "schema_version": 2}',
        "found.json: mechconn 0.1.0 wrote this demo, a kind that this version does not read; run mechconn demo again",
    ),
    "newer": ('{"kind": "audit", "schema_version": 9}', "found.json: this audit has schema version 9, and this"),
    "fields missing": ('{"kind": "audit", "schema_version": 3}', "found.json: these values are no audit: comparison: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_one_line_and_status_two(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content, expected = WRONG[case]
    Path("found.json").write_text(content, encoding="utf-8")
    assert run("page", "found.json", "-o", "page.html") == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("mechconn: ") and expected in line and shown.out == ""
    assert [file.name for file in tmp_path.iterdir()] == ["found.json"]


def test_what_is_not_there_or_cannot_be_written(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("page", "none.json", "-o", "no/such/page.html") == 2
    first, second = capsys.readouterr().err.splitlines()  # both mistakes at once
    assert first.startswith("mechconn: no file none.json; name one that") and "no/such" in second
    assert run("page") == 2
    assert capsys.readouterr().err == "mechconn: Missing argument 'RESULT'.\n"


@pytest.mark.parametrize("target", ["found.json", "./found.json", "link.json"])
def test_what_is_read_is_not_written_over(target: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link.json").symlink_to(saved)
    before = saved.read_bytes()
    assert run("page", "found.json", "-o", target) == 2
    assert capsys.readouterr().err.count("\n") == 1 and saved.read_bytes() == before
