"""Groups of several networks side by side: a sentence for each network, and a section with a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mechconn.losses import MEANS
from mechconn.mechanisms._groups import GroupAccuracies, GroupAccuracy
from mechconn.plotting import Cell, Drawing, Section, Table, draw_marks, format_interval
from mechconn.stats import describe_clusters


def describe_groups(found: Mapping[str, GroupAccuracies]) -> Iterator[str]:
    """The worst group of each network, and its means."""
    for name, own in found.items():
        worst, (low, high) = own[own.worst], own.worst_interval
        whole = "" if own.each == "rows" else f"the {own.each} of "
        kind = "overlapping groups" if own.overlapping else "groups"
        yield (
            f"Of {len(own)} {kind}, {name} is right least often in {own.worst}: on {100 * worst.accuracy:.1f} % of "
            f"{whole}{worst.rows:,} rows; the least accuracy of all groups lies between {100 * low:.1f} and "
            f"{100 * high:.1f} % (95 %, for all groups together).{_describe_means(own)}"
        )


def _describe_means(own: GroupAccuracies) -> str:
    reweighted = ""
    if own.reweighted is not None:
        reweighted = f", and {100 * own.reweighted:.1f} % by the groups' shares of the training data"
    return f" Its mean over rows is {100 * own.mean:.1f} %{reweighted}."


def list_group_sections(found: Mapping[str, GroupAccuracies]) -> list[Section]:
    """Every group's accuracy in each network; empty where there are none."""
    if not found:
        return []
    first = next(iter(found.values()))
    marks = {name: list(map(_make_mark, own.values())) for name, own in found.items()}
    drawing = Drawing(
        lambda: draw_marks(list(first), marks, "accuracy (%)", "group"),
        f"Accuracy of every group with its 95 % interval: {'; '.join(map(_list_accuracies, found, found.values()))}.",
    )
    metrics = list(first[first.worst].metrics)
    rows = tuple(
        (
            group,
            f"{first[group].rows:,}",
            *(_make_cell(own, group) for own in found.values()),
            *(_make_metric_cell(own[group], metric) for metric in metrics for own in found.values()),
        )
        for group in first
    )
    columns = ("group", "rows", *found, *(f"{metric}, {name}" for metric in metrics for name in found))
    intervals = describe_clusters(first.clusters) or "intervals"
    note = f"Accuracy{MEANS[first.each]} in %; in small print 95 % {intervals}, each for one group by itself."
    table = Table(columns, rows, note)
    return [Section("Accuracy by group", figures=(drawing,), tables=(table,), note=" ".join(describe_groups(found)))]


def _make_mark(group: GroupAccuracy) -> tuple[float, float, float]:
    return 100 * group.accuracy, 100 * group.interval[0], 100 * group.interval[1]


def _list_accuracies(name: str, own: GroupAccuracies) -> str:
    listed = ", ".join(f"{100 * group.accuracy:.1f} % in {which}" for which, group in own.items())
    return f"{name} {listed}"


def _make_cell(own: GroupAccuracies, group: str) -> Cell:
    worst = "\nthe worst" if group == own.worst else ""
    return Cell(f"{100 * own[group].accuracy:.1f}", f"{format_interval(own[group].interval, 100, '.1f')}{worst}")


def _make_metric_cell(group: GroupAccuracy, metric: str) -> Cell:
    mean, interval = group.metrics[metric]
    return Cell(f"{mean:.4g}", format_interval(interval))
