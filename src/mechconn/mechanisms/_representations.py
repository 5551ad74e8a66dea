"""How alike two networks represent the same data, layer by layer: linear centred kernel alignment (CKA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Progress,
    as_data,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    resolve_compute,
)
from mechconn.mechanisms._layers import LayerPair, NoActivation
from mechconn.network import ROWS_ON_CPU, Network, Point, fix_device, point_of
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_marks

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True, repr=False)
class RepresentationSimilarity(Result, Mapping[str, float | None], kind="representation_similarity"):
    """Linear CKA by layer; `result["layer4"]` is that of the layer "layer4". `print(result)` lists them.

    Attributes:
        layers: layer -> CKA in [0, 1], the biased estimate; None where its units are constant on the data in
            one of the models.
        widths: layer -> (units in A, units in B); empty where they are not known, in files of release 0.1.0.
        samples: rows that it was estimated from.
        left_out: layer -> why it has no CKA; layers that were not asked for by name and have no activation to compare,
            such as heads that serve training alone.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
    """

    derived: ClassVar[tuple[str, ...]] = ("estimator", "positions")

    layers: Mapping[str, float | None]
    widths: Mapping[str, tuple[int, int]]
    samples: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, layer: str) -> float | None:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        """A line for each layer, then those left out."""
        lines = [f"linear CKA by layer, {self.samples} rows"]
        for layer, value in self.layers.items():
            said = "none: it does not vary on these data" if value is None else f"{value:.3f}"
            units = " ({} and {} units)".format(*self.widths[layer]) if layer in self.widths else ""
            lines.append(f"  {layer or 'the model itself'}: {said}{units}")
        lines += [f"  {layer}: left out ({why})" for layer, why in self.left_out.items()]
        return "\n".join(lines)

    @property
    def estimator(self) -> str:
        """Which estimate of CKA it is."""
        return "biased"

    @property
    def positions(self) -> str:
        """What becomes of the positions of a convolution or a sequence."""
        return "averaged"

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer: its CKA, and the units in A and B."""
        return [
            {"layer": layer, "cka": value, "units_a": a, "units_b": b}
            for layer, value in self.layers.items()
            for a, b in [self.widths.get(layer, (None, None))]
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header("Linear CKA by layer", "How alike are the representations?")

    def sections(self) -> list[Section]:
        """The similarity of every layer."""
        rows = tuple(
            (
                layer or "the model itself",
                Cell(
                    "no variance" if value is None else f"{value:.3f}",
                    "{} and {} units".format(*self.widths[layer]) if layer in self.widths else "",
                ),
            )
            for layer, value in self.layers.items()
        )
        left_out = "; ".join(f"{layer} ({why})" for layer, why in self.left_out.items())
        figure = Drawing(self.plot, f"Linear CKA by layer. {self}")
        absent = f" Left out: {left_out}." if left_out else ""
        note = f"Over {self.samples:,} rows; unrelated layers come out near their width over the rows.{absent}"
        return [
            Section("Representations", figures=(figure,), tables=(Table(("layer", "linear CKA"), rows),), note=note)
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: linear CKA by layer; a layer that does not vary has no mark."""
        marks = [None if value is None else (value, value, value) for value in self.layers.values()]
        return draw_marks(
            [name or "the model itself" for name in self.layers], {"CKA": marks}, "linear CKA", "layer", ax
        )


@torch.no_grad()
def representation_similarity(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Data,
    layers: Sequence[str] | Literal["all"] | None = None,
    *,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> RepresentationSimilarity:
    r"""Linear CKA between two models' activations of the same layers on the same rows.

    With centred activations X [N, p] of A and Y [N, q] of B,

        CKA = ||Y' X||_F^2 / (||X' X||_F ||Y' Y||_F),

    1 where one is the other up to rotation, reflection and one scale, so a permutation of units does not matter.
    Three matrices of second moments are accumulated in one pass, in float64: memory grows with the square of
    the widths and not with N. This is the biased estimate: unrelated activations come out near p / N rather than
    0, so N should be well above the widths (`samples`, `widths`).

    The units of a convolution are its channels, averaged over positions: flattened maps would have moments of
    (channels x positions)^2 entries and compare where a feature is, not whether it is there. Activations of four
    dimensions or more, and those of Conv1d and BatchNorm1d, are read as [N, channels, positions ...], all others as
    [N, positions ..., units], or as [positions, N, units] of layers with batch_first=False. Of packed and nested
    sequences the positions that are there are averaged. Of a tuple, list, mapping or dataclass the first part counts:
    the output of `nn.LSTM` and of `nn.MultiheadAttention`.

    By default the layers are all linear maps (convolutions, also transposed ones, linear layers, and GPT-2's `Conv1D`),
    all recurrent layers and cells, and `nn.MultiheadAttention`. A layer has one activation to compare where its forward
    pass runs once on every batch in both models, with finite outputs for each row. Those that have none are left out
    and named in `left_out`: heads that serve training alone, blocks and cells that run several times, weights that
    another module uses without calling their layer. Layers that are asked for by name are refused instead.

    Alike representations are no evidence of one mechanism: a network may represent a cue and not use it.

    Args:
        model_a: any network; it stays as it is.
        model_b: a network that has the layers by the same names.
        data: one split, such as suite["cue"].
        layers: names of modules, as in `model.named_modules()`; default, or "all": every such layer that runs once.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where A is.
        progress: short for `Compute(progress=...)`; counts batches.

    Raises:
        ValueError: layers asked for by name: a model lacks one (a near name is suggested), it runs not once in a
            forward pass, gives no tensor, or an activation is not finite. By default: no layer is left to compare.
        TypeError: layers that are a text other than "all".

    Example:
        >>> one = nn.Linear(2, 2).requires_grad_(False)
        >>> other = nn.Linear(2, 2).requires_grad_(False)
        >>> _ = one.weight.copy_(torch.eye(2)), other.weight.copy_(torch.tensor([[0.0, 3.0], [-3.0, 0.0]]))
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 2.0]])
        >>> found = representation_similarity(nn.Sequential(one), nn.Sequential(other), (x, torch.zeros(3)))
        >>> round(found["0"], 6)  # a rotation and a scale
        1.0

    Source: Kornblith, Norouzi, Lee & Hinton, *Similarity of neural network representations revisited*, ICML 2019.
    """
    networks, points = _load_pair(model_a, model_b, resolve_compute(compute, device, progress))
    return compare_layers(networks, points, data, layers, seed)


def compare_layers(
    networks: tuple[Network, Network],
    points: tuple[Point, Point],
    data: Data,
    layers: Sequence[str] | str | None,
    seed: int,
) -> RepresentationSimilarity:
    """`representation_similarity` of two networks where they stand."""
    pair, compute = LayerPair(networks, points, layers), networks[0].compute
    source, rows = as_data("data", data), compute.choose_batch_size(ROWS_ON_CPU)
    moments, left_out, samples = {name: _CrossMoments() for name in pair.layers}, dict(pair.left_out), 0
    with isolate_rng(seed, "representation_similarity"), keep_generator_states(data):
        count = 0 if compute.progress is None else count_batches("data", source, rows)
        batches = iterate_batches("data", source, batch_size=rows, device=pair.device, model=networks[0].module)
        for number, (inputs, targets) in enumerate(batches):
            samples += len(targets)
            for name, found in pair.activations(inputs, len(targets)).items():
                unfit = found if isinstance(found, NoActivation) else moments[name].add(*found)
                if unfit is not None and pair.by_name:
                    raise unfit.error(name)
                if unfit is not None:
                    left_out.setdefault(name, unfit)
            compute.report("comparing layers", number + 1, count)
    kept = {name: moment for name, moment in moments.items() if name not in left_out}
    if not kept:
        raise NoLayersError(left_out)
    return RepresentationSimilarity(
        {name: moment.cka() for name, moment in kept.items()},
        {name: moment.widths for name, moment in kept.items()},
        samples,
        {name: str(why) for name, why in left_out.items()},
        pair.computed,
    )


def _load_pair(
    model_a: nn.Module, model_b: nn.Module, compute: Compute
) -> tuple[tuple[Network, Network], tuple[Point, Point]]:
    """Both networks, where A computes, and where they stand."""
    compute = fix_device(compute, model_a)
    return (Network(model_a, compute), Network(model_b, compute)), (point_of(model_a), point_of(model_b))


@torch.no_grad()
def check_layers(
    model_a: nn.Module,
    model_b: nn.Module,
    example: Inputs,
    layers: Sequence[str] | str | None = None,
    *,
    seed: int = 0,
    compute: Compute | None = None,
) -> None:
    """Run both models once on a few rows, and raise what `representation_similarity` would raise on these.

    Raises:
        ValueError: as there; `NoLayersError` where by default no layer is left.
        TypeError: as there.
    """
    pair = LayerPair(*_load_pair(model_a, model_b, resolve_compute(compute)), layers)
    with isolate_rng(seed, "representation_similarity"):
        found = pair.activations(pair.on_device(example), None)
    unfit = {name: why for name, why in found.items() if isinstance(why, NoActivation)}
    if pair.by_name:
        for name, why in unfit.items():
            raise why.error(name)
    if len(unfit) == len(found):
        raise NoLayersError({**pair.left_out, **unfit})


class NoLayersError(ValueError):
    """No layer is left to compare, where none was asked for by name."""

    def __init__(self, left_out: Mapping[str, NoActivation]) -> None:
        shown = "; ".join(f"{name or 'the model itself'}: {why}" for name, why in list(left_out.items())[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        found = f"none of the models' layers can be compared ({shown}{more})"
        super().__init__(
            f"{found if left_out else 'the models have no layers to compare'}; "
            "name layers that run once in a forward pass, layers=[...]"
        )


class _CrossMoments:
    """Sums, products and their cross of two activations, around the first batch's means, in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.widths = (0, 0)

    def add(self, x: Tensor, y: Tensor) -> NoActivation | None:
        """One batch, [n, p] and [n, q]; what is wrong with it where these are other widths than before."""
        x, y = x.double(), y.double()
        for whose, before, units in zip(("model_a", "model_b"), self.widths, (x, y), strict=True):
            if self.rows and units.shape[1] != before:
                why = f"gives {before} units on one batch and {units.shape[1]} on another"
                return NoActivation(whose, why, "; name a layer of one width")
        if self.rows == 0:
            self.widths = x.shape[1], y.shape[1]
            self._shift = x.mean(0), y.mean(0)
            self._sums = torch.zeros_like(x[0]), torch.zeros_like(y[0])
            self._products = [u.new_zeros(u.shape[1], v.shape[1]) for u, v in ((x, x), (y, y), (x, y))]
        x, y = x - self._shift[0], y - self._shift[1]
        self.rows += len(x)
        for total, values in zip(self._sums, (x, y), strict=True):
            total += values.sum(0)
        for total, (u, v) in zip(self._products, ((x, x), (y, y), (x, y)), strict=True):
            total += u.T @ v
        return None

    def cka(self) -> float | None:
        """||Y' X||^2 / (||X' X|| ||Y' Y||) of the centred activations; None where either does not vary."""
        sums, pairs = self._sums, ((0, 0), (1, 1), (0, 1))
        centred = [
            product - torch.outer(sums[i], sums[j]) / self.rows
            for product, (i, j) in zip(self._products, pairs, strict=True)
        ]
        for varied, shift in zip(centred, self._shift, strict=False):
            # Rounding of float32 activations around their mean, and far below any variance that says something.
            if float(varied.trace()) <= 1e-12 * self.rows * float(shift @ shift):
                return None
        within_x, within_y, between = (float(torch.linalg.matrix_norm(part)) for part in centred)
        return min(1.0, between**2 / (within_x * within_y))
