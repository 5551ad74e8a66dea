"""The README's first example, typed as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_first_example_runs_and_tells_the_story(capsys: pytest.CaptureFixture[str]):
    example, *_ = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "Effect(split='rand_cue'" in printed
    assert "Barrier(height=" in printed
    assert printed.splitlines()[-1] in ("invariant", "sensitive", "undetermined")
