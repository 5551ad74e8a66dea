"""The networks that are merged: one module with other parameters, each evaluated once on every split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, PerSampleLoss, check_is, check_two_models
from mechconn.merging._merge_mechanisms import MERGED
from mechconn.merging._merge_method import MergeMethod, MergeProblem, check_has_base
from mechconn.network import (
    Network,
    Point,
    are_equal,
    as_points,
    check_joined,
    copy_with_state,
    find_joined,
    set_mode,
    unwrap_module,
)


def check_parents(models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The networks by name, without wrappers.

    Raises:
        TypeError: no table of networks.
        ValueError: fewer than two, or a name that the result gives to the merged network.
    """
    check_is("models", models, Mapping, "; write {name: model, ...}, each name once")
    check_two_models("a merge", len(models))
    for name in models:
        check_is("the name of a model", name, str, "; write {name: model, ...}")
        if name.strip() in ("", MERGED):
            raise ValueError(
                f"a parent may not be called {name!r}, which the result calls the merged network; rename it"
            )
    return {name: unwrap_module(model, f"models[{name!r}]") for name, model in models.items()}


def check_method(method: MergeMethod, base: nn.Module | None, aligned: bool) -> None:
    """Raise unless it is a merge method that has the base which it needs, in the parents' order of units."""
    check_is("method", method, MergeMethod, "; pass Mean(), or a MergeMethod of your own")
    check_has_base(method, base is not None)
    if base is not None and aligned:
        raise ValueError(
            "parents that were fine-tuned from one base have its order of units, and aligning would move them off it; "
            "leave out align= or base="
        )


def make_problem(
    models: Mapping[str, nn.Module],
    base: nn.Module | None,
    ignore: Sequence[str],
    loss: PerSampleLoss,
    seed: int,
    compute: Compute,
) -> MergeProblem:
    """What a merge method gets.

    Raises:
        ValueError: two of the networks are not one module with other parameters and statistics; both are named.
    """
    named = {f"model {name!r}": model for name, model in models.items()}
    named |= {} if base is None else {"the base": unwrap_module(base, "base")}
    points = as_points(list(named), list(named.values()), ignore)
    first = next(iter(models.values()))
    structure = find_joined(first, points)
    shared = () if points[0].joined is None else points[0].joined.shared
    model = copy_with_state(structure, {**points[0].params, **points[0].buffers}, shared)
    set_mode(model, False)
    parents = dict(zip(models, points, strict=False))
    return MergeProblem(model, parents, None if base is None else points[-1], loss, seed, compute)


@contextmanager
def name_network(what: str) -> Iterator[None]:
    """Context manager: a ValueError says which network it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def check_one_module_each(
    modules: Mapping[str, nn.Module], points: Mapping[str, Point], first: Evaluator, ignore: Sequence[str]
) -> None:
    """Refuse networks whose tensors do not make the first one's module compute what they compute.

    Raises:
        ValueError: two are named.
    """
    (name, module), *others = modules.items()
    for other, own in others:
        check_joined(
            (module, own), (first.network, Network(own, first.compute)), (points[name], points[other]),
            lambda: first.example, ignore=ignore, names=(f"model {name!r}", f"model {other!r}"),
        )  # fmt: skip


def is_parent(model: nn.Module, parent: Point) -> bool:
    """Whether a network is a parent, tensor by tensor."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    held = {**parent.params, **parent.buffers}
    return all(name in state and are_equal(state[name], tensor) for name, tensor in held.items())
