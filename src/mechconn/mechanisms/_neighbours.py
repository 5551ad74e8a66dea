"""What the nearest neighbours of a row in feature space share with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mechconn.core import Compute, Data, Progress, as_data, check_count, check_is, resolve_compute
from mechconn.mechanisms._layer_features import HEAD, FeatureReader
from mechconn.mechanisms._nearest_rows import scale_rows, weigh_nearest
from mechconn.mechanisms._row_classes import RowClasses, Target, check_target, read_classes
from mechconn.network import fix_device
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, print_table

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

NO_INTERVAL = (
    "No interval: rows are neighbours of several others, so their shares depend on each other; compare networks on the "
    "same rows, or measure disjoint parts of the data."
)


@dataclass(frozen=True)
class NeighbourShare:
    """How often neighbours agree in one thing.

    Attributes:
        share: mean over rows of the share of the k nearest that have the row's own value.
        chance: the share of all pairs of rows that agree: sum_c n_c (n_c - 1) / (n (n - 1)).
        classes: how many values there are.
    """

    share: float
    chance: float
    classes: int


@dataclass(frozen=True, repr=False)
class Neighbours(Result, Mapping[str, NeighbourShare], kind="neighbours"):
    """What nearest neighbours in feature space share; `result["cue"]` is the share of the same cue.

    Attributes:
        by: name -> share and chance.
        k: neighbours of each row.
        layer: whose features were compared.
        units: values that the layer gives for a row.
        reduction: how they were reduced; empty where they were not.
        samples: rows.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
    """

    by: Mapping[str, NeighbourShare]
    k: int
    layer: str
    units: int
    reduction: str
    samples: int
    compute: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NeighbourShare:
        return self.by[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by)

    def __len__(self) -> int:
        return len(self.by)

    def __str__(self) -> str:
        """A line for each share, and why it has no interval."""
        return "\n".join([self._describe(), *print_table(self._tabulate()), NO_INTERVAL])

    def _describe(self) -> str:
        reduced = f", {self.reduction}" if self.reduction else ""
        return (
            f"of the {self.k} nearest of {self.samples:,} rows by the cosine of {self.layer or 'the model itself'} "
            f"({self.units:,} units{reduced}), how many share the row's own value"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One record for each share."""
        return [
            {"by": name, "share": own.share, "chance": own.chance, "classes": own.classes, "k": self.k}
            for name, own in self.by.items()
        ]

    def header(self) -> Header:
        """What was asked."""
        said = ", ".join(f"{name} {100 * own.share:.1f} %" for name, own in self.by.items())
        return Header(f"Neighbours share: {said}", "What do nearest neighbours in feature space share?")

    def sections(self) -> list[Section]:
        """Shares beside chance."""
        figure = Drawing(self.plot, f"Shares of nearest neighbours beside chance. {self}")
        note = f"{self._describe()}. {NO_INTERVAL}"
        return [Section("What neighbours share", figures=(figure,), tables=(self._tabulate(),), note=note)]

    def _tabulate(self) -> Table:
        rows = tuple(
            (name, f"{100 * own.share:.1f} %", f"{100 * own.chance:.1f} %", f"{own.classes}")
            for name, own in self.by.items()
        )
        return Table(("same", "neighbours", "any two rows", "values"), rows)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: every share, and beside it that of any two rows."""
        shares = {
            "nearest neighbours": [100 * own.share for own in self.by.values()],
            "any two rows": [100 * own.chance for own in self.by.values()],
        }
        series = {name: [(value, value, value) for value in values] for name, values in shares.items()}
        return draw_marks(list(self.by), series, "same value (%)", "by", ax)


def measure_neighbours(
    model: nn.Module,
    data: Data,
    by: Mapping[str, Target],
    *,
    k: int = 10,
    layer: str | None = None,
    width: int = 4096,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Neighbours:
    r"""What the k nearest rows in feature space share with a row, such as its label or its cue.

    Nearest is by the cosine of the features, exact, the row itself left out; rows that tie for the last places, their
    cosines alike to nine digits, share them, so that the order of rows does not matter; a row of zeros has the cosine 0
    with all. Beside each share stands chance, the share of all pairs of rows that agree,

        sum_c n_c (n_c - 1) / (n (n - 1)),        n_c rows of value c among n.

    Measure a cue on rows where it is independent of the label, such as `task.suite["rand_cue"]`: a network that groups
    rows by the cue there has shares of the cue above chance, one that groups them by content those of the label. No
    interval is given, because rows share neighbours. Like a probe it says what features hold, not what is used.

    Args:
        model: any network; it stays as it is.
        data: what to read.
        by: name -> "label", "cue", a class for each row, or a function of `data` that gives these; see `probe`.
        k: neighbours of each row, fewer than there are rows.
        layer: name of a module whose output is read; default: the features, the input of the head.
        width: most features; a layer of more is reduced as in `probe`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts batches.

    Raises:
        ValueError: a layer that is not there or does not run once, no single linear layer that gives the output,
            k as large as the number of rows, or classes as in `probe`.
        TypeError: `by` is no mapping, or "cue" of data without a cue.

    Example:
        Two pairs of directions: each row's nearest has its own label, and the other cue.

        >>> x, y = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = measure_neighbours(nn.Linear(2, 2), (x, y), {"label": "label", "cue": [0, 1, 0, 1]}, k=1)
        >>> found["label"].share, found["cue"].share, round(found["cue"].chance, 4)
        (1.0, 0.0, 0.3333)
    """
    check_is("model", model, nn.Module)
    check_is("by", by, Mapping, '; pass {"label": "label", "cue": "cue"}, or a class for each row by name')
    if not by:
        raise ValueError('by names nothing that neighbours may share; pass {"label": "label"}')
    for name, count in (("k", k), ("width", width)):
        check_count(name, count)
    source = as_data("data", data)
    given = {name: check_target(f"by[{name!r}]", target, source) for name, target in by.items()}
    compute = fix_device(resolve_compute(compute, device, progress), model)
    reader = _read_layer(model, source, layer, width, seed, compute)
    found = reader.read()
    (name, features), *_ = found.layers.items()
    classes = {own: read_classes(f"by[{own!r}]", values, found.targets) for own, values in given.items()}
    rows = len(features.values)
    if k >= rows:
        raise ValueError(f"k must be less than the number of rows, {rows}, got {k}")
    shares = _count_shared(features.values, [own.numbers for own in classes.values()], k)
    return Neighbours(
        {
            own: NeighbourShare(share, _find_chance(classes[own]), len(classes[own].names))
            for own, share in zip(classes, shares, strict=True)
        },
        k,
        name,
        features.units,
        features.reduction,
        rows,
        found.computed,
    )


def _read_layer(
    model: nn.Module, source: Data, layer: str | None, width: int, seed: int, compute: Compute
) -> FeatureReader:
    if layer is None:
        head = FeatureReader(model, "model", source, None, width, seed, compute).head
        if head is None:
            raise ValueError("the output does not come from exactly one linear layer, the head; name a layer, layer=")
        layer = f"{HEAD}{head}"
    check_is("layer", layer, str)
    return FeatureReader(model, "model", source, [layer], width, seed, compute)


def _find_chance(classes: RowClasses) -> float:
    counts = classes.counts.double()
    return float((counts * (counts - 1)).sum() / (counts.sum() * (counts.sum() - 1)))


def _count_shared(x: Tensor, classes: list[Tensor], k: int) -> list[float]:
    """For each kind of class the mean share of the k nearest rows that have a row's own."""
    shared: list[list[Tensor]] = [[] for _ in classes]
    for rows, weights in weigh_nearest(scale_rows(x), k):
        for found, values in zip(shared, classes, strict=True):
            found.append((weights * (values[rows, None] == values)).sum(1))
    return [float(torch.cat(found).sum()) / (len(x) * k) for found in shared]
