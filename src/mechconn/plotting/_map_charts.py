"""Many models in one picture: a matrix in the order of a tree, the tree with its leaves, points of a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mechconn.plotting._charts import (
    COLOURS,
    OTHER_MARKERS,
    make_figure,
    make_panels,
    place_legend,
    strip_axes,
)
from mechconn.plotting._labels import LETTER, escape_label, fit_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRITTEN = 12
"""Up to so many models the numbers stand in the cells."""
LETTERS = 8.0
"""Points of the labels of many models."""
LINE = 0.19
"""Inches of a row of such labels."""
# Okabe & Ito 2008 without yellow, which letters cannot have on white; grey stands for models that are alone.
GROUP_COLOURS = ("#0072B2", "#BD8500", "#009E73", "#D55E00", "#C4649B", "#2E8BC0", "#8F7A1E", "#7D6BD6")
CELL = 0.7
"""Inches of a row of few models."""
SHORT = 10
"""Letters of a label for which there is room in any case."""
MOST_OF_NAME = 30
"""Letters of a model's name."""
LISTED = 4
"""Names of a group that a legend lists."""
Box: TypeAlias = tuple[float, float, float, float]
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
REACHES = (7.0, 18.0, 32.0, 48.0)
"""Points between a mark and its label: the nearest free place is taken."""


def draw_heat_map(
    names: Sequence[str], matrix: Sequence[Sequence[float]], steps: Any, label: str, ax: Axes | None = None
) -> Figure:
    """A symmetric matrix in the order of a tree, and above it the tree; of few models with its numbers.

    Args:
        names: rows and columns.
        matrix: the values; NaN is left white.
        steps: the tree, as `scipy.cluster.hierarchy.linkage` gives it.
        label: what the values are.
        ax: the panel of the matrix alone; default: a new figure with the tree.
    """
    from scipy.cluster.hierarchy import dendrogram

    tree: Any = dendrogram(steps, no_plot=True)
    order: list[int] = tree["leaves"]
    labels: list[str] = [escape_label(names[i], MOST_OF_NAME) for i in order]
    values = [[matrix[i][j] for j in order] for i in order]
    top = _find_top(values)
    few = len(names) <= WRITTEN
    below_axis, turned = fit_labels([names[i] for i in order], (CELL if few else LINE) * len(names), MOST_OF_NAME)
    if ax is None:
        room = LETTER * max(0, max(map(len, labels)) - SHORT)
        side = CELL * len(names) + 2.0 if few else LINE * len(names) + 1.5
        figure = make_figure(side + 1.0 + room, side + 1.2 + room * turned)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3] if few else [1, 7])
        _draw_tree(above, tree, label)
        above.set_ylim(0.0, None if any(map(max, tree["dcoord"])) else top)
    else:
        figure, (below,) = make_panels(1, (0, 0), ax)
    image = below.imshow(values, cmap="viridis", vmin=0.0, vmax=top, aspect="auto", interpolation="nearest")
    if few:
        _write_values(below, values)
    size = None if few else LETTERS
    below.set_xticks(range(len(labels)), below_axis, rotation=90 if turned else 0, fontsize=size)
    below.set_yticks(range(len(labels)), labels, fontsize=size)
    figure.colorbar(image, ax=below, label=label, aspect=20 if few else 40)
    return figure


def _find_top(values: Sequence[Sequence[float]]) -> float:
    """The largest value, where a scale that starts at zero ends; 1 where all are zero."""
    return max((value for row in values for value in row if value == value), default=0.0) or 1.0


def _write_values(axes: Axes, values: Sequence[Sequence[float]]) -> None:
    """Every number in its cell, in the ink that shows on it."""
    highest = _find_top(values)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            ink = "white" if value < 0.6 * highest else "black"
            axes.text(j, i, "" if value != value else f"{value:.2f}", ha="center", va="center", color=ink)


def _draw_tree(axes: Axes, tree: Mapping[str, Any], label: str) -> None:
    """A tree as `scipy.cluster.hierarchy.dendrogram` lays it out, its leaves above the columns of a matrix."""
    for across, up in zip(tree["icoord"], tree["dcoord"], strict=True):
        # scipy's leaves stand at 5, 15, 25, ..., the columns of the matrix at 0, 1, 2, ...
        axes.plot([(x - 5) / 10 for x in across], up, color=COLOURS["no_cue"])
    axes.patch.set_alpha(0.0)
    axes.set_ylim(bottom=0.0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False)
    axes.set_ylabel(label)


def draw_labelled_tree(
    names: Sequence[str], steps: Any, groups: Sequence[Sequence[str]], cut: float, label: str, ax: Axes | None = None
) -> Figure:
    """A tree from left to right with a line for each model, coloured by group.

    Args:
        names: the models.
        steps: the tree, as `scipy.cluster.hierarchy.linkage` gives it.
        groups: which models are one colour.
        cut: the height at which groups part; a dotted line.
        label: what the heights are.
        ax: the panel; default: a new figure.
    """
    from scipy.cluster.hierarchy import dendrogram

    tree: Any = dendrogram(steps, no_plot=True)
    order: list[int] = tree["leaves"]
    leaves = [names[i] for i in order]
    figure, (axes,) = make_panels(1, (8.0, max(2.5, LINE * len(names) + 1.2)), ax)
    for up, across in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(across, [(y - 5) / 10 for y in up], color="gray", linewidth=1.0)
    axes.axvline(cut, linestyle=":", color="gray")
    axes.set_yticks(
        range(len(leaves)),
        [escape_label(name, MOST_OF_NAME) for name in leaves],
        fontsize=LETTERS if len(names) > WRITTEN else None,
    )
    for tick, name in zip(axes.get_yticklabels(), leaves, strict=True):
        tick.set_color(_choose_colour(groups, name))
    axes.patch.set_alpha(0.0)
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    axes.set_xlabel(label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


def _choose_colour(groups: Sequence[Sequence[str]], name: str) -> str:
    """The colour of a model's group; one that stands alone is grey."""
    number = next(i for i, group in enumerate(groups) if name in group)
    if len(groups[number]) == 1:
        return "gray"
    several = [i for i, group in enumerate(groups) if len(group) > 1]
    return GROUP_COLOURS[several.index(number) % len(GROUP_COLOURS)]


def draw_embedding(
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    groups: Sequence[Sequence[str]],
    label: str,
    ax: Axes | None = None,
) -> Figure:
    """Models as points of a plane, a colour for each group, names beside the points where there is room.

    Args:
        names: the models.
        points: (x, y) of each.
        groups: which models are one colour.
        label: what distances are.
        ax: the panel; default: a new figure.
    """
    wide = 7.0 if len(names) <= WRITTEN else 10.0
    figure, (axes,) = make_panels(1, (wide, 1.0 + wide * _choose_shape(points) + 0.2 * min(len(groups), 10)), ax)
    places = dict(zip(names, points, strict=True))
    alone = [group[0] for group in groups if len(group) == 1]
    listed: list[tuple[str, Sequence[str]]] = [(_list_names(group), group) for group in groups if len(group) > 1]
    listed += [(f"alone: {len(alone)}", alone)] if alone else []
    for number, (said, group) in enumerate(listed):
        colour = _choose_colour(groups, group[0])
        marker = "o" if number < len(GROUP_COLOURS) else OTHER_MARKERS[number % len(OTHER_MARKERS)]
        x, y = zip(*(places[name] for name in group), strict=True)
        axes.plot(x, y, linestyle="none", marker=marker, markersize=6, color=colour, label=said, alpha=0.8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set_xlabel(f"{label}, first coordinate")
    axes.set_ylabel("second coordinate")
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    _write_names(figure, axes, places, None if len(names) <= WRITTEN else LETTERS)
    return figure


def _choose_shape(points: Sequence[tuple[float, float]]) -> float:
    """Height over width of a panel for these points: not flatter than leaves room for names."""
    across, up = (max(values) - min(values) for values in zip(*points, strict=True))
    return min(0.8, max(0.35, up / across if across else 0.8))


def _list_names(group: Sequence[str]) -> str:
    more = f" and {len(group) - LISTED} more" if len(group) > LISTED else ""
    return ", ".join(escape_label(name, MOST_OF_NAME) for name in group[:LISTED]) + more


def _write_names(figure: Figure, axes: Axes, places: Mapping[str, tuple[float, float]], size: float | None) -> None:
    """Each name at the nearest place beside its point that is free; where none is, the name is left out."""
    figure.draw_without_rendering()  # sizes are known once the layout is
    scale, letters = 72.0 / figure.dpi, size or 10.0
    found: Any = scale * axes.transData.transform(list(places.values()))
    spots: list[tuple[float, float]] = found.tolist()  # in points of the figure
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in spots]
    frame = [scale * float(edge) for edge in axes.get_window_extent().extents]
    for name, (x, y) in zip(places, spots, strict=True):
        shown = escape_label(name, MOST_OF_NAME)
        wide, high = 0.58 * letters * len(shown) + 2, 1.15 * letters
        for reach, (right, up) in ((r, side) for r in REACHES for side in SIDES):
            centre = x + right * (reach + wide / 2), y + up * (reach + high / 4)
            box = (centre[0] - wide / 2, centre[1] - high / 2, centre[0] + wide / 2, centre[1] + high / 2)
            if _is_inside(box, frame) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                arrow = {"arrowstyle": "-", "color": "gray", "linewidth": 0.5} if reach > REACHES[0] else None
                axes.annotate(
                    shown, places[name], (centre[0] - x, centre[1] - y), textcoords="offset points", ha="center",
                    va="center", fontsize=letters, arrowprops=arrow,
                )  # fmt: skip
                break


def _is_inside(box: Box, frame: Sequence[float]) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
