"""How alike two networks represent the same data, layer by layer: linear centred kernel alignment (CKA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._batches import as_data, batches, generators_kept
from mechconn._checks import check_choice
from mechconn._evaluate import ROWS_ON_CPU
from mechconn._params import LINEAR_MAPS, Network, device_of, parameters_of
from mechconn._precision import Precision
from mechconn._rng import isolated
from mechconn._typing import Data

CHANNELS_SECOND = (nn.Conv1d, nn.BatchNorm1d)


@dataclass(frozen=True)
class RepresentationSimilarity(Mapping[str, float | None]):
    """Linear CKA by layer; `result["layer4"]` is that of the layer "layer4".

    Attributes:
        layers: layer -> CKA in [0, 1], the biased estimate; None where its units are constant on the data in
            one of the models.
        widths: layer -> (units in A, units in B).
        samples: rows that it was estimated from.
    """

    layers: Mapping[str, float | None]
    widths: Mapping[str, tuple[int, int]]
    samples: int

    def __getitem__(self, layer: str) -> float | None:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "estimator": "biased", "positions": "averaged"}


@torch.no_grad()
def representation_similarity(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Data,
    layers: Sequence[str] | None = None,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
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
    [N, positions ..., units].

    Alike representations are no evidence of one mechanism: a network may represent a cue and not use it.

    Args:
        model_a: any network; it stays as it is.
        model_b: a network that has the layers by the same names.
        data: one split, such as suite["cue"].
        layers: names of modules, as in `model.named_modules()`; default: every convolution and linear layer.
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where A is.
        precision: "float32" computes in the models' own type, "auto" in bfloat16 where the device is faster with it.

    Raises:
        ValueError: a model lacks a layer (a near name is suggested), a layer runs not once in a forward pass or
            gives no tensor, or an activation is not finite.

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
    place = device_of(model_a, device)
    networks = [Network(model, place, precision) for model in (model_a, model_b)]
    names = [name for name, part in networks[0].module.named_modules() if isinstance(part, LINEAR_MAPS)]
    names = names if layers is None else list(layers)
    points = [network.load(parameters_of(model)) for network, model in zip(networks, (model_a, model_b), strict=True)]
    moments = {name: _Moments() for name in names}
    with _recorded(networks[0], names, "model_a") as seen_a, _recorded(networks[1], names, "model_b") as seen_b:
        with isolated(seed, "representation_similarity"), generators_kept(data):
            for inputs, _ in batches("data", as_data("data", data), batch_size=ROWS_ON_CPU, device=place):
                for network, point, seen in zip(networks, points, (seen_a, seen_b), strict=True):
                    seen.clear()
                    network(point, network.buffers, inputs)
                for name, moment in moments.items():
                    moment.add(_units(name, "model_a", seen_a), _units(name, "model_b", seen_b))
    return RepresentationSimilarity(
        {name: moment.cka() for name, moment in moments.items()},
        {name: moment.widths for name, moment in moments.items()},
        next((moment.rows for moment in moments.values()), 0),
    )


class _Moments:
    """Sums, products and their cross of two activations, around the first batch's means, in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.widths = (0, 0)

    def add(self, x: Tensor, y: Tensor) -> None:
        """One batch: [n, p] and [n, q]."""
        x, y = x.double(), y.double()
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


@contextmanager
def _recorded(network: Network, names: Sequence[str], whose: str) -> Iterator[dict[str, list[Tensor]]]:
    """While it lasts, what each layer gives in a forward pass is appended under its name, as [N, units]."""
    seen: dict[str, list[Tensor]] = {}
    parts = dict(network.module.named_modules())

    def keep(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.dim() < 2:
                raise ValueError(_errors.NO_ACTIVATION.format(name=name, whose=whose, got=type(output).__name__))
            seen.setdefault(name, []).append(_pooled(module, output))

        return hook

    handles = []
    try:
        for name in names:
            if name not in parts:  # "" is the model itself, where that is one layer
                check_choice(f"a layer of {whose}", name, tuple(part for part in parts if part))
            handles.append(parts[name].register_forward_hook(keep(name)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _pooled(module: nn.Module, output: Tensor) -> Tensor:
    """[N, units], positions averaged."""
    if output.dim() == 2:
        return output
    if output.dim() >= 4 or isinstance(module, CHANNELS_SECOND):
        return output.flatten(2).mean(2)
    return output.mean(1)


def _units(name: str, whose: str, seen: Mapping[str, list[Tensor]]) -> Tensor:
    """The one activation of a layer in the last forward pass, on the CPU."""
    found = seen.get(name, [])
    if len(found) != 1:
        raise ValueError(_errors.NOT_ONCE.format(name=name, whose=whose, times=len(found)))
    units = found[0].cpu()
    if not bool(units.isfinite().all()):
        raise ValueError(_errors.ACTIVATION_NOT_FINITE.format(name=name, whose=whose))
    return units
