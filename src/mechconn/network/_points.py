"""Points of weight space with all their state, and what a network holds at a point of a curve between some.

Parameters alone are not a network: masks, temperatures, code books, normalisation statistics and the vectors of
spectral norm lie in buffers. A point has both, so that the ends of a path are the networks that they were made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.core import Buffers, Params, check_same_keys, check_same_shapes
from mechconn.network._adapter_layers import find_base, has_adapters, hold, share_memory
from mechconn.network._adapters import check_factors_alike, join_adapted
from mechconn.network._copies import forget_computed_values
from mechconn.network._one_module import check_ignored, check_one_module
from mechconn.network._params import Network, parameters_of, read_buffers
from mechconn.network._power_iteration import find_power_iterations, renew_power_iteration
from mechconn.network._statistics_buffers import list_statistics as list_statistics
from mechconn.network._wrappers import unwrap_module


@dataclass(frozen=True, eq=False)
class JoinedNetwork:
    """A network with low-rank adapters in a weight space that it shares with others; see `join_adapted`.

    Attributes:
        module: the network in that space.
        shared: its tensors that all the networks shared in memory already, which what is made of them shares too.
    """

    module: nn.Module
    shared: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """A point of weight space: what a network of one architecture computes with.

    The tensors are not copied: writing into one of them moves the point.

    Attributes:
        params: every parameter under its first name.
        buffers: every buffer likewise, such as normalisation statistics; empty where the parameters alone are known, as
            those of a network without buffers are.
        origin: the network as it was saved, where this one has another's values of buffers that are ignored.
        joined: where networks with low-rank adapters were brought into one weight space, the network whose point it is.
    """

    params: Params = field(repr=False)
    buffers: Buffers = field(default_factory=dict, repr=False)
    origin: Point | None = field(default=None, repr=False)
    joined: JoinedNetwork | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.params.values())
        return f"Point({count:,} parameters in {len(self.params)} tensors, {len(self.buffers)} buffers)"


PointLike: TypeAlias = nn.Module | Point | Mapping[str, Tensor]
"""A network, a point, or parameters alone."""


def point_of(model: nn.Module) -> Point:
    """The point that a model is: detached copies of its parameters and buffers.

    Buffers that hold what the module computed from its weights, and drops by its own rules, are left out. The frozen
    base under low-rank adapters is not copied: its tensors are the model's own, and nothing here writes into them.

    Raises:
        TypeError: the model is a TorchScript module.
        ValueError: a lazy module has not been run yet, so it has no weights.

    Example:
        >>> point_of(nn.BatchNorm1d(2))
        Point(4 parameters in 2 tensors, 3 buffers)
    """
    model, base = unwrap_module(model), find_base(model)
    if not base:
        return Point(parameters_of(model), read_buffers(forget_computed_values(model)))
    params = {name: hold(p) if name in base else p.detach().clone() for name, p in model.named_parameters()}
    return Point(params, read_buffers(forget_computed_values(model)))


def as_points(
    what: Sequence[str], given: Sequence[PointLike], ignore: Sequence[str] = (), model: nn.Module | None = None
) -> list[Point]:
    """Networks, points or parameters as points of one weight space.

    Buffers named in `ignore` are the first one's everywhere.

    Args:
        what: what errors call each.
        given: two or more of one kind.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        model: the module that they must be points of, where there is one.

    Raises:
        ValueError: two of them are not one module with other parameters and statistics, differ in names, shapes or
            types, or some have buffers and others none; or `ignore` has a name that none of them has.
        TypeError: one of them is of no such kind.
    """
    if any(isinstance(one, nn.Module) and has_adapters(one) for one in given):
        return _join_points(what, given, ignore)
    named = [("the model", model), *zip(what, given, strict=True)]
    models = [(name, one) for name, one in named if isinstance(one, nn.Module)]
    for name, other in models[1:]:
        if other is not models[0][1]:
            check_one_module(models[0][1], other, ignore=ignore, names=(models[0][0], name))
    points = [_as_point(name, one) for name, one in zip(what, given, strict=True)]
    check_ignored(ignore, [module for _, module in models], [point.buffers for point in points])
    first = points[0]
    for name, point in zip(what[1:], points[1:], strict=True):
        check_point(f"{what[0]} and {name}", first, point)
    if first.joined is None:
        check_factors_alike(what, [point.params for point in points])
    return [first, *(share_ignored(point, first, ignore) for point in points[1:])]


def join_networks(models: Sequence[nn.Module]) -> list[JoinedNetwork]:
    """Networks of which some carry adapters, in one weight space; see `join_adapted`."""
    bases = [find_base(model) for model in map(unwrap_module, models)]
    shared = all(
        base.keys() == bases[0].keys() and all(share_memory(base[name], tensor) for name, tensor in bases[0].items())
        for base in bases
    )
    modules = join_adapted(models)
    return [JoinedNetwork(module, tuple(find_base(module).values()) if shared else ()) for module in modules]


def find_joined(model: nn.Module, points: Sequence[Point]) -> nn.Module:
    """The network whose points these are: the model, but for networks with adapters brought into one weight space."""
    joined = points[0].joined if points else None
    return model if joined is None else joined.module


def _join_points(what: Sequence[str], given: Sequence[PointLike], ignore: Sequence[str]) -> list[Point]:
    """The points of networks with adapters; those that were copied to join them are not copied once more."""
    models = [one for one in given if isinstance(one, nn.Module)]
    for name, one in zip(what, given, strict=True):
        if not isinstance(one, nn.Module):
            raise TypeError(
                f"{name} must be a network like the others, which carry low-rank adapters, got {type(one).__name__}; "
                "factors are brought together from the networks themselves"
            )
    joined, points = join_networks(models), list[Point]()
    for name, model, one in zip(what, models, joined, strict=True):
        if one is not joined[0]:
            check_one_module(joined[0].module, one.module, ignore=ignore, names=(what[0], name))
        own = refer_to(one.module) if has_adapters(model) else point_of(one.module)
        points.append(replace(own, joined=one))
    return [points[0], *(share_ignored(point, points[0], ignore) for point in points[1:])]


def refer_to(module: nn.Module) -> Point:
    """The point that a module of our own is, without copies of its parameters."""
    base = find_base(module)
    params = {name: hold(p) if name in base else p.detach() for name, p in module.named_parameters()}
    return Point(params, read_buffers(forget_computed_values(module)))


def _as_point(what: str, given: PointLike) -> Point:
    if isinstance(given, Point):
        return given
    if isinstance(given, nn.Module):
        return point_of(given)
    if isinstance(given, Mapping):
        return Point(dict(given))
    raise TypeError(
        f"{what} must be a network, a point of one (mechconn.point_of), or its parameters, got {type(given).__name__}"
        f"{getattr(type(given), 'refusal', '')}"
    )


def share_ignored(point: Point, first: Point, ignore: Sequence[str]) -> Point:
    """The point with the first one's values of the buffers to be ignored; itself where there are none."""
    names = [n for n in first.buffers if n in ignore or n.rpartition(".")[2] in ignore]
    if not names:
        return point
    shared = {**point.buffers, **{n: first.buffers[n] for n in names}}
    return Point(point.params, shared, point.origin or point, point.joined)


def check_point(what: str, expected: Point, got: Point) -> None:
    """Raise unless two points lie in one weight space and both, or neither, have buffers."""
    check_same_keys(what, expected.params, got.params)
    check_same_shapes(what, expected.params, got.params)
    if bool(expected.buffers) != bool(got.buffers):
        raise ValueError(
            f"{what}: one has buffers ({', '.join(list(expected.buffers or got.buffers)[:3])}) and the other has "
            "parameters alone; pass both networks, or mechconn.point_of(network) of both"
        )
    check_same_keys(f"buffers of {what}", expected.buffers, got.buffers)
    check_same_shapes(f"buffers of {what}", expected.buffers, got.buffers)


class Curve(Protocol):
    """What a policy for normalisation statistics may ask of a path."""

    @property
    def ends(self) -> tuple[Point, Point]: ...
    @property
    def sources(self) -> Sequence[Point]: ...
    @property
    def moved(self) -> Sequence[str] | None: ...
    def at(self, t: float) -> Params: ...
    def place(self, t: float) -> float: ...
    def shares_at(self, t: float) -> Sequence[float] | None: ...
    def end_at(self, t: float) -> Point | None: ...


def load_point(network: Network, path: Curve, t: float) -> Point:
    """gamma(t) on the network's device, with the buffers that belong to it.

    At an end of the path the buffers are that end's. Between the ends they are those that all known points share; the
    vectors of spectral norm are the limit of power iteration on the weights there; other normalisation statistics are
    the network's own, for a policy to replace.

    Raises:
        ValueError: gamma(t) is no point of this network; the path holds parameters alone and the network has other
            buffers than normalisation statistics; a buffer differs between the known points and no rule renews it.
    """
    params = dict(path.at(t))
    network.check("the path's parameters", params)
    network.load_in_place(params)
    return Point(params, find_buffers(network, path, t, params))


@torch.no_grad()
def find_buffers(network: Network, path: Curve, t: float, params: Params) -> Buffers:
    """The buffers that belong to gamma(t), whose parameters are given, as `load_point` says; copies on the device."""
    end = path.end_at(t)
    held = [point.buffers for point in ((end,) if end is not None else path.sources) if point.buffers]
    if not held:
        _refuse_unknown_state(network)
        return {name: buffer.clone() for name, buffer in network.buffers.items()}
    for buffers in held:
        check_same_keys("the path's buffers", network.buffers, buffers)
        check_same_shapes("the path's buffers", network.buffers, buffers)
    if end is not None:
        return {name: held[0][name].to(network.device, copy=True) for name in network.buffers}
    return dict(_share_buffers(network, held, params))


def _share_buffers(network: Network, held: Sequence[Buffers], params: Params) -> Iterator[tuple[str, Tensor]]:
    """Each buffer between known points: shared by all of them, renewed at these parameters, or refused."""
    statistics, renewed = set(list_statistics(network.module)), dict(_renew_vectors(network, params))
    unfit = []
    for name, own in network.buffers.items():
        first = held[0][name]
        if name in renewed:
            yield name, renewed[name].to(own)
        elif all(are_equal(first, other[name]) for other in held[1:]):
            yield name, first.to(network.device, copy=True)
        elif name in statistics:
            yield name, own.clone()
        else:
            unfit.append(name)
    if unfit:
        shown = ", ".join(unfit[:8]) + (f" and {len(unfit) - 8} more" if len(unfit) > 8 else "")
        parts = tuple(dict.fromkeys(name.rpartition(".")[2] for name in unfit))
        raise ValueError(
            f"the ends of the path differ in {shown}, and no rule says what a network between them holds there; name "
            f"what does not matter, ignore={parts!r}, or compare the two without a path"
        )


def _renew_vectors(network: Network, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The vectors of every spectral norm at these parameters, by the buffer's name."""
    for found in find_power_iterations(network.module):
        u, v = renew_power_iteration(params[found.weight], found.dim, found.eps)
        yield found.u, u
        yield found.v, v


def _refuse_unknown_state(network: Network) -> None:
    statistics = set(list_statistics(network.module))
    others = [name for name in network.buffers if name not in statistics]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ValueError(
            f"the path holds parameters alone, and the model also has the state {', '.join(others[:3])}{more}, which "
            "may differ between its ends; pass the networks, LinearPath.between(a, b)"
        )


def are_equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, NaN equal to NaN, on whatever devices and in whatever layout."""
    a, b = (t.detach() if t.layout == torch.strided else t.detach().to_dense() for t in (a, b))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    b = b.to(a.device)
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
