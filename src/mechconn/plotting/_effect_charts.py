"""Pictures of effects: one below the other in order, and along the strength of an intervention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mechconn.plotting._charts import TERM_COLOURS, Mark, make_panels, place_legend, strip_axes
from mechconn.plotting._labels import escape_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERDICT_COLOURS = {"sensitive": "#D55E00", "invariant": "#0072B2", "undetermined": "#868686"}


def draw_ranked_marks(
    marks: Mapping[str, tuple[float, float, float]],
    verdicts: Mapping[str, str],
    wider: Mapping[str, tuple[float, float]],
    margin: float,
    label: str,
    ax: Axes | None = None,
) -> Figure:
    """Values with their intervals, one below the other, coloured by their verdicts, with the margin behind them.

    Args:
        marks: name -> (value, low, high), from the top.
        verdicts: name -> verdict.
        wider: name -> (low, high) of the interval that the verdict rests on, as a thin line.
        margin: the band around zero.
        label: of the horizontal axis.
        ax: the panel; default: a new figure.
    """
    figure, (axes,) = make_panels(1, (7.0, 0.28 * len(marks) + 1.6), ax)
    axes.axvspan(-margin, margin, color="gray", alpha=0.15, label=f"within the margin, {margin:g}")
    axes.axvline(0.0, color="gray", linewidth=0.8)
    places = {name: place for place, name in enumerate(marks)}
    for verdict, colour in VERDICT_COLOURS.items():
        for number, name in enumerate(name for name in marks if verdicts[name] == verdict):
            value, low, high = marks[name]
            axes.plot(wider[name], [places[name]] * 2, color=colour, linewidth=0.7)
            axes.errorbar(
                [value],
                [places[name]],
                xerr=[[max(value - low, 0.0)], [max(high - value, 0.0)]],
                color=colour,
                marker={"sensitive": "D", "invariant": "o", "undetermined": "x"}[verdict],
                label=verdict if number == 0 else None,
            )
    axes.set_yticks(range(len(marks)), list(map(escape_label, marks)))
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlabel(escape_label(label))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure


def draw_bands(
    across: Sequence[float],
    panels: Mapping[str, Sequence[Mark]],
    label: str,
    marks: Mapping[str, float],
    reach: Mapping[str, tuple[float, float]],
    ax: Axes | None = None,
) -> Figure:
    """One panel for each measure: its values with a band of their intervals, places marked by vertical lines.

    Args:
        across: places on the horizontal axis.
        panels: label of the vertical axis -> (value, low, high) at each place, None where there is no value.
        label: of the horizontal axis.
        marks: name -> place of a vertical line.
        reach: label of a panel -> (low, high) of a grey band behind it.
        ax: the panel of the only measure; default: a new figure.
    """
    figure, found = make_panels(len(panels), (max(6.0, 4.5 * len(panels)), 3.8), ax)
    for axes, (name, values) in zip(found, panels.items(), strict=True):
        shown = [(place, *mark) for place, mark in zip(across, values, strict=True) if mark is not None]
        places, means, lows, highs = zip(*shown, strict=True) if shown else ([], [], [], [])
        if name in reach:
            axes.axhspan(*reach[name], color="gray", alpha=0.15, label="within the margin")
        axes.plot(places, means, marker="o", markersize=4, color=TERM_COLOURS[0])
        axes.fill_between(places, lows, highs, alpha=0.2, linewidth=0, color=TERM_COLOURS[0])
        for number, (mark, place) in enumerate(marks.items()):
            axes.axvline(place, linestyle=("--", ":")[number % 2], color="gray", label=escape_label(mark))
        axes.set_xlabel(escape_label(label))
        axes.set_ylabel(escape_label(name))
        strip_axes(axes)
    place_legend(figure, found[0], ax is None)
    return figure
