"""Figures of runs: accuracy beside the published, paths, clean samples, widths; each also in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from mechconn.paper._run_tables import SeedMean, sort_splits
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import (
    LABELS,
    Drawing,
    choose_line_style,
    draw_histories,
    draw_saved_ends,
    draw_split_curves,
    escape_label,
    list_terms,
    make_figure,
    make_panel_grid,
    strip_axes,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

ValuesBySplit = Mapping[str, SeedMean]
RowsByName = Mapping[str, ValuesBySplit]
Shares = Mapping[str, Mapping[str, float]]
PUBLISHED = "hollow: published"
HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "linestyle": "none", "markersize": 7}


def draw_accuracy_figure(places: Mapping[str, RowsByName], published: Mapping[str, Shares]) -> Drawing:
    """Accuracy of every model on every split, one panel for each place; published values as hollow marks.

    Args:
        places: place -> model -> split -> accuracy.
        published: place -> model -> split -> accuracy.
    """
    words = [
        f"{place}: "
        + "; ".join(f"{name} {_describe_row(row, published.get(place, {}).get(name, {}))}" for name, row in r.items())
        for place, r in places.items()
    ]
    said = f"Test accuracy of every model on every split. {'. '.join(words)}."
    return Drawing(lambda: draw_accuracies(places, published), said)


def draw_accuracies(
    places: Mapping[str, RowsByName], published: Mapping[str, Shares], ax: Axes | None = None
) -> Figure:
    """Accuracy of every model on every split, one panel for each place; the first place alone into `ax`."""
    if ax is None:
        figure, panels = make_panel_grid(len(places), 3.4)
    else:
        figure, panels = cast("Figure", ax.get_figure()), [ax]
    for axes, (place, rows) in zip(panels, places.items(), strict=False):
        _draw_accuracy_panel(axes, rows, published.get(place, {}))
        axes.set_title(escape_label(place), fontsize=10)
    hollow = PUBLISHED if any(published.values()) else ""
    if ax is None:
        _draw_legend(figure, panels[0], hollow)
    else:
        ax.legend(frameon=False)
    return figure


def _draw_accuracy_panel(axes: Axes, rows: RowsByName, published: Shares) -> None:
    splits = sort_splits(split for row in rows.values() for split in row)
    for number, split in enumerate(splits):
        shift = (number - (len(splits) - 1) / 2) * 0.14
        style = _choose_style(split, number)
        _draw_marks(axes, [(x + shift, row[split]) for x, row in enumerate(rows.values()) if split in row], 100, style)
        theirs = [
            (x + shift, 100 * shares[split])
            for x, name in enumerate(rows)
            if split in (shares := published.get(name, {}))
        ]
        axes.plot(*_split_points(theirs), **{**style, **HOLLOW, "label": None})
    axes.set_xticks(range(len(rows)), [escape_label(_wrap_name(name)) for name in rows])
    axes.set_ylim(0, 104)
    axes.set_ylabel(LABELS["accuracy"])
    strip_axes(axes)


def draw_paths_figure(
    paths: Mapping[str, tuple[Sequence[float], Mapping[str, Mapping[str, Sequence[float]]]]],
    heights: RowsByName,
    end: str,
    saved: Mapping[str, Sequence[tuple[str, str, float, float]]],
    shifts: Mapping[str, str],
) -> Drawing:
    """Accuracy and loss along every path, a row of panels for each.

    Args:
        paths: path -> (t, measure -> split -> values).
        heights: path -> split -> barrier in nats.
        end: what stands at t = 1, where it is the same for all; "" takes the path's own name.
        saved: path -> (split, measure, t, value) of ends as they were saved, where the path's are others: open circles.
        shifts: path -> which of its ends are other networks than those saved, in a sentence.
    """
    measures = ("accuracy", "loss")

    def draw() -> Any:
        figure = make_figure(9.0, 2.7 * len(paths) + 0.5)
        rows = figure.subplots(len(paths), 2, squeeze=False)
        for panels, (name, (ts, measured)) in zip(rows, paths.items(), strict=True):
            for axes, measure in zip(panels, measures, strict=True):
                names = {split: abbreviate_split(split) for split in measured[measure]}
                draw_split_curves(axes, ts, measure, measured[measure], names=names)
                numbers = {split: number for number, split in enumerate(measured[measure])}
                draw_saved_ends(axes, measure, [found for found in saved.get(name, ()) if found[1] == measure], numbers)
                axes.set_ylabel("accuracy (%)" if measure == "accuracy" else "loss (nats)")
                axes.set_title(escape_label(name), fontsize=10, loc="left")
        for axes in rows[-1]:
            axes.set_xlabel(f"t, from theta_C (0) to {escape_label(end) if end else 'the other end'} (1)")
        _draw_legend(figure, rows[0][0], hollow="open circles: as saved" if saved else "")
        return figure

    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{abbreviate_split(split)} {_format_nats(value)}" for split, value in heights[name].items())
        for name in paths
    )
    said = "".join(f" {name}:{sentence}" for name, sentence in shifts.items())
    return Drawing(draw, f"Accuracy and loss along each path. Barriers in loss: {words}.{said}")


def draw_samples_figure(
    models: Mapping[str, Mapping[int, ValuesBySplit]], published: Mapping[str, Mapping[int, Mapping[str, float]]]
) -> Drawing:
    """Accuracy by the number of clean samples, one panel for each model; published values as hollow marks.

    Args:
        models: model -> clean samples -> split -> accuracy.
        published: model -> clean samples -> split -> accuracy.
    """

    def draw() -> Any:
        figure, panels = make_panel_grid(len(models), 3.2)
        for axes, (name, rows) in zip(panels, models.items(), strict=True):
            for number, split in enumerate(sort_splits(split for row in rows.values() for split in row)):
                style = _choose_style(split, number)
                _draw_marks(axes, [(count, row[split]) for count, row in rows.items()], 100, style, line="-")
                known = [(c, 100 * s[split]) for c, s in published.get(name, {}).items() if split in s]
                axes.plot(*_split_points(known), **{**style, **HOLLOW, "label": None})
            _set_count_axis(axes, list(rows))
            axes.set_ylim(0, 104)
            axes.set_title(escape_label(name), fontsize=10)
            axes.set_xlabel("clean samples")
            axes.set_ylabel(LABELS["accuracy"])
            strip_axes(axes)
        _draw_legend(figure, panels[0], hollow=PUBLISHED if any(published.values()) else "")
        return figure

    words = "; ".join(
        f"{name} with {count:,}: {_describe_row(row, published.get(name, {}).get(count, {}))}"
        for name, rows in models.items()
        for count, row in rows.items()
    )
    return Drawing(draw, f"Test accuracy by the number of clean samples. {words}.")


WIDTH_LABELS = {
    "barrier_before": "barrier, not permuted",
    "barrier_after": "barrier, permuted",
    "pattern_agreement": "patterns that agree (%)",
}


def draw_widths_figure(pairs: Mapping[str, Mapping[int, ValuesBySplit]]) -> Drawing:
    """Barriers before and after permutation, and agreement of patterns, by width.

    Args:
        pairs: pair -> width -> measure ("barrier_before", "barrier_after", "pattern_agreement") -> value.
    """
    words = "; ".join(
        f"{pair} at width {width}: barrier {row['barrier_before'].mean:.3g} before and {row['barrier_after'].mean:.3g} "
        f"after permutation, {100 * (row['pattern_agreement'].mean or 0.0):.0f} % of patterns agree"
        for pair, rows in pairs.items()
        for width, row in rows.items()
    )
    said = f"Barriers in mean squared error and agreement of activation patterns by width. {words}."
    return Drawing(lambda: draw_widths(pairs), said)


def draw_widths(pairs: Mapping[str, Mapping[int, ValuesBySplit]], ax: Axes | None = None) -> Figure:
    """The same as a figure, a panel for each measure; barriers after permutation alone into `ax`."""
    if ax is None:
        figure = make_figure(10.0, 3.6)
        panels = dict(zip(WIDTH_LABELS, figure.subplots(1, len(WIDTH_LABELS)), strict=True))
    else:
        figure, panels = cast("Figure", ax.get_figure()), {"barrier_after": ax}
    for measure, axes in panels.items():
        scale = 100 if measure == "pattern_agreement" else 1
        for number, (pair, rows) in enumerate(pairs.items()):
            points = [(width, row[measure]) for width, row in rows.items()]
            _draw_marks(axes, points, scale, choose_line_style(pair, number), line="-")
        _set_count_axis(axes, list(next(iter(pairs.values()))))
        axes.set_xlabel("width")
        axes.set_ylabel(WIDTH_LABELS[measure])
        axes.set_ylim(bottom=0)
        strip_axes(axes)
    if ax is None:
        _draw_legend(figure, panels["barrier_before"])
    else:
        ax.legend(frameon=False)
    return figure


def draw_histories_figure(trainings: Mapping[str, Sequence[Mapping[str, float]]], where: str) -> Drawing:
    """The loss terms of trainings by epoch, one panel for each."""
    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{t.replace('_', ' ')} {r[0][t]:.3g} to {r[-1][t]:.3g}" for t in list_terms(r[-1]) if t in r[0])
        for name, r in trainings.items()
    )
    said = f"Loss terms from the first epoch to the last. {words}."
    return Drawing(lambda: draw_histories(trainings), said, f"Loss terms: {where}")


# ---------------------------------------------------------------- pieces


def _choose_style(split: str, number: int) -> dict[str, Any]:
    """A split's colour and marker, under the paper's name."""
    return choose_line_style(split, number) | {"label": escape_label(abbreviate_split(split))}


def _draw_marks(
    axes: Any, points: Sequence[tuple[float, SeedMean]], scale: float, style: dict[str, Any], line: str = "none"
) -> None:
    """Means with their intervals; what is not finite is left out."""
    known = [
        (x, value.mean, value.interval or (value.mean, value.mean)) for x, value in points if value.mean is not None
    ]
    spread = [
        [scale * max(m - low, 0.0) for _, m, (low, _) in known],
        [scale * max(high - m, 0.0) for _, m, (_, high) in known],
    ]
    across, up = [x for x, *_ in known], [scale * mean for _, mean, _ in known]
    axes.errorbar(across, up, yerr=spread, linestyle=line, elinewidth=1, **style)


def _set_count_axis(axes: Any, counts: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()


def _draw_legend(figure: Any, axes: Any, hollow: str = "") -> None:
    """The legend of all panels; `hollow` says what hollow marks are, where there are some."""
    from matplotlib.lines import Line2D

    known = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    known.pop("as saved", None)  # a label of some panels: `hollow` speaks for all
    if hollow:
        known[hollow] = Line2D([], [], marker="o", color="gray", **HOLLOW)
    labels, handles = list(known), list(known.values())
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _split_points(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _wrap_name(name: str) -> str:
    """A long name in lines of one word or two."""
    return name.replace(" without ", "\nwithout\n")


def _describe_row(row: ValuesBySplit, published: Mapping[str, float]) -> str:
    return ", ".join(
        f"{abbreviate_split(split)} {100 * (row[split].mean or 0.0):.0f} %"
        + (f" (published {100 * published[split]:.0f} %)" if split in published else "")
        for split in row
    )


def _format_nats(value: SeedMean) -> str:
    return "not finite" if value.mean is None else f"{value.mean:.2f} nats"
