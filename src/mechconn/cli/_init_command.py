"""`mechconn init`: a commented audit.toml for what a folder holds."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechconn.cli._app import app, check_target

if TYPE_CHECKING:
    from mechconn.cli._init_plan import AuditPlan
    from mechconn.cli._init_scan import FoundFiles

HEAD = (
    "What mechconn audit A B --data FILE reads and measures. Paths are relative to this file.",
    'Lines that begin with "#" and a name are settings that are not made. They show the default, or an example where '
    'there is none; without the "#" they count. mechconn schema audit prints all of it as JSON Schema.',
)


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Holds the data and, as a rule, the models; folders in it too."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the configuration goes.")] = Path("audit.toml"),
    by: Annotated[
        str | None, typer.Option(help="A column that names the shortcut: rows are divided by it, and none are changed.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented audit.toml for what a folder holds."""
    from mechconn.cli._audit_config import AuditConfig
    from mechconn.cli._config_text import write_config_text
    from mechconn.cli._init_plan import plan_audit
    from mechconn.cli._init_scan import scan_folder
    from mechconn.core import collect_errors, write_atomically

    *_, found = collect_errors(
        lambda: check_target(output), lambda: _check_new(output, force), lambda: scan_folder(folder)
    )
    check_target(output, *(own.place for own in found.data), *found.models)
    plan = plan_audit(found, output.absolute().parent, by)
    text = write_config_text(AuditConfig, plan.chosen, plan.proposed, plan.notes, HEAD)
    write_atomically(output, text.encode())
    sys.stdout.write("\n".join(_describe(found, plan, folder, output)) + "\n")


def _check_new(output: Path, force: bool) -> None:
    """Raise where a file is there, which is never written over unasked."""
    if output.exists() and not force:
        raise ValueError(f"{output} is there already; name another file with -o, or pass --force to write over it")


def _describe(found: FoundFiles, plan: AuditPlan, folder: Path, output: Path) -> Iterator[str]:
    """What was found, what was written, and what to do next."""
    from mechconn.cli._init_scan import locate

    nothing = not (found.data or found.models)
    yield f"Found nothing in {folder} that an audit reads." if nothing else f"Found in {folder}:"
    for own in found.data:
        columns = f"; columns {', '.join(own.columns)}" if own.columns else ""
        yield f"  {locate(own.place, Path())}: {own.kind}, {', '.join(own.splits)}{columns}"
        yield from (f"  {locate(own.place, Path())}#{name}: not read ({why})" for name, why in own.left_out.items())
    for model in found.models:
        yield f"  {locate(model, Path())}: {'a saved model' if model.is_dir() else 'weights'}"
    for place, why in found.unread:
        yield f"  {locate(place, Path())}: not read ({why})"
    yield f"Wrote {output}: {_describe_splits(plan)}."
    yield from (f"To be added: {line}." for line in plan.lacks)
    for column in plan.dividing:
        words = ["mechconn", "init", str(folder), "--by", column, "-o", str(output), "--force"]
        yield f"Is {column} the shortcut? {shlex.join(words)}"
    if len(found.models) > 1:
        yield "The model that is named first is A: the one that B was made from, or that you use now."
    yield f"Next: {_make_command(found, output)}"
    if plan.chosen["splits"]:
        yield f"Or, for one model: {_make_question(found, output)}"


def _describe_splits(plan: AuditPlan) -> str:
    """The splits, and what is made of them."""
    splits, by = ", ".join(plan.chosen["splits"]) or "none", plan.chosen.get("by")
    if by is not None:
        return f"split {splits}, divided by {by}"
    made = ", ".join(plan.chosen.get("interventions", ()))
    return f"split {splits}, and {made} made of it" if made else f"splits {splits}"


def _make_command(found: FoundFiles, output: Path) -> str:
    """The audit of the first two models."""
    from mechconn.cli._init_scan import locate

    models = [*(locate(model, Path()) for model in found.models[:2]), "A", "B"][:2]
    if len(found.models) == 1:
        models = [locate(found.models[0], Path()), "B"]
    bare = not found.models or any(model.is_file() for model in found.models[:2])
    factory = f" --model {_name_factory()}" if bare else ""
    return f"mechconn audit {shlex.join(models)} --data {shlex.quote(str(output))}{factory} -o audit.html"


def _name_factory() -> str:
    """What builds the network, where the working directory leaves no doubt; else a placeholder."""
    from mechconn.cli._init_factory import find_factories

    found = find_factories(Path())
    return found[0] if len(found) == 1 else "package.module:function"


def _make_question(found: FoundFiles, output: Path) -> str:
    """What the first model relies on."""
    from mechconn.cli._init_scan import locate

    first = next(iter(found.models), None)
    named = "A" if first is None else shlex.quote(locate(first, Path()))
    factory = f" --model {_name_factory()}" if first is None or first.is_file() else ""
    return f"mechconn reliances {named} {shlex.quote(str(output))}{factory} -o reliances.html"
