"""What a merge method is: it gets several networks of one module, and returns the parameters of one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    Params,
    PerSampleLoss,
    Registered,
    check_is,
    check_same_keys,
    check_same_shapes,
    check_two_models,
)
from mechconn.network import NormPolicy, Point

NamedTensors: TypeAlias = Callable[[], Iterator[tuple[str, Mapping[str, Tensor], Tensor | None]]]
"""Every tensor of the networks in turn, whenever it is called: (name, parent -> its tensor, the base's or None)."""


@dataclass(eq=False)
class MergeRecord:
    """What a method says of a merge beside the parameters, written as it goes.

    Attributes:
        notes: sentences for the reader of the result, such as which parents a greedy soup took.
        shares: parent -> its weight in the merged network, of sum 1, by which `Repair` weighs the parents' statistics;
            empty: all alike.
    """

    notes: list[str] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MergeProblem:
    """What a merge method gets: networks of one module, in one order of units. It changes none of them.

    Attributes:
        model: gives the architecture; in evaluation mode.
        parents: name -> the network as a point, its parameters and buffers; two or more.
        base: what the parents were fine-tuned from, for methods that merge changes; else None.
        loss: one value per sample from (outputs, targets), for methods that read data.
        seed: of every random choice of the method.
        compute: how to compute; a method calls `compute.report(what, done, total)` as it goes.
        norm: where normalisation statistics of networks between the parents come from, for methods that run some.
        record: what the method writes down beside the parameters: notes for the reader, and the parents' shares.
    """

    model: nn.Module
    parents: Mapping[str, Point]
    base: Point | None
    loss: PerSampleLoss
    seed: int
    compute: Compute
    norm: NormPolicy | None = None
    record: MergeRecord = field(default_factory=MergeRecord, repr=False)


class MergeMethod(Registered, abc.ABC):
    """How the parameters of a merged network are chosen: extend it for a method of your own.

    A subclass gives `merge` and `describe`. It is registered where it is defined, so that a file may name it: under its
    class name, or under `class Mine(MergeMethod, name="mine")`. A method that treats each tensor by itself extends
    `TensorMerge`, and can then merge folders of any size.

    Attributes:
        needs_base: whether it merges changes, and so needs what the parents were fine-tuned from.

    Example:
        The first parent, whatever the others are.

        >>> class First(MergeMethod):
        ...     def merge(self, problem):
        ...         return dict(next(iter(problem.parents.values())).params)
        ...     def describe(self):
        ...         return {"method": "first"}
        >>> First().describe()
        {'method': 'first'}
    """

    needs_base: ClassVar[bool] = False

    @abc.abstractmethod
    def merge(self, problem: MergeProblem) -> Params:
        """The parameters of the merged network, by name: fresh tensors, of the parents' shapes and types."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to repeat it: {"method": its name, ...}, plain values."""

    def chosen_on(self) -> Data | None:
        """Rows that chose or weighed the parents, on which nothing may be judged; None of a method that reads none."""
        return None


class TensorMerge(MergeMethod):
    """A method that merges each tensor by itself, so that no more than one tensor of each parent is held at a time.

    A subclass gives `merge_tensor` and `describe`; where it must know something of all tensors before the first one is
    merged, `prepare` too.
    """

    def prepare(self, tensors: NamedTensors) -> TensorMerge:
        """The method that merges each of these tensors: itself, or one that knows what it read in all of them.

        Args:
            tensors: gives every tensor in turn, at each call anew; one at a time is held.
        """
        return self

    def share_parents(self, parents: Sequence[str]) -> dict[str, float]:
        """Parent -> its weight in the merged network, of sum 1, by which normalisation statistics are weighed.

        Args:
            parents: their names, in their order.
        """
        return dict.fromkeys(parents, 1.0 / len(parents))

    def is_entrywise(self) -> bool:
        """Whether each entry of the result depends on that entry of parents and base alone, once it is prepared.

        Large tensors of folders are then merged part by part: `merge_tensor` gets some entries in a row, with the name
        of the whole tensor, and so does `prepare`.
        """
        return False

    @abc.abstractmethod
    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """One tensor of the merged network, in the first parent's type.

        Args:
            name: of the tensor; with `seed` it decides whatever is drawn.
            parents: name of the parent -> its tensor, all of one shape.
            base: the tensor that they were fine-tuned from, where the method needs it.
            seed: of every random choice.
        """

    def merge(self, problem: MergeProblem) -> Params:
        """Tensor by tensor."""
        ready = prepare_method(self, lambda: iterate_tensors(problem))
        problem.record.shares.update(ready.share_parents(list(problem.parents)))
        return {
            name: merge_checked(ready, name, parents, base, problem.seed)
            for name, parents, base in iterate_tensors(problem)
        }


def prepare_method(method: TensorMerge, tensors: NamedTensors) -> TensorMerge:
    """What `method.prepare` gives, once that is a method.

    Raises:
        TypeError: it is none.
    """
    found = method.prepare(tensors)
    check_is(f"what {type(method).__name__}.prepare returns", found, TensorMerge, "; return self where nothing is read")
    return found


def merge_checked(
    method: TensorMerge, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int
) -> Tensor:
    """What `method.merge_tensor` gives, once it is a tensor of the parents' shape.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has another shape.
    """
    found, first = method.merge_tensor(name, parents, base, seed), next(iter(parents.values()))
    what = f"{type(method).__name__}.merge_tensor"
    check_is(f"what {what} returns for {name}", found, Tensor, "; return a tensor of the parents' shape")
    if found.shape != first.shape:
        raise ValueError(
            f"{what} returned {list(found.shape)} for {name}, whose shape is {list(first.shape)}; return a tensor of "
            "the parents' shape"
        )
    return found


def iterate_tensors(problem: MergeProblem) -> Iterator[tuple[str, Mapping[str, Tensor], Tensor | None]]:
    """Every parameter of a problem in turn: (name, parent -> its tensor, the base's or None)."""
    for name in next(iter(problem.parents.values())).params:
        base = None if problem.base is None else problem.base.params[name]
        yield name, {parent: point.params[name] for parent, point in problem.parents.items()}, base


def check_problem(method: MergeMethod, problem: MergeProblem) -> None:
    """Raise unless there are two parents or more, a base where the method needs one, and all have the same names.

    Raises:
        ValueError: as said; all names that differ are listed.
    """
    check_two_models("a merge", len(problem.parents))
    check_has_base(method, problem.base is not None)
    first, *others = problem.parents
    points = {f"parent {other!r}": problem.parents[other] for other in others}
    if problem.base is not None:
        points["the base"] = problem.base
    for name, point in points.items():
        what = f"the parameters of parent {first!r} and {name}"
        check_same_keys(what, problem.parents[first].params, point.params)
        check_same_shapes(what, problem.parents[first].params, point.params)


def check_has_base(method: MergeMethod, given: bool) -> None:
    """Raise where a method merges changes and there is no base.

    Raises:
        ValueError: as said.
    """
    if method.needs_base and not given:
        raise ValueError(
            f"{type(method).__name__} merges what the parents changed, and there is no base; pass the network that "
            "they were fine-tuned from, base=... (--base)"
        )


def check_merged(method: MergeMethod, problem: MergeProblem, found: Params) -> Params:
    """What a method returned, once it has the parents' names and shapes."""
    first = next(iter(problem.parents.values())).params
    own = f"{type(method).__name__}.merge"
    check_is(f"what {own} returns", found, Mapping, "; return {name of the parameter: tensor}")
    for name, tensor in found.items():
        check_is(f"what {own} returns for {name}", tensor, Tensor, "; return {name of the parameter: tensor}")
    what = f"the parents' parameters and what {type(method).__name__}.merge returns"
    check_same_keys(what, first, found)
    check_same_shapes(what, first, found)
    return found
