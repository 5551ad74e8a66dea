"""Natural data with groups: accuracy group by group, the worst group, and means by a stated convention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from mechconn.connectivity import number_clusters
from mechconn.core import (
    Compute,
    Data,
    PerSampleLoss,
    Progress,
    RowSubset,
    as_data,
    check_by_index,
    draws_rows,
    isolate_rng,
    resolve_compute,
)
from mechconn.datasets import (
    ClusterLabels,
    Clusters,
    Groups,
    ModelOutputs,
    Selection,
    check_label_names,
    natural_sort_key,
    read_clusters,
    read_group_names,
    represent_on_split,
    select_observed_rows,
)
from mechconn.losses import MEANS, Each, as_loss, cross_entropy
from mechconn.mechanisms._group_members import GroupRows, check_shares, number_names, read_group_members
from mechconn.mechanisms._invariance_page import flatten_interval
from mechconn.mechanisms._over_clusters import RowValues, bound_mean_over_clusters, compute_mean_over_clusters
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.network import (
    Inference,
    Metric,
    Network,
    check_classified,
    check_metrics,
    check_predictions,
    collect_bounds,
    compute_mean_with_interval,
    compute_outcomes,
    point_of,
)
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_marks, format_interval
from mechconn.stats import Interval, betting_interval, clopper_pearson, describe_clusters

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

CONFIDENCE = 0.95
TOGETHER = "Together: intervals in % that hold for all groups at 95 % (Bonferroni); small figures hold for one group."
GROUPS_NOTE = (
    "observational: the two splits hold other rows, so whatever else differs between these counts too; and equal "
    "accuracy does not show that the group is not used, for a network that reads the group alone may be right equally "
    "often in both: split_by_agreement compares rows where the group agrees with the label and rows where it conflicts"
)


@dataclass(frozen=True)
class GroupAccuracy:
    """How often a model is right in one group.

    Attributes:
        rows: of the group in the data.
        accuracy: in [0, 1].
        interval: exact, at 95 % confidence for this group by itself.
        simultaneous: exact, wider: those of all groups hold together at 95 % (Bonferroni).
        metrics: name -> (mean of a metric of the user's, its 95 % interval): by betting where the metric has bounds,
            else Student's t; None where that needs more rows, or clusters.
    """

    rows: int
    accuracy: float
    interval: Interval
    simultaneous: Interval
    metrics: Mapping[str, tuple[float, Interval | None]] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class GroupAccuracies(Result, Mapping[str, GroupAccuracy], kind="group_accuracies"):
    """A model's accuracy by group.

    The accuracy found in the worst group is too low on average, the more so the more and smaller the groups are: the
    least of several numbers with errors is likely to be one whose error is downwards. So `worst_interval` does
    not stand around it: it is the range from the least lower to the least upper end of the simultaneous intervals,
    and holds the least of the true accuracies at 95 % confidence.

    Where an accuracy is a share of a row's labels or positions (see `mechconn.losses`), intervals are not exact but
    hold for every distribution (betting). So they do over clusters of rows; `measure_invariance` says of what.

    Attributes:
        groups: name -> its accuracy.
        worst: the group with the least accuracy in the data.
        worst_interval: of the least true accuracy.
        mean: accuracy over all samples, each of equal weight.
        mean_interval: exact, at 95 %.
        weights: share of each group in the training data; None where it was not given.
        reweighted: mean over groups with these weights, the average that distribution-shift benchmarks report; None
            without them.
        reweighted_interval: the range of the same mean over the simultaneous intervals, which is conservative.
        each: what an accuracy is the share of that is right: of "rows", or of a row's "labels" or "positions".
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
        clusters: group -> number of clusters that its rows are in; empty where rows are independent.
        overlapping: whether a row may be in several groups, or in none.
    """

    derived: ClassVar[tuple[str, ...]] = ("confidence",)

    groups: Mapping[str, GroupAccuracy]
    worst: str
    worst_interval: Interval
    mean: float
    mean_interval: Interval
    weights: Mapping[str, float] | None
    reweighted: float | None
    reweighted_interval: Interval | None
    each: Each = "rows"
    compute: Mapping[str, Any] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    overlapping: bool = False

    def __getitem__(self, name: str) -> GroupAccuracy:
        return self.groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __str__(self) -> str:
        """A line for each group, then the worst and the means."""
        lines = [
            f"  {name}: {_format_accuracy(g.accuracy, g.interval)}, {g.rows} rows" for name, g in self.groups.items()
        ]
        lines.append(f"worst: {self.worst}, {_format_accuracy(self.groups[self.worst].accuracy, self.worst_interval)}")
        lines.append(f"mean over samples: {_format_accuracy(self.mean, self.mean_interval)}")
        if self.reweighted is not None and self.reweighted_interval is not None:
            shown = _format_accuracy(self.reweighted, self.reweighted_interval)
            lines.append(f"mean by the groups' shares of the training data: {shown}")
        what = describe_clusters(self.clusters) or "intervals"
        kind = "by overlapping group" if self.overlapping else "by group"
        return "\n".join([f"accuracy{MEANS[self.each]} {kind} (95 % {what}):", *lines])

    @property
    def confidence(self) -> float:
        """Of every interval by itself, and of the simultaneous ones together."""
        return CONFIDENCE

    def rows(self) -> list[dict[str, Any]]:
        """One record per group: rows, accuracy with both of its intervals, and metrics with theirs."""
        return [
            {
                "group": name,
                "rows": found.rows,
                "accuracy": found.accuracy,
                **flatten_interval("accuracy", found.interval),
                **flatten_interval("simultaneous", found.simultaneous),
                **{
                    key: number
                    for metric, (mean, interval) in found.metrics.items()
                    for key, number in ({metric: mean} | flatten_interval(metric, interval)).items()
                },
            }
            for name, found in self.groups.items()
        ]

    def header(self) -> Header:
        """The worst group, and what was asked."""
        worst, accuracy = self.worst, 100 * self.groups[self.worst].accuracy
        return Header(f"The worst group: {worst}, {accuracy:.1f} %", "How often is the model right in each group?")

    def sections(self) -> list[Section]:
        """The accuracy of every group."""
        metrics = list(next(iter(self.groups.values())).metrics)
        rows = [
            (
                Cell(name, "the worst" if name == self.worst else ""),
                f"{found.rows:,}",
                Cell(f"{100 * found.accuracy:.1f} %", format_interval(found.interval, 100, ".1f")),
                format_interval(found.simultaneous, 100, ".1f"),
                *(Cell(f"{found.metrics[m][0]:.4g}", format_interval(found.metrics[m][1])) for m in metrics),
            )
            for name, found in self.groups.items()
        ]
        figure = Drawing(self.plot, f"Accuracy of every group with its 95 % interval. {self}")
        table = Table(("group", "rows", "accuracy", "together", *metrics), tuple(rows), note=TOGETHER)
        means = "; ".join(str(self).splitlines()[len(self.groups) + 1 :])
        return [
            Section("Accuracy by group", figures=(figure,), tables=(table,), note=f"{means[:1].upper()}{means[1:]}.")
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the accuracy of every group with its 95 % interval."""
        marks = [(100 * g.accuracy, 100 * g.interval[0], 100 * g.interval[1]) for g in self.groups.values()]
        return draw_marks(list(self.groups), {"accuracy": marks}, "accuracy (%)", "group", ax)


def measure_groups(
    model: nn.Module | ModelOutputs,
    data: Data,
    groups: Groups,
    *,
    train_groups: Groups | None = None,
    overlapping: bool = False,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> GroupAccuracies:
    """A classifier's accuracy in every group of natural data, such as (label, background).

    With acc_g the accuracy in group g, n_g of n rows in the data and w_g the group's share of the training data:
    mean = sum_g (n_g / n) acc_g over samples, reweighted = sum_g w_g acc_g.

    Args:
        model: a classifier, or its outputs (`load_outputs`); it stays as it is.
        data: what to evaluate on, in an order that stays; of outputs for several splits, `given.suite[split]`.
        groups: a label for each row (numbers or text: a tensor, an array, a list), or several such columns in a
            mapping or a table of pandas; then the groups are the combinations that occur, as "y=0, place=land".
        train_groups: the same of the training data, for the reweighted mean.
        overlapping: `groups` are columns of marks, 0 and 1 (or -1 and 1), of which a row may have several; for each
            column and each label the rows that have both are a group, named as in "male=1, y=0" (where a column equals
            the labels, it names them). Intervals are as valid, since Bonferroni's hold however groups depend.
        loss: decides what is right: one of `mechconn.losses`, or a function.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`. A group's rows may be in
            some of the clusters, and a cluster's in several groups. Rows that show each other are one cluster too.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; one pass is one step.

    Raises:
        ValueError: another number of labels than rows, a loader that shuffles, a task that is no classification,
            outputs that hold NaN, a group of the training data that the data lack, data that name their classes
            otherwise than the model its outputs; another number of cluster labels than rows, fewer than two clusters;
            a row without a label, fractions (cut them at a threshold), text beside numbers; with `overlapping` columns
            that hold no marks, and `train_groups`, whose shares would not add up to 1.

    Source: Sagawa et al. 2020 (worst group, and the average reweighted by training shares); Clopper & Pearson 1934.
    """
    source, compute = as_data("data", data), resolve_compute(compute, device, progress)
    check_shares(train_groups, overlapping)
    if draws_rows(source):
        raise ValueError("the loader shuffles, so that groups cannot be matched to rows; pass one with shuffle=False")
    clusters = _read_clusters(cluster, source)
    check_label_names([("the model", model)], {"data": source}, loss)
    model, shown = represent_on_split(model, source)
    network, asked = Network(model, compute), check_metrics(metrics)
    forward = Inference(network).at(network.load(point_of(model).params), network.buffers)
    with isolate_rng(seed, "measure_groups"):
        result = compute_outcomes(forward, network, shown, "data", as_loss(loss), asked)
    compute.report("measuring groups", 1, 1)
    answers = check_classified("measure_groups", result)
    check_predictions("data", answers)
    numbers = number_clusters("data", [source], clusters, len(result.loss), result.counted)
    rows = GroupRows(answers.right, answers.labels, result.metrics, result.counted, numbers, answers.each)
    found = compute_accuracies(rows, groups, train_groups, overlapping, collect_bounds(asked))
    return replace(found, compute=network.computed)


def _read_clusters(cluster: Clusters | None, source: Data) -> ClusterLabels | None:
    if isinstance(cluster, Mapping):
        raise TypeError("cluster must be a label for each row, got a mapping; measure_groups has no splits")
    return read_clusters(cluster, {"data": source})


def split_by_group(data: Data, groups: Groups) -> dict[str, RowSubset]:
    """Data as one split per group, by name: `Suite(split_by_group(data, groups), reference=...)`.

    What this shows is in which groups a model is better or worse. What it cannot show is whether the model uses the
    group: where nine in ten birds on land are land birds, and nine in ten on water are water birds, a network that
    reads the background alone is right on nine in ten of either. Whether the group is used, `split_by_agreement` asks.
    The comparison is observational: the splits hold other rows, and the classes in other shares.

    Args:
        data: data that hand out rows by index: a dataset, or an (x, y) pair of tensors.
        groups: see `measure_groups`.

    Raises:
        TypeError: the data are batches that cannot be read by row.
        ValueError: another number of labels than rows.

    Example:
        >>> data = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 1, 1])
        >>> splits = split_by_group(data, ["land", "sea", "land"])
        >>> splits["land"].inputs(torch.arange(2)).flatten().tolist(), splits["land"].y.tolist()
        ([1.0, 3.0], [0, 1])
    """
    source = check_by_index("split_by_group", as_data("data", data))
    names = read_group_names("groups", groups, len(source))
    numbers, order = number_names(names)
    rows = find_rows_by_label(numbers)
    return {
        name: select_observed_rows(source, rows[order[name]], Selection(GROUPS_NOTE))
        for name in sorted(order, key=natural_sort_key)
    }


def compute_accuracies(
    given: GroupRows,
    groups: Groups,
    train_groups: Groups | None,
    overlapping: bool,
    bounds: Mapping[str, Interval],
) -> GroupAccuracies:
    """The result, but for how it was computed.

    Args:
        given: the rows.
        groups: of each row, also of those that do not count.
        train_groups: the groups of the training data, for the reweighted mean.
        overlapping: see `measure_groups`.
        bounds: of the metrics that have some.

    Raises:
        TypeError, ValueError: as `read_group_members`, or a group of the training data that the rows lack.
    """
    check_shares(train_groups, overlapping)
    rows, clusters = read_group_members(groups, given, overlapping), given.clusters
    train = None if train_groups is None else read_group_names("train_groups", train_groups, None)
    weights = None if train is None else _compute_shares(train, rows)
    together = 1.0 - (1.0 - CONFIDENCE) / len(rows)
    found, every = {}, RowValues(given.correct, clusters)
    for name, members in rows.items():
        right = every.where(members)
        found[name] = GroupAccuracy(
            rows=len(right.values),
            accuracy=float(right.values.double().mean()),
            interval=_compute_interval(right, CONFIDENCE),
            simultaneous=_compute_interval(right, together),
            metrics={
                m: _compute_mean(RowValues(values, clusters).where(members), bounds.get(m))
                for m, values in given.metrics.items()
            },
        )
    low, high = ([group.simultaneous[end] for group in found.values()] for end in (0, 1))
    reweighted = None
    if weights is not None:
        parts = [(group.accuracy, *group.simultaneous) for group in found.values()]
        reweighted = [sum(w * part[k] for w, part in zip(weights.values(), parts, strict=True)) for k in range(3)]
    return GroupAccuracies(
        groups=found,
        worst=min(found, key=lambda name: found[name].accuracy),
        worst_interval=(min(low), min(high)),
        mean=float(given.correct.double().mean()),
        mean_interval=_compute_interval(every, CONFIDENCE),
        weights=weights,
        reweighted=None if reweighted is None else reweighted[0],
        reweighted_interval=None if reweighted is None else (reweighted[1], reweighted[2]),
        each=given.each,
        clusters={} if clusters is None else {name: every.where(members).units for name, members in rows.items()},
        overlapping=overlapping,
    )


def _compute_mean(rows: RowValues, bounds: Interval | None) -> tuple[float, Interval | None]:
    if rows.clusters is not None:
        return compute_mean_over_clusters(rows, bounds, CONFIDENCE)
    return compute_mean_with_interval(rows.values, bounds, CONFIDENCE)


def _compute_interval(rows: RowValues, confidence: float) -> Interval:
    """Exact where rows are right or not; of shares of a row, and over clusters, by betting."""
    if rows.clusters is not None:
        return bound_mean_over_clusters(rows, (0.0, 1.0), confidence)
    right = rows.values
    if right.dtype == torch.bool:
        return clopper_pearson(int(right.sum()), len(right), confidence)
    return betting_interval(right.double().numpy(), (0.0, 1.0), confidence)


def _compute_shares(train: list[str], names: Iterable[str]) -> dict[str, float]:
    """Share of each group of the data in the training data; zero for a group that training never saw."""
    counts, names = Counter(train), list(names)
    absent = sorted(counts.keys() - set(names), key=natural_sort_key)
    if absent:
        raise ValueError(
            f"the data hold no rows of these groups of the training data: {'; '.join(absent)}; evaluate on data "
            "that have some"
        )
    return {name: counts[name] / len(train) for name in names}


def _format_accuracy(value: float, interval: Interval) -> str:
    return f"{value:.3f} ({interval[0]:.3f} ... {interval[1]:.3f})"
