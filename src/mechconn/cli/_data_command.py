"""`mechconn data`: samples under a cue, or under interventions, to see what the numbers are about."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechconn.cli._app import Root, app, check_target, suggest
from mechconn.cli._interventions_option import HELP, parse_interventions

if TYPE_CHECKING:
    from mechconn.report import InterventionPreview

CUE_SHEET, SHEET = Path("cues.png"), Path("interventions.png")
"""Where sheets go by default."""
PLAIN = (".txt", ".md")
"""Suffixes of files of samples in words."""


@app.command()
def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Image set by name, file or folder, with its split after #; or audit.toml."
        ),
    ],
    cue: Annotated[
        str | None,
        typer.Option(
            help="box (default), hue-box, dominoes, or package.module:Class of your own.",
            autocompletion=suggest("box", "hue-box", "dominoes"),
        ),
    ] = None,
    interventions: Annotated[
        str | None,
        typer.Option(help=HELP),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(help="Where the sheet of samples goes: PNG of images, .txt or .md of texts and tables."),
    ] = None,
    strength: Annotated[float | None, typer.Option(help="Of every intervention, in [0, 1].")] = None,
    samples: Annotated[int | None, typer.Option(help="How many are shown.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of the tokenizer that reads texts.")] = None,
    root: Root = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
) -> None:
    """Draw samples under a cue, or under interventions.

    The four splits of a cue, or what each intervention makes of the same rows.
    """
    from mechconn.core import check_count, collect_errors

    collect_errors(
        lambda: None if preview is None else check_target(preview, Path(source.partition("#")[0])),
        lambda: None if samples is None else check_count("samples", samples),
        lambda: _check_asked(source, cue, interventions, strength, tokenizer),
    )
    if interventions is None and not _is_config(source):
        _draw_cue(source, cue or "box", preview or CUE_SHEET, root, seed, samples)
        return
    _show_interventions(source, interventions, preview, strength, samples, tokenizer, root, seed)


def _is_config(source: str) -> bool:
    return Path(source).suffix == ".toml"


def _check_asked(
    source: str, cue: str | None, interventions: str | None, strength: float | None, tokenizer: Path | None
) -> None:
    """Raise where what is asked for does not go together."""
    from mechconn.core import check_range

    if strength is not None:
        check_range("strength", strength, 0.0, 1.0)
    shown = interventions is not None or _is_config(source)
    if cue is not None and shown:
        raise ValueError("a sheet shows a cue or interventions; leave out --cue, or --interventions")
    given = [name for name, value in (("--strength", strength), ("--tokenizer", tokenizer)) if value is not None]
    if given and not shown:
        raise ValueError(f"{given[0]} goes with --interventions, which is not given; pass --interventions all")


def _draw_cue(source: str, cue: str, target: Path, root: Path | None, seed: int, samples: int | None) -> None:
    from mechconn.core import write_atomically
    from mechconn.plotting import draw_sheet
    from mechconn.report import PICTURES, draw_preview

    check_target(target)
    pictures = draw_preview(source, cue, root=root, seed=seed, count=samples or PICTURES)
    write_atomically(target, draw_sheet(pictures, f"{source}, {cue} cue, seed {seed}: the same rows in every split"))
    sys.stdout.write(f"{target}\n")


def _show_interventions(
    source: str,
    asked: str | None,
    target: Path | None,
    strength: float | None,
    samples: int | None,
    tokenizer: Path | None,
    root: Path | None,
    seed: int,
) -> None:
    from mechconn.cli._measured_data import list_texts_told, load_measured, read_measured_config
    from mechconn.core import collect_errors
    from mechconn.datasets import read_tokenizer
    from mechconn.interventions import choose_interventions
    from mechconn.report import preview_interventions

    named, (config, folder) = collect_errors(
        lambda: None if asked is None else parse_interventions(asked), lambda: read_measured_config(source, root)
    )
    told = list_texts_told(config, folder, (), None, tokenizer)
    found = load_measured(config, folder, named, lambda: told, root, seed)
    chosen = choose_interventions(found.data, found.interventions, "keep")
    reader = told.get("tokenizer")
    shown = preview_interventions(
        found.data,
        chosen.functions,
        reference=found.name,
        seed=seed,
        strength=strength,
        count=samples,
        decode=None if reader is None else read_tokenizer(reader).own.decode,
    )
    title = f"{found.source}, seed {seed}{'' if strength is None else f', strength {strength:g}'}"
    where = _write_preview(shown, f"{title}: the same rows under every intervention", target)
    changes = [f"{name} changes labels: {why}." for name, why in chosen.changing.items()]
    left_out = {**chosen.left_out, **shown.left_out}
    for line in (*changes, *(f"{name} is left out: {why}." for name, why in left_out.items())):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write("" if where is None else f"{where}\n")


def _write_preview(shown: InterventionPreview, title: str, target: Path | None) -> Path | None:
    """Write the sheet, or print it where it is text and no file is named; where it went."""
    from mechconn.core import write_atomically
    from mechconn.plotting import draw_sheet

    plain = target is not None and target.suffix in PLAIN
    if shown.pictures:
        if plain:
            raise ValueError(f"images are drawn, and {target} is a file of text; name a file that ends in .png")
        target = target or SHEET
        check_target(target)
        write_atomically(target, draw_sheet(shown.pictures, title))
        return target
    if target is None:
        sys.stdout.write(shown.text + "\n")
        return None
    if not plain:
        raise ValueError(f"texts and tables have no pictures, got {target}; name a .txt or .md file, or none to print")
    text = f"{title}\n\n{shown.text}"
    write_atomically(target, (f"```\n{text}```\n" if target.suffix == ".md" else text).encode())
    return target
