"""The README's examples, typed as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_examples_run_and_tell_the_story(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    example, more, compared, aligned, audited, *_ = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^  rand_cue: -0\.\d+ \(95 % interval .*\), sensitive, adjusted p = ", printed, re.M)
    assert "Barrier(height=" in printed
    assert printed.splitlines()[-1] in ("invariant", "sensitive", "undetermined")
    exec(compile(more, "README.md", "exec"), names)
    assert "interval=(" in capsys.readouterr().out
    assert (tmp_path / "path.png").read_bytes().startswith(b"\x89PNG")
    exec(compile(compared, "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines()[0] == "dissimilar: A is sensitive to rand_cue and B is invariant to it"
    exec(compile(aligned, "README.md", "exec"), names)
    assert "activation matching: distance" in capsys.readouterr().out
    exec(compile(audited, "README.md", "exec"), names)
    assert "The mechanisms of theta_C (A) and theta_NC (B) are dissimilar" in capsys.readouterr().out
    assert "<!doctype html>" in (tmp_path / "audit.html").read_text(encoding="utf-8")
