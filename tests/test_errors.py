"""The texts of the errors: one line each, in one voice, none left over. What each says is tested where it is raised."""

from __future__ import annotations

from pathlib import Path
from string import Formatter

import pytest

from mechconn import _errors

TEXTS = {name: text for name, text in vars(_errors).items() if name.isupper()}
SOURCE = Path(_errors.__file__).parent


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_one_line_that_names_what_it_is_about(name: str) -> None:
    text = TEXTS[name]
    assert isinstance(text, str) and "\n" not in text
    assert not text.endswith(".") and text.strip() == text
    assert [field for _, field, _, _ in Formatter().parse(text) if field]


def test_every_text_is_used() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    assert TEXTS
    assert [name for name in TEXTS if f"_errors.{name}" not in source] == []
