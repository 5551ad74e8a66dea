"""The examples of the page on the theory, typed as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def examples(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_pages_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for example in examples(text):
        exec(compile(example, "theory.md", "exec"), names)
    printed = capsys.readouterr().out
    # The page shows what its last example prints.
    assert printed.strip() in text
    assert "That is as the statement says." in printed


def test_the_pages_pictures_are_there_and_small() -> None:
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\((\w+\.png)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        assert 0 < (ROOT / "docs" / picture).stat().st_size < 200_000
