"""Pictures of plain values as matplotlib figures: curves along a path, barriers by block, values over a plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from mechconn.plotting._labels import LETTER, escape_label, fit_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe & Ito 2008: distinguishable with every common kind of colour vision; the contrast is 3 : 1 or more on
# white and on the page's dark card.
COLOURS = {"no_cue": "#0072B2", "cue": "#BD8500", "rand_cue": "#009E73", "rand_image": "#D55E00"}
MARKERS = {"no_cue": "o", "cue": "s", "rand_cue": "^", "rand_image": "D"}
OTHER_COLOURS = ("#C4649B", "#2E8BC0", "#8F7A1E", "#868686", "#7D6BD6", "#C2476F")
TERM_COLOURS = (*COLOURS.values(), *OTHER_COLOURS)
OTHER_MARKERS = ("x", "v", "P", "<", "*", ">", "X")  # as many as have no common divisor with the colours: 42 pairs
LABELS = {"accuracy": "accuracy (%)", "loss": "loss"}

CurvesBySplit = Mapping[str, Sequence[float]]


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which a notebook shows as the last line of a cell."""
    from mechconn.plotting._figure import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")


def make_panels(count: int, inches: tuple[float, float], ax: Axes | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, or the one panel that is given with its figure."""
    if ax is not None:
        if not hasattr(ax, "get_figure") or not hasattr(ax, "plot"):
            raise TypeError(f"ax must be a panel, matplotlib Axes, got a {type(ax).__name__}; pass figure.subplots()")
        assert count == 1, f"one panel is given, and {count} are needed"
        return cast("Figure", ax.get_figure()), [ax]
    figure = make_figure(*inches)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def draw_curves(
    ts: Sequence[float],
    measured: Mapping[str, CurvesBySplit],
    broken: Sequence[tuple[str, str, float, float]] = (),
    start: str = "A",
    end: str = "B",
    labels: Mapping[str, str] = LABELS,
    saved: Sequence[tuple[str, str, float, float]] = (),
    ax: Axes | None = None,
) -> Figure:
    """One panel for each measure, one curve for each split, t on the horizontal axis.

    Args:
        ts: the grid.
        measured: measure -> split -> values at each t; accuracy in [0, 1] is drawn in percent.
        broken: (split, measure, t, value) of values that are not finite: a gap in the curve and a dotted line at t.
        start: what stands at t = 0.
        end: what stands at t = 1.
        labels: measure -> label of its axis; default: its name.
        saved: (split, measure, t, value) of ends as they were saved, where the curve has another value: open circles.
        ax: the panel of the only measure; default: a new figure.
    """
    figure, panels = make_panels(len(measured), (9.0 if len(measured) == 1 else 4.5 * len(measured), 3.6), ax)
    every = dict.fromkeys(split for splits in measured.values() for split in splits)
    numbers = {split: number for number, split in enumerate(every)}
    for axes, (measure, splits) in zip(panels, measured.items(), strict=True):
        draw_split_curves(axes, ts, measure, splits, numbers)
        for split, _, t, value in (bad for bad in broken if bad[1] == measure):
            axes.axvline(t, linestyle=":", color="gray", label=escape_label(f"{split}: {value} at t = {t:g}"))
        draw_saved_ends(axes, measure, [place for place in saved if place[1] == measure], numbers)
        axes.set_xlabel(f"t, from {escape_label(start)} (0) to {escape_label(end)} (1)")
        axes.set_ylabel(labels.get(measure, escape_label(measure)))
    if ax is None:
        _place_common_legend(figure, panels)
    else:
        ax.legend(frameon=False, ncols=2)
    return figure


def draw_saved_ends(
    axes: Axes, measure: str, saved: Sequence[tuple[str, str, float, float]], numbers: Mapping[str, int]
) -> None:
    """An open circle in the colour of its split for each value of an end as it was saved."""
    for place, (split, _, t, value) in enumerate(saved):
        axes.plot(
            [t],
            _to_drawn_values(measure, [value]),
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=choose_line_style(split, numbers.get(split, 0))["color"],
            label="as saved" if place == 0 else None,
            clip_on=False,
        )


def draw_histories(trainings: Mapping[str, Sequence[Mapping[str, float]]], ax: Axes | None = None) -> Figure:
    """The loss terms of trainings by epoch: one panel for each training, one curve for each term.

    Args:
        trainings: name -> a record for each epoch; every value but "epoch" and "lr" is a term. A training of several
            parts is drawn one part after the other, a dotted line between them.
        ax: the panel of the only training; default: a new figure.
    """
    figure, panels = make_panel_grid(len(trainings), 2.6) if ax is None else make_panels(len(trainings), (0, 0), ax)
    terms = dict.fromkeys(term for records in trainings.values() for record in records for term in list_terms(record))
    for axes, (name, records) in zip(panels, trainings.items(), strict=True):
        for number, term in enumerate(terms):
            points = [(i, record[term]) for i, record in enumerate(records, 1) if term in record]
            if points:
                across, up = zip(*points, strict=True)
                axes.plot(
                    across,
                    up,
                    label=escape_label(term.replace("_", " ")),
                    color=TERM_COLOURS[number % len(TERM_COLOURS)],
                )
        for i in range(1, len(records)):
            if records[i]["epoch"] <= records[i - 1]["epoch"]:
                axes.axvline(i + 0.5, linestyle=":", color="gray")
        axes.set_title(escape_label(name), fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss term")
        strip_axes(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


def list_terms(record: Mapping[str, float]) -> list[str]:
    """Names of the loss terms in an epoch's record."""
    return [name for name in record if name not in ("epoch", "lr")]


def make_panel_grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with two panels a row; one that is left over is not drawn."""
    columns, lines = min(count, 2), math.ceil(count / 2)
    figure = make_figure(9.0, height * lines + 0.4)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for left_over in panels[count:]:
        left_over.set_visible(False)
    return figure, panels[:count]


def draw_split_curves(
    axes: Axes,
    ts: Sequence[float],
    measure: str,
    splits: CurvesBySplit,
    numbers: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """One curve for each split into a panel.

    Args:
        axes: the panel.
        ts: places on the horizontal axis.
        measure: accuracy in [0, 1] is drawn in percent.
        splits: split -> values.
        numbers: gives splits without a colour of their own theirs.
        names: what the legend calls the splits; default: their names.
    """
    for place, (split, values) in enumerate(splits.items()):
        style = choose_line_style(split, place if numbers is None else numbers[split])
        if names is not None:
            style["label"] = escape_label(names[split])
        axes.plot(ts, _to_drawn_values(measure, values), **style)
    strip_axes(axes)
    if measure == "accuracy":
        axes.set_ylim(0, 102)


Mark: TypeAlias = tuple[float, float, float] | None
"""(value, low, high); None where there is no value."""


def draw_marks(
    names: Sequence[str],
    series: Mapping[str, Sequence[Mark]],
    label: str,
    across: str = "",
    ax: Axes | None = None,
    joined: bool = False,
    beside: Mapping[str, Sequence[Mark]] | None = None,
) -> Figure:
    """Values with their intervals: a place for each name, a mark for each series there.

    Args:
        names: of the places, from left to right.
        series: name, such as a split -> (value, low, high) at each place, None where there is no value; one without
            any keeps its colour from the others, and is left out.
        label: of the vertical axis.
        across: of the horizontal axis.
        ax: the panel; default: a new figure.
        joined: whether a line joins the marks of a series.
        beside: name of a series -> what its marks are compared with, open marks of its colour to the right of them.
    """
    wide = max(5.0, 0.45 * len(names) + 2.5)
    labels, turned = fit_labels(names, wide - 0.8)
    high = 4.0 + LETTER * max(map(len, labels), default=0) * turned
    figure, (axes,) = make_panels(1, (wide, high), ax)
    line = "-" if joined else "none"
    step = 0.6 / max(len(series), 1)
    for number, (name, found) in enumerate(series.items()):
        shift, style = (number - (len(series) - 1) / 2) * step, choose_line_style(name, number)
        _draw_series(axes, shift, found, {**style, "linestyle": line})
        if beside:
            _draw_series(axes, shift + step / 2, beside[name], {**style, "linestyle": "none", "label": None, **OPEN})
    axes.set_xticks(range(len(names)), labels, rotation=90 if turned else 0)
    axes.set_ylabel(escape_label(label))
    axes.set_xlabel(across)
    strip_axes(axes)
    if len(series) > 1:
        place_legend(figure, axes, ax is None)
    return figure


OPEN: Mapping[str, Any] = {"markerfacecolor": "none", "elinewidth": 0.8}


def _draw_series(axes: Axes, shift: float, found: Sequence[Mark], style: Mapping[str, Any]) -> None:
    """Marks with their intervals, `shift` to the right of their places; nothing where there is none."""
    shown = [(place + shift, *mark) for place, mark in enumerate(found) if mark is not None]
    if shown:
        spread = [[max(h - low, 0.0) for _, h, low, _ in shown], [max(high - h, 0.0) for _, h, _, high in shown]]
        axes.errorbar([x for x, *_ in shown], [h for _, h, *_ in shown], yerr=spread, **style)


def draw_step_curves(
    steps: Sequence[int],
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    label: str,
    beside: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Values by step with a band of their intervals, one curve for each name.

    Args:
        steps: of training, from left to right.
        curves: name -> (value, low, high) at each step.
        label: of the vertical axis.
        beside: name -> what each curve is compared with, dashed in its colour.
        ax: the panel; default: a new figure.
    """
    figure, (axes,) = make_panels(1, (7.0, 3.8), ax)
    for number, (name, found) in enumerate(curves.items()):
        values, lows, highs = zip(*found, strict=True)
        colour, marker = TERM_COLOURS[number % len(TERM_COLOURS)], OTHER_MARKERS[number % len(OTHER_MARKERS)]
        axes.plot(steps, values, marker=marker, markersize=4, color=colour, label=escape_label(name))
        axes.fill_between(steps, lows, highs, alpha=0.15, linewidth=0, color=colour)
        if beside is not None and name in beside:
            axes.plot(steps, [value for value, _, _ in beside[name]], linestyle="--", linewidth=1, color=colour)
    axes.set_xlabel("steps")
    axes.set_ylabel(escape_label(label))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure


def place_legend(figure: Figure, axes: Axes, alone: bool) -> None:
    """The legend of a panel: above it where the figure is its own, so that it hides no mark, else inside.

    One that stands there already is replaced.
    """
    handles, labels = axes.get_legend_handles_labels()
    if alone:
        for before in list(figure.legends):
            before.remove()
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=_count_columns(labels, figure.get_figwidth()),
            frameon=False,
        )
    else:
        axes.legend(handles, labels, frameon=False)


def _place_common_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, above them; what several of them show stands in it once."""
    found = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    known = {label: handle for handle, label in reversed(found)}
    labels = list(dict.fromkeys(label for _, label in found))
    columns = _count_columns(labels, figure.get_figwidth())
    handles = [known[label] for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)


def _count_columns(labels: Sequence[str], inches: float) -> int:
    """Columns of a legend that fit a figure: at most four, each as wide as the longest label and its mark.

    Example:
        >>> _count_columns(["model", "control", "fresh weights", "commonest class"], 5.0)
        2
    """
    widest = 0.65 + 0.09 * max(map(len, labels), default=0)
    return max(1, min(len(labels), 4, int(inches / widest)))


def draw_plane(
    x: Sequence[float],
    y: Sequence[float],
    values: Mapping[str, Sequence[Sequence[float]]],
    marks: Mapping[str, tuple[float, float]],
    on: str,
    ax: Axes | None = None,
) -> Figure:
    """Values over a plane, one panel for each split on one scale of colours, with marked points.

    Args:
        x: coordinates of the columns.
        y: coordinates of the rows.
        values: split -> rows; what is not finite is left white, and the highest twentieth shares one colour. Accuracy
            in [0, 1] is drawn in percent.
        marks: name -> (x, y) of a marked point.
        on: what the values are.
        ax: the panel of the only split; default: a new figure.
    """
    values = {split: [_to_drawn_values(on, row) for row in rows] for split, rows in values.items()}
    finite = sorted(v for rows in values.values() for row in rows for v in row if math.isfinite(v)) or [0.0]
    low, high = finite[0], finite[-1] if on == "accuracy" else finite[int(0.95 * (len(finite) - 1))]
    figure, panels = make_panels(len(values), (3.6 * len(values) + 0.8, 3.6), ax)
    image = None
    for axes, (split, rows) in zip(panels, values.items(), strict=True):
        image = axes.pcolormesh(x, y, rows, shading="nearest", vmin=low, vmax=high, rasterized=True)
        for name, (across, up) in marks.items():
            axes.plot(across, up, marker="o", color="white", markeredgecolor="black")
            paper = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
            text = rf"$\theta_{{{name.upper()}}}$"  # plain letters would be taken for the split C
            axes.annotate(text, (across, up), textcoords="offset points", xytext=(6, 6), bbox=paper)
        axes.set_title(escape_label(split))
        axes.set_aspect("equal", adjustable="box")
        axes.set_xlabel("distance in weight space")
    if image is not None:
        figure.colorbar(
            image,
            ax=list(panels),
            label=LABELS.get(on, escape_label(on)),
            extend="neither" if high == finite[-1] else "max",
        )
    return figure


def choose_line_style(split: str, number: int) -> dict[str, Any]:
    """Colour, marker and label of a split's curve, the same in every picture."""
    return {
        "color": COLOURS.get(split, OTHER_COLOURS[number % len(OTHER_COLOURS)]),
        "marker": MARKERS.get(split, OTHER_MARKERS[number % len(OTHER_MARKERS)]),
        "markersize": 4,
        "label": escape_label(split),
    }


def _to_drawn_values(measure: str, values: Sequence[float]) -> list[float]:
    """Percent for accuracy; what is not finite becomes a gap."""
    scale = 100 if measure == "accuracy" else 1
    return [scale * value if math.isfinite(value) else math.nan for value in values]


def strip_axes(axes: Axes) -> None:
    """A panel on the page's own paper: no box, a faint grid."""
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
