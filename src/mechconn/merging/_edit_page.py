"""What a search for the sparsest edit looks like: records, tables, and accuracies over sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mechconn.merging._edit_sentences import describe_edit_claim, write_percent
from mechconn.plotting import (
    Cell,
    Drawing,
    Section,
    Table,
    choose_line_style,
    escape_label,
    format_interval,
    make_panels,
    place_legend,
    strip_axes,
)

if TYPE_CHECKING:
    from mechconn.merging._sparsest_edit_result import SparsestEdit
    from mechconn.plotting import Axes, Figure

STYLES = {"shown": "holds", "refuted": "does-not-hold", "open": ""}


def list_edit_rows(found: SparsestEdit) -> list[dict[str, Any]]:
    """One record per split."""
    return [
        {
            "split": split,
            "before": own.before,
            "before_low": own.before_interval[0],
            "before_high": own.before_interval[1],
            "after": own.after,
            "after_low": None if own.after_interval is None else own.after_interval[0],
            "after_high": None if own.after_interval is None else own.after_interval[1],
            "random_least": min(own.random, default=None),
            "random_most": max(own.random, default=None),
            "edited": found.edited,
            "share": found.share,
        }
        for split, own in found.splits.items()
    ]


def make_edit_sections(found: SparsestEdit) -> Iterator[Section]:
    """The splits, the claims, the layers, and what was tried."""
    yield _make_splits_section(found)
    if found.claims:
        yield _make_claims_section(found)
    if found.chosen is not None:
        yield _make_layers_section(found)
    if found.tried:
        yield _make_tried_section(found)


def _make_splits_section(found: SparsestEdit) -> Section:
    draws = max((len(own.random) for own in found.splits.values()), default=0)
    rows = [
        (
            split,
            _write_cell(own.before, own.before_interval),
            _write_cell(own.after, own.after_interval),
            *(_write_cell(*pair) for pair in zip(own.random, own.random_intervals, strict=True)),
        )
        for split, own in found.splits.items()
    ]
    columns = ("split", "before", "edited", *(f"random edit {number + 1}" for number in range(draws)))
    note = (
        f"Accuracy in percent over {found.over} that did not choose the edit; all intervals of this table cover "
        "together with 95 %, those of random edits given the draws."
    )
    return Section("Before and after", tables=(Table(columns, tuple(rows)),), note=note)


def _write_cell(value: float | None, interval: tuple[float, float] | None) -> Cell:
    return Cell("none") if value is None else Cell(f"{100 * value:.1f}", format_interval(interval, 100, ".1f"))


def _make_claims_section(found: SparsestEdit) -> Section:
    rows = [
        (
            describe_edit_claim(found, claim),
            Cell(
                claim.standing,
                "" if claim.to_settle is None else f"about {claim.to_settle:,} {found.over} would settle it",
                STYLES[claim.standing],
            ),
            Cell(f"{100 * claim.excess:+.1f}", format_interval(claim.interval, 100, ".1f")),
            f"{100 * claim.upper:+.1f}",
        )
        for claim in found.claims
    ]
    columns = ("claim", "on the rows that judge", "excess", "upper bound")
    note = (
        "Excess: points by which the claim holds, with its 95 % interval. Shown: its lower end is not below 0; "
        "refuted: the upper bound at 95 % for all claims together is. The verdict is wrong with probability 5 % at "
        "most."
    )
    return Section("What is claimed of the edit", tables=(Table(columns, tuple(rows)),), note=note)


def _make_layers_section(found: SparsestEdit) -> Section:
    rows = tuple(
        (name, f"{layer.edited:,}", f"{layer.total:,}", write_percent(layer.share))
        for name, layer in found.layers.items()
    )
    return Section("Where it edits", tables=(Table(("weight", found.unit, "of", "share"), rows),))


def _make_tried_section(found: SparsestEdit) -> Section:
    splits = list(found.splits)
    rows = tuple(
        (
            f"{edit.count:,}" + (" (chosen)" if number == found.chosen else ""),
            write_percent(edit.count / found.total),
            f"{edit.cue_share:g}",
            f"{edit.clean_share:g}",
            *(f"{100 * edit.accuracies[split]:.1f}" for split in splits),
            edit.passes,
        )
        for number, edit in enumerate(found.tried)
    )
    columns = (found.unit, "share", "q", "p", *splits, "at chance, the rest kept")
    said = ", ".join(f"{edit.count} {found.unit}: {edit.accuracies[found.target]:.2f}" for edit in found.tried[:5])
    figure = Drawing(lambda: draw_edits(found), f"Accuracies over sizes of edits; of {found.target} {said}.")
    note = "Accuracy in percent on the rows that choose. The search ends at the first edit that is shown to do both."
    return Section("What was tried", figures=(figure,), tables=(Table(columns, rows),), note=note)


def draw_edits(found: SparsestEdit, ax: Axes | None = None) -> Figure:
    """Accuracies over the share edited; chance and the chosen edit are marked."""
    figure, (axes,) = make_panels(1, (5.5, 4.0), ax)
    for number, split in enumerate(found.splits):
        style = choose_line_style(split, number)
        across = [100 * edit.count / found.total for edit in found.tried]
        axes.plot(across, [100 * edit.accuracies[split] for edit in found.tried], linestyle="none", **style)
    axes.axhline(100 * found.floor, color="grey", linestyle=":", label="chance")
    if found.chosen is not None:
        share = 100 * found.tried[found.chosen].count / found.total
        axes.axvline(share, color="black", linestyle="--", label="chosen")
    axes.set_xscale("log" if found.tried else "linear")
    axes.set_xlabel(f"{found.unit} edited (%)")
    axes.set_ylabel(escape_label("accuracy on the rows that choose (%)"))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure
