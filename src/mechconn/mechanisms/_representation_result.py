"""How alike two networks represent the same data, as `representation_similarity` gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_marks, write_sentence

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

SimilarityMeasure: TypeAlias = Literal["cka", "mutual_neighbours"]
ITSELF = "the model itself"
NO_INTERVAL = (
    "No interval: every row counts in the pairs of all others, so rows are no independent values, and a bootstrap "
    "would count duplicates as neighbours and raise both measures; measure disjoint parts of the data and compare them."
)


@dataclass(frozen=True)
class LargestSimilarity:
    """The largest value over all pairs of layers, and what it is by chance.

    Attributes:
        pair: its name, as in `RepresentationSimilarity.layers`.
        value: unbiased CKA, or the share of mutual neighbours.
        chance: mean of the largest value over random orders of B's rows, one for all layers.
        upper: the 95th percentile of it over these orders.
        p_value: (1 + orders that reach the value) / (1 + orders), of rows that correspond by chance alone.
        permutations: random orders.
    """

    pair: str
    value: float
    chance: float
    upper: float
    p_value: float
    permutations: int

    def __str__(self) -> str:
        return (
            f"largest of all pairs: {self.value:z.3f} ({self.pair}); the largest with B's rows in random order is "
            f"{self.chance:z.3f} on average and at most {self.upper:z.3f} in 95 % of {self.permutations} orders "
            f"(p = {self.p_value:.3g})"
        )


@dataclass(frozen=True, repr=False)
class RepresentationSimilarity(Result, Mapping[str, float | None], kind="representation_similarity"):
    """Similarity by layer; `result["layer4"]` is that of the layer "layer4". `print(result)` lists them.

    Attributes:
        layers: layer -> CKA in [0, 1], the biased estimate, or the share of mutual neighbours; None where its units are
            constant on the data in one of the models. Layers of different names stand as "layer of A / layer of B";
            `result["conv1", "fc"]` finds them too.
        widths: layer -> (units in A, units in B); empty where they are not known, in files of release 0.1.0.
        samples: rows that it was estimated from.
        left_out: layer -> why it has no similarity; layers that were not asked for by name and have no activation to
            compare, such as heads that serve training alone.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
        measure: "cka" or "mutual_neighbours".
        unbiased: layer -> the unbiased estimate of CKA in [-1, 1]; None of fewer than four rows and where units are
            constant; empty of neighbours, and in files of release 0.1.0.
        pairs: layer -> (layer of A, layer of B) where these may differ; empty where layers have one name.
        k: neighbours of each row; None of CKA.
        clamp: the quantile of a row's |features| at which these were clamped; None of CKA.
        largest: over all pairs, beside chance, where random orders were asked for.
    """

    derived: ClassVar[tuple[str, ...]] = ("estimator", "positions", "chance")

    layers: Mapping[str, float | None]
    widths: Mapping[str, tuple[int, int]]
    samples: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)
    measure: SimilarityMeasure = "cka"
    unbiased: Mapping[str, float | None] = field(default_factory=dict)
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    k: int | None = None
    clamp: float | None = None
    largest: LargestSimilarity | None = None

    def __getitem__(self, layer: str | tuple[str, str]) -> float | None:
        return self.layers[layer if isinstance(layer, str) else self.name_pair(*layer)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def name_pair(self, a: str, b: str) -> str:
        """What stands in `layers` for a layer of A and one of B.

        Raises:
            KeyError: they were not compared.
        """
        if not self.pairs and a == b and a in self.layers:
            return a
        for name, pair in self.pairs.items():
            if pair == (a, b):
                return name
        raise KeyError((a, b))

    @property
    def estimator(self) -> str:
        """Which estimate `layers` holds."""
        return "biased" if self.measure == "cka" else "count"

    @property
    def positions(self) -> str:
        """What becomes of the positions of a convolution or a sequence."""
        return "averaged"

    @property
    def chance(self) -> float | None:
        """k / (N - 1), what mutual neighbours are on average over random orders of B's rows; None of CKA."""
        return None if self.k is None else self.k / (self.samples - 1)

    def __str__(self) -> str:
        """A line for each layer, then those left out."""
        lines = [f"{self._title()}, {self.samples} rows"]
        for layer, value in self.layers.items():
            said = "none: it does not vary on these data" if value is None else f"{value:.3f}"
            unbiased = (
                f", unbiased {_format(self.unbiased[layer])}" if layer in self.unbiased and value is not None else ""
            )
            units = " ({} and {} units)".format(*self.widths[layer]) if layer in self.widths else ""
            lines.append(f"  {layer or ITSELF}: {said}{unbiased}{units}")
        lines += [] if self.largest is None else [f"  {self.largest}"]
        lines += [f"  {layer}: left out ({why})" for layer, why in self.left_out.items()]
        return "\n".join(lines)

    def _title(self) -> str:
        if self.measure == "cka":
            return "linear CKA by layer"
        return f"mutual nearest neighbours by layer, k = {self.k}, chance {self.chance:.3f}"

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer: what was measured, and the units in A and B."""
        found = []
        for layer, value in self.layers.items():
            layer_a, layer_b = self.pairs.get(layer, (layer, layer))
            a, b = self.widths.get(layer, (None, None))
            beside = {"unbiased_cka": self.unbiased.get(layer)} if self.measure == "cka" else {"chance": self.chance}
            own = {"layer": layer, "layer_a": layer_a, "layer_b": layer_b, self.measure: value}
            found.append({**own, **beside, "units_a": a, "units_b": b})
        return found

    def header(self) -> Header:
        """What was asked."""
        title = self._title()
        return Header(title[0].upper() + title[1:], "How alike are the representations?")

    def sections(self) -> list[Section]:
        """The similarity of every layer."""
        rows = tuple(self._make_row(layer, value) for layer, value in self.layers.items())
        left_out = "; ".join(f"{layer} ({why})" for layer, why in self.left_out.items())
        title = self._title()
        figure = Drawing(self.plot, f"{title[0].upper()}{title[1:]}. {self}")
        absent = f" Left out: {left_out}." if left_out else ""
        largest = "" if self.largest is None else f" {write_sentence(str(self.largest))}"
        note = f"Over {self.samples:,} rows; {self._explain()}{largest}{absent}"
        table = Table(("layer", *self._columns()), rows)
        return [Section("Representations", figures=(figure,), tables=(table,), note=note)]

    def _columns(self) -> tuple[str, ...]:
        if self.measure == "mutual_neighbours":
            return "mutual neighbours", "chance"
        return ("linear CKA", "unbiased") if self.unbiased else ("linear CKA",)

    def _make_row(self, layer: str, value: float | None) -> tuple[str | Cell, ...]:
        units = "{} and {} units".format(*self.widths[layer]) if layer in self.widths else ""
        own = Cell("no variance" if value is None else f"{value:.3f}", units)
        if self.measure == "mutual_neighbours":
            return layer or ITSELF, own, f"{self.chance:.3f}"
        return (layer or ITSELF, own, _format(self.unbiased[layer])) if self.unbiased else (layer or ITSELF, own)

    def _explain(self) -> str:
        if self.measure == "mutual_neighbours":
            return f"chance is that of rows in random order. {NO_INTERVAL}"
        biased = "of unrelated layers the biased estimate comes out near their width over the rows"
        return f"{biased}, the unbiased one near 0. {NO_INTERVAL}" if self.unbiased else f"{biased}."

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the measure by layer; a layer that does not vary has no mark.

        Of pairs of layers, those of A stand side by side, and each layer of B has a mark: of unbiased CKA where there
        is one.
        """
        label = {"cka": "linear CKA", "mutual_neighbours": "mutual neighbours"}[self.measure]
        if not self.pairs:
            names = [name or ITSELF for name in self.layers]
            first = "biased" if self.unbiased else "CKA"
            series = {first if self.measure == "cka" else label: [_mark(value) for value in self.layers.values()]}
            if self.unbiased:
                series["unbiased"] = [_mark(self.unbiased[layer]) for layer in self.layers]
            if self.chance is not None:
                series["chance"] = [_mark(self.chance)] * len(names)
            return draw_marks(names, series, label, "layer", ax)
        known = {self.pairs[layer]: value for layer, value in (self.unbiased or self.layers).items()}
        here, there = (dict.fromkeys(pair[side] for pair in known) for side in (0, 1))
        series = {f"B: {b or ITSELF}": [_mark(known.get((a, b))) for a in here] for b in there}
        label = "unbiased linear CKA" if self.unbiased else label
        return draw_marks([name or ITSELF for name in here], series, label, "layer of A", ax)


def _format(value: float | None) -> str:
    return "none" if value is None else f"{value:z.3f}"


def _mark(value: float | None) -> tuple[float, float, float] | None:
    return None if value is None else (value, value, value)
