"""Normalisation statistics at any point of weight space, without touching the user's module.

Between two endpoints the running statistics of neither fit: they describe activations of other weights. So
every point on a path gets its own, and which data they come from is recorded with every result.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mechconn.core import (
    Buffers,
    Data,
    Inputs,
    Registered,
    SampleSource,
    as_data,
    check_choice,
    check_count,
    check_fraction,
    check_is,
    check_positive,
    check_same_keys,
    find_listed_labels,
    is_built_in,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    make_generator,
    merge_last_row,
    move_inputs,
    stand_by_class,
    take_first_rows,
)
from mechconn.network._copies import set_mode
from mechconn.network._image_layout import channels_last_in_training
from mechconn.network._norm_moments import BatchNormMoments, record_statistics
from mechconn.network._params import Network, compute_weighted_mean
from mechconn.network._points import Curve, Point, list_statistics, load_point


class NormPolicy(Registered, abc.ABC):
    """How a network gets its normalisation statistics at a point of a path: extend it for a policy of your own.

    A subclass gives `renew` and `describe`; the other methods have safe defaults. It is registered where it is defined,
    so that audit.toml may name it: under its class name, or under `class Mine(NormPolicy, name="mine")`. Where its
    constructor takes `data` and `label`, a file gives it the data under [norm] and their name.

    Example:
        The statistics of B everywhere but at A.

        >>> class FromB(NormPolicy):
        ...     def renew(self, network, path, t, point):
        ...         return point if t == 0.0 else Point(point.params, dict(path.ends[1].buffers))
        ...     def describe(self):
        ...         return {"policy": "from B"}
        >>> FromB().describe()
        {'policy': 'from B'}
    """

    def point(self, network: Network, path: Curve, t: float) -> Point:
        """The parameters and buffers that the network uses at gamma(t), on its device; fresh buffers.

        Raises:
            ValueError: as `load_point` and `renew`.
        """
        found = self.renew(network, path, t, load_point(network, path, t))
        return found if is_built_in(type(self)) else _check_renewed(type(self).__name__, network, found)

    @abc.abstractmethod
    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        """`point` with normalisation statistics of this policy.

        Args:
            network: the architecture; its `buffers` are those of the model that the user passed.
            path: `path.ends` are A and B with their own statistics.
            t: where on it; `path.place(t)` is the place between the ends.
            point: gamma(t). At an end its statistics are that end's; between them those that both ends share, else the
                network's own.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to repeat it: plain values."""

    def is_constant(self, network: Network, path: Curve, start: Buffers, end: Buffers, example: Inputs) -> bool:
        """Whether the statistics are the same all along a path, given the buffers at both ends, and inputs to try."""
        return False

    def reads_ends(self) -> bool:
        """Whether the statistics at one end of a path may depend on the other end; say False only where none can."""
        return True

    def follows_units(self, network: Network) -> bool:
        """Whether a network whose hidden units were permuted gets its statistics permuted alike, whatever the path."""
        return False


def _check_renewed(name: str, network: Network, found: Point) -> Point:
    """What a user's policy returned, once it is a point of the network with all of its buffers."""
    hint = "; return mechconn.Point(point.params, {**point.buffers, **statistics})"
    check_is(f"what {name}.renew returns", found, Point, hint)
    network.check(f"parameters in what {name}.renew returns", found.params)
    check_same_keys(f"buffers in what {name}.renew returns", network.buffers, found.buffers)
    return found


@dataclass(frozen=True)
class KeepNorm(NormPolicy, name="keep"):
    """Use the statistics that the model holds, at every point alike, also where they are another network's."""

    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        """The point with the model's own statistics."""
        kept = {name: network.buffers[name].clone() for name in list_statistics(network.module)}
        return Point(point.params, {**point.buffers, **kept})

    def describe(self) -> dict[str, Any]:
        """{"policy": "keep"}."""
        return {"policy": "keep"}

    def reads_ends(self) -> bool:
        """False."""
        return False

    def follows_units(self, network: Network) -> bool:
        """Only where there are no statistics: they are kept for the order of units that the model has."""
        return not find_statistics_layers(network)


@dataclass(frozen=True)
class InterpolateNorm(NormPolicy, name="interpolate"):
    """Interpolate the endpoints' own running statistics: (1 - t) mean_a + t mean_b, (1 - t) var_a + t var_b.

    No data are read, and at t = 0 and t = 1 each endpoint keeps what it was trained with, bit for bit. Between them
    the network has other activations than either endpoint, whose variance is as a rule smaller than this: the
    statistics of `Reestimate` fit, these do not.

    Raises:
        ValueError: when used: the path holds parameters alone, or the point lies on no path between two networks.

    Source: Jordan et al. 2022, REPAIR (the variance collapses between endpoints).
    """

    @torch.no_grad()
    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        """The point with running statistics of weight 1 - t from A and t from B."""
        if path.end_at(t) is not None:
            _check_known(path, self)
            return point
        names = [n for n in list_statistics(network.module) if n.rpartition(".")[2] in ("running_mean", "running_var")]
        t, ends = path.place(t), _check_known(path, self)
        held = [{name: end.buffers[name].to(network.device) for name in names} for end in ends]
        return Point(point.params, {**point.buffers, **compute_weighted_mean(held, (1.0 - t, t))})

    def describe(self) -> dict[str, Any]:
        """{"policy": "interpolate"}."""
        return {"policy": "interpolate"}

    def follows_units(self, network: Network) -> bool:
        """True: an end has its own statistics."""
        return True


@dataclass(frozen=True, eq=False)
class Reestimate(NormPolicy, name="reestimate"):
    r"""Re-estimate BatchNorm's statistics at each point by one pass over `data` in training mode.

    Each batch b is normalised by its own mean mu_b and variance v_b over n_b values per channel (samples x
    positions). With weights w_b = n_b / M, M the number of values per channel in all batches,
    `average="cumulative"` gives per channel

        mean = sum_b w_b mu_b,        var = (sum_b w_b (v_b + mu_b^2) - mean^2) M / (M - 1):

    the moments of all activations, made unbiased once. Layers that the model keeps in evaluation mode (frozen
    BatchNorm) keep their own. `average="exponential"` starts at mean 0 and variance 1 and moves by `momentum` to
    each batch's mean and unbiased variance, over one pass that is shuffled by `seed` where the data are a dataset or
    a pair of tensors. So is the cumulative pass where their rows stand class after class, sorted or domain by domain,
    in more than one batch.

    Attributes:
        data: what the statistics come from; by convention training data, never test data.
        average: "cumulative" (default) or "exponential".
        batch_size: rows per batch where `data` is a dataset or a pair of tensors.
        momentum: of the exponential average, in (0, 1].
        seed: of the order where rows are shuffled, and of dropout.
        label: a name for the data, kept in the record.

    Source: Lubana et al. 2023, appendix; Izmailov et al. 2018 (re-estimation after averaging weights).
    """

    data: Data
    average: Literal["cumulative", "exponential"] = "cumulative"
    batch_size: int = 256
    momentum: float = 0.1
    seed: int = 0
    label: str = "unnamed data"
    _checked: Data = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("average", self.average, ("cumulative", "exponential"))
        check_count("batch_size", self.batch_size)
        check_fraction("momentum", check_positive("momentum", self.momentum))
        object.__setattr__(self, "_checked", as_data("norm data", self.data))

    def describe(self) -> dict[str, Any]:
        """Policy, average, name of the data, seed; batch size and number of samples where the policy decides them.

        Both are None of batches that the user made.
        """
        source = self._checked if isinstance(self._checked, SampleSource) else None
        plain = {
            "policy": "reestimate",
            "average": self.average,
            "data": self.label,
            "batch_size": None if source is None else self.batch_size,
            "samples": None if source is None else len(source),
            "seed": self.seed,
        }
        return plain | ({"momentum": self.momentum} if self.average == "exponential" else {})

    @torch.no_grad()
    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        """The point with every BatchNorm layer's statistics re-estimated there."""
        # What a module's own train() keeps in evaluation mode (frozen BatchNorm) normalises by what it holds.
        set_mode(network.restored_module(), True)
        layers = find_norm_layers(network)
        if path.end_at(t) is None:
            _check_frozen(path, [prefix for prefix, layer in layers.items() if not layer.training])
        trained = {prefix: layer for prefix, layer in layers.items() if layer.training}
        return Point(point.params, self._estimate(network, trained, point)) if trained else point

    def is_constant(self, network: Network, path: Curve, start: Buffers, end: Buffers, example: Inputs) -> bool:
        """Whether no statistics depend on what moves: they are equal at both ends, and no gradient leads there."""
        names = list_statistics(network.module)
        if not names or any(not torch.equal(start[name], end[name]) for name in names):
            return False
        moved = path.moved
        return moved is not None and not self._reached(
            network, Point(network.load(path.at(0.0)), start), moved, example
        )

    def reads_ends(self) -> bool:
        """False: the weights at the end and the data decide."""
        return False

    def follows_units(self, network: Network) -> bool:
        """True: activations are permuted alike."""
        return True

    def _reached(self, network: Network, point: Point, moved: Sequence[str], example: Inputs) -> bool:
        """Whether the inputs of some layer with statistics depend on some of these parameters, on an example."""
        found: list[bool] = []

        def look(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(any(t.requires_grad for t in (*args, *kwargs.values()) if isinstance(t, Tensor)))

        if torch.is_inference_mode_enabled():  # nothing is recorded then
            return True
        set_mode(network.restored_module(), True)
        handles = [
            layer.register_forward_pre_hook(look, with_kwargs=True) for layer in find_norm_layers(network).values()
        ]
        tracked = {name: t.detach().clone().requires_grad_(name in moved) for name, t in point.params.items()}
        scratch = {name: buffer.clone() for name, buffer in point.buffers.items()}
        try:
            with torch.enable_grad(), isolate_rng(self.seed, "norm"):
                network(tracked, scratch, take_first_rows(move_inputs(example, network.device), 2), training=True)
        except Exception:  # a forward pass that cannot do with few rows
            return True
        finally:
            for handle in handles:
                handle.remove()
        return any(found)

    def _draws_order(self) -> bool:
        """Whether rows are shuffled: of the exponential average, and of rows that stand class after class.

        Batches of one class would be normalised by the statistics of that class.
        """
        if self.average == "exponential":
            return True
        y = find_listed_labels(self._checked)
        return y is not None and len(y) > self.batch_size and stand_by_class(y)

    def _estimate(self, network: Network, layers: dict[str, _BatchNorm], point: Point) -> Buffers:
        """The point's buffers with re-estimated statistics of these layers, which are in training mode."""
        result = {name: buffer.clone() for name, buffer in point.buffers.items()}
        shuffle = make_generator(self.seed, "norm order") if self._draws_order() else None
        decay = self.momentum if self.average == "exponential" else None
        moments = {name: BatchNormMoments(decay) for name in layers}
        scratch = {name: buffer.clone() for name, buffer in point.buffers.items()}
        for prefix in layers:  # what they hold is weighted by zero, which NaN and infinity would survive
            scratch[f"{prefix}running_mean"].zero_()
            scratch[f"{prefix}running_var"].zero_()
        with isolate_rng(self.seed, "norm"), keep_generator_states(self._checked), record_statistics(layers, moments):
            found = iterate_batches(
                "norm data", self._checked, batch_size=self.batch_size, device=network.device, shuffle=shuffle,
                model=network.module,
            )  # fmt: skip
            for inputs, targets in merge_last_row(found):
                try:
                    with channels_last_in_training(network, point.params, scratch, inputs):
                        network(point.params, scratch, inputs, training=True)
                except ValueError as error:
                    if len(targets) > 1 or "more than 1 value per channel" not in str(error):
                        raise
                    raise ValueError(
                        "norm data: a batch has one row, and layers that normalise over a batch need two rows or more; "
                        "pass a loader with larger batches, or the dataset itself"
                    ) from error
        for name, layer_moments in moments.items():
            if layer_moments.count:  # a layer that the forward pass never reached keeps what it had
                mean, variance = layer_moments.statistics()
                result[f"{name}running_mean"].copy_(mean)
                result[f"{name}running_var"].copy_(variance)
        return result


def find_statistics_layers(network: Network) -> dict[str, torch.nn.Module]:
    """Layers that keep running statistics, under their names."""
    return {
        name: module
        for name, module in network.module.named_modules()
        if isinstance(getattr(module, "running_mean", None), Tensor)
    }


def find_norm_layers(network: Network) -> dict[str, _BatchNorm]:
    """Layers that keep running statistics, under the prefix of their buffers' names.

    Raises:
        ValueError: one of them is no BatchNorm, so that the formula is not known.
    """
    stateful = find_statistics_layers(network)
    foreign = [name for name, module in stateful.items() if not isinstance(module, _BatchNorm)]
    if foreign:
        raise ValueError(
            f"cannot re-estimate the running statistics of {', '.join(foreign)}: only BatchNorm layers have a "
            "known formula; pass norm=KeepNorm()"
        )
    prefixed = {f"{name}." if name else "": module for name, module in stateful.items()}
    return {prefix: module for prefix, module in prefixed.items() if isinstance(module, _BatchNorm)}


def resolve_norm(norm: NormPolicy | None, network: Network) -> NormPolicy:
    """`norm`, which may only be left out for a network that keeps no running statistics.

    Raises:
        ValueError: it keeps some, and nobody said where they come from.
        TypeError: `norm` is no policy.
    """
    if norm is None and (layers := list(find_statistics_layers(network))):
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        raise ValueError(
            f"the model keeps normalisation statistics ({', '.join(layers[:3]) + more}), and those of one endpoint "
            "are wrong elsewhere on the path; pass norm=Reestimate(training batches), or norm=KeepNorm() to use "
            "the model's own on purpose"
        )
    norm = KeepNorm() if norm is None else norm
    check_is("norm", norm, NormPolicy, "; pass Reestimate(data) or KeepNorm()")
    return norm


def _check_frozen(path: Curve, prefixes: Sequence[str]) -> None:
    """Raise where frozen layers hold other statistics at one known point of a path than at another."""
    held = [point.buffers for point in path.sources if point.buffers]
    names = [f"{prefix}{kind}" for prefix in prefixes for kind in ("running_mean", "running_var")]
    unlike = [n for n in names if any(not torch.equal(held[0][n].cpu(), other[n].cpu()) for other in held[1:])]
    if unlike:
        more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        raise ValueError(
            f"the model keeps {', '.join(unlike[:3])}{more} frozen, so that they are not re-estimated, and the ends of "
            "the path differ in them; pass norm=InterpolateNorm()"
        )


def _check_known(path: Curve, policy: NormPolicy) -> tuple[Point, Point]:
    """Both ends of the path, after refusing ends whose statistics are not known."""
    ends = path.ends
    if not all(end.buffers for end in ends):
        raise ValueError(
            f"{type(policy).__name__} needs the statistics of both ends, and the path holds parameters alone; pass the "
            "networks, LinearPath.between(a, b)"
        )
    return ends
