"""What all commands share: version, completion, errors, and the page that documents them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

import mechconn as mc
from mechconn.cli import main
from mechconn.cli._app import COMMANDS, MOST_CHARACTERS, MOST_LINES, app
from mechconn.cli._run_command import RECIPES
from mechconn.paper import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def list_commands() -> dict[str, set[str]]:
    """Command -> its long options."""
    group: Any = typer.main.get_command(app)
    return {
        name: {word for own in command.params for word in own.opts if word.startswith("--")}
        for name, command in group.commands.items()
    }


def test_the_version_of_both_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"mechconn {version('mechconn')}, torch {version('torch')}\n"


def test_the_page_documents_every_command_and_option() -> None:
    commands = list_commands()
    assert set(commands) == set(COMMANDS)
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    usages = re.split(r"^mechconn ", "".join(block for block in blocks if "$ " not in block), flags=re.MULTILINE)
    documented: dict[str, set[str]] = {}
    for usage in usages:
        name = usage.split(maxsplit=1)[0] if usage.strip() else ""
        if name in commands:
            options = set(re.findall(r"--[a-z][a-z-]*", usage)) | (
                {"--output"} if " -o " in usage or "[-o " in usage else set()
            )
            documented[name] = documented.get(name, set()) | options
    assert documented == commands


def test_recipes_are_those_that_are_registered() -> None:
    assert set(RECIPES) == {name for name, kind in Recipe.registered.items() if kind.__module__.startswith("mechconn.")}


def complete(*words: str) -> list[str]:
    """What bash is offered for the last of some words."""
    asked = {
        "_MECHCONN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["mechconn", *words]),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-m", "mechconn"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_commands_options_and_their_words_are_completed() -> None:
    assert complete("") == list(COMMANDS)
    assert complete("audit", "--u") == ["--until"]
    assert complete("run", "table") == ["table1", "table3", "table4"]


def test_what_is_not_there_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    expected = PAGE.partition("$ mechconn audit")[2]
    words, *lines = expected.partition("```")[0].strip().splitlines()
    assert run("audit", *words.split()) == 2
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("debug", [False, True])
def test_at_most_20_lines_and_all_with_debug(debug: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [f"wrong_{number} = 1" for number in range(99)] + [f'names = "{"x" * 5000}"']
    (tmp_path / "audit.toml").write_text("\n".join(wrong), encoding="utf-8")
    words = ("audit", "nowhere", "nowhere", "--data", str(tmp_path / "audit.toml"))
    assert run(*words, *(["--debug"] if debug else [])) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mechconn: ")]
    assert "nowhere is no file" in lines[0]
    assert (len(lines) == MOST_LINES) != debug
    if not debug:
        assert re.search(r"and \d+ more mistakes; --debug prints all of them", lines[-1])
        assert max(map(len, lines)) < MOST_CHARACTERS + 100


@pytest.mark.parametrize("debug", [False, True])
def test_a_long_line_keeps_what_is_wrong_and_what_to_do(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    name = "z" * 5000
    assert run("run", name, *(["--debug"] if debug else [])) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("mechconn: recipe must be one of 'arithmetic', ")
    assert shown.endswith("zzz'; a recipe of your own is named as 'package.module:Class'")
    if debug:
        assert name in shown
    else:
        assert len(shown) < MOST_CHARACTERS + 100
        assert re.search(r"z \.\.\. \(\d{4} characters left out; --debug prints them\) \.\.\. z", shown)


def test_the_version_without_metadata_is_that_of_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", refuse)
    assert run("--version") == 0
    assert capsys.readouterr().out == f"mechconn {mc.__version__}, torch {torch.__version__}\n"
