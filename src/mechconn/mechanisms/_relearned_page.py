"""What relearning is shown as: the curves, a table of the runs, and records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mechconn.mechanisms._invariance_page import make_invariance_section
from mechconn.mechanisms._relearned_sentences import RELEARNED, describe_plan, write_points
from mechconn.plotting import Cell, Drawing, Section, Table, draw_step_curves, format_interval, make_examples_section

if TYPE_CHECKING:
    from mechconn.mechanisms._relearned import Relearned, RelearningCurve, RelearningRun
    from mechconn.plotting import Axes, Figure

STYLES = {"gone": "invariant", "hidden": "sensitive", "uses": "sensitive"}


def list_curves(found: Relearned) -> dict[str, RelearningCurve]:
    """Name -> every curve: of the runs, what each is compared with, and the others."""
    curves: dict[str, RelearningCurve] = {}
    for number, run in enumerate(found.runs):
        which = "" if len(found.runs) == 1 else f" {number}"
        curves |= {f"model{which}": run.curve, f"{found.compared_with}{which}": run.against}
    return curves | dict(found.others)


def list_relearning_rows(found: Relearned) -> list[dict[str, Any]]:
    """One record per network, seed and step."""
    return [
        {"network": name, "lr": curve.lr, "seed": seed, "step": step, "accuracy": accuracy}
        for name, curve in list_curves(found).items()
        for seed, accuracies in enumerate(curve.accuracy)
        for step, accuracy in zip(found.steps, accuracies, strict=True)
    ]


def make_relearning_sections(found: Relearned) -> Iterator[Section]:
    """Samples, the curves with their table, the runs, and what each relied on before."""
    yield from make_examples_section(found.examples)
    split = found.split
    drawing = Drawing(lambda: draw_relearning(found), describe_curves(found))
    rows = tuple(
        (name, f"{curve.lr:g}", *map(_make_accuracy_cell, curve.means, curve.interval))
        for name, curve in list_curves(found).items()
    )
    table = Table(("network", "rate", *(f"step {step}" for step in found.steps)), rows)
    unit = found.runs[0].before.over
    unit = "clusters of rows" if unit == "clusters" else "rows"
    note = (
        f"Accuracy on {split} in %, mean over {found.settings['seeds']} relearning seeds, with 95 % intervals over "
        f"{unit} (betting). Every network is tuned on the same rows, in the same order, at the rate that is shown."
    )
    notes = "".join(f" Note: {text}." for text in found.notes)
    tables = (_tabulate_runs(found), table)
    yield Section("Relearning", figures=(drawing,), tables=tables, note=note + notes, anchor=RELEARNED)
    for number, run in enumerate(found.runs):
        section = make_invariance_section(run.before)
        which = "" if len(found.runs) == 1 else f", run {number}"
        yield Section(
            f"Before relearning{which}", section.text, section.figures, section.tables, note=section.note,
            folded=len(found.runs) > 1, anchor=section.anchor if len(found.runs) == 1 else "",
        )  # fmt: skip


def _tabulate_runs(found: Relearned) -> Table:
    """A row for each training run."""
    columns = ("run", "state", "relearning", f"excess over {found.compared_with}", "before any step", "to settle")
    rows = tuple(_list_run(found, number, run) for number, run in enumerate(found.runs))
    return Table(columns, rows, words=frozenset({5}))


def _list_run(found: Relearned, number: int, run: RelearningRun) -> tuple[Cell, ...]:
    state = found.states[number]
    return (
        Cell(str(number)),
        Cell(state, style=STYLES.get(state, "")),
        Cell(run.verdict, style=STYLES.get(run.verdict, "")),
        Cell(write_points(run.excess), format_interval(run.interval, 100, "+.1f")),
        Cell(write_points(run.at_start), format_interval(run.at_start_interval, 100, "+.1f")),
        Cell(describe_plan(run)),
    )


def _make_accuracy_cell(mean: float, interval: tuple[float, float]) -> Cell:
    return Cell(f"{100 * mean:.1f}", format_interval(interval, 100, ".1f"))


def draw_relearning(found: Relearned, ax: Axes | None = None) -> Figure:
    """Accuracy by step: means over seeds with their intervals over rows."""
    curves = {
        name: [(100 * mean, 100 * low, 100 * high) for mean, (low, high) in zip(c.means, c.interval, strict=True)]
        for name, c in list_curves(found).items()
    }
    return draw_step_curves(found.steps, curves, f"accuracy on {found.split} (%)", ax=ax)


def describe_curves(found: Relearned) -> str:
    """What the picture shows, for those who do not see it."""
    parts = (
        f"{name} {', '.join(f'{100 * mean:.1f}' for mean in curve.means)} %"
        for name, curve in list_curves(found).items()
    )
    steps = ", ".join(map(str, found.steps))
    return f"Accuracy on {found.split} after {steps} steps of relearning: {'; '.join(parts)}."


def list_relearning_sections(found: Mapping[str, Relearned]) -> list[Section]:
    """Several networks or methods side by side: the curves and a row for each; empty where there are none."""
    if not found:
        return []
    first = next(iter(found.values()))
    split, last = first.split, first.steps[-1]
    curves = {name: _average_curves(own, "curve") for name, own in found.items()}
    beside = {name: _average_curves(own, "against") for name, own in found.items()}
    caption = f"Dashed: the {first.compared_with} of each. Bands: {_describe_bands(first)}."
    note = f"Before: at step 0; after: at step {last}."
    drawing = Drawing(
        lambda: draw_step_curves(first.steps, curves, f"accuracy on {split} (%)", beside),
        "; ".join(f"{name} {', '.join(f'{mean:.1f}' for mean, _, _ in curve)} %" for name, curve in curves.items()),
        caption,
    )
    several = len(first.runs) > 1
    verdicts = ("hidden", "gone", "undetermined") if several else ("relearning",)
    columns = (
        "", "state", *verdicts, "excess (points)", f"{split} before (%)", "after", f"{first.compared_with} after",
    )  # fmt: skip
    rows = tuple(
        (name, *_list_verdicts(own, several), Cell(f"{100 * own.excess:+.1f}", _write_bounds(own)), *_list_ends(own))
        for name, own in found.items()
    )
    notes = " ".join(f"Note on {name}: {text}." for name, own in found.items() for text in own.notes)
    tables = (Table(columns, rows, note),)
    return [Section("Gone or hidden", first.why, (drawing,), tables, note=notes, anchor=RELEARNED)]


def _describe_bands(found: Relearned) -> str:
    return "the least and the largest run" if len(found.runs) > 1 else "95 % intervals over rows"


def _average_curves(found: Relearned, which: str) -> list[tuple[float, float, float]]:
    """Step by step the mean over runs in %, with the least and the largest run; of one run its interval over rows."""
    curves: list[RelearningCurve] = [getattr(run, which) for run in found.runs]
    if len(curves) == 1:
        (only,) = curves
        return [(100 * m, 100 * low, 100 * high) for m, (low, high) in zip(only.means, only.interval, strict=True)]
    return [(100 * fmean(v), 100 * min(v), 100 * max(v)) for v in zip(*(c.means for c in curves), strict=True)]


def _list_verdicts(found: Relearned, several: bool) -> list[Cell]:
    """The states of the runs, and what relearning says: the verdict of one, of several how many have each."""
    states = ", ".join(dict.fromkeys(found.states))
    said = [Cell(found.verdict, style=STYLES.get(found.verdict, ""))]
    if several:
        said = [Cell(f"{found.count(v)} of {len(found.runs)}") for v in ("hidden", "gone", "undetermined")]
    return [Cell(states, style=STYLES.get(states, "")), *said]


RELEARNING_COLUMNS = ("state", "excess (points)")


def make_relearning_cells(found: Relearned) -> tuple[Cell, Cell]:
    """What networks do with the mechanism, of several runs in how many it is hidden; and the mean excess."""
    state, runs = ", ".join(dict.fromkeys(found.states)), len(found.runs)
    small = "" if runs == 1 else f"hidden in {found.count('hidden')} of {runs}"
    excess = Cell(f"{100 * found.excess:+.1f}", _write_bounds(found))
    return Cell(state, small, style=STYLES.get(state, "")), excess


def _write_bounds(found: Relearned) -> str:
    interval = found.runs[0].interval if found.mean_excess is None else found.mean_excess
    return format_interval(interval, 100, "+.1f")


def _list_ends(found: Relearned) -> list[str]:
    """Accuracies in %: before any step, after the last, and the control's after the last."""
    own, against = _average_curves(found, "curve"), _average_curves(found, "against")
    return [f"{mean:.1f}" for mean in (own[0][0], own[-1][0], against[-1][0])]
