"""What a merge method is: it gets several networks of one module, and returns the parameters of one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from mechconn.core import Compute, Data, Params, PerSampleLoss, Registered, check_same_keys, check_same_shapes
from mechconn.network import Point


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
    """

    model: nn.Module
    parents: Mapping[str, Point]
    base: Point | None
    loss: PerSampleLoss
    seed: int
    compute: Compute


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

    A subclass gives `merge_tensor` and `describe`.

    Attributes:
        entrywise: whether every entry of the result depends on that entry of the parents alone, so that large tensors
            may be merged part by part: `merge_tensor` then gets a row of entries, with the name of the whole tensor.
    """

    entrywise: ClassVar[bool] = False

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
        first = next(iter(problem.parents.values())).params
        return {
            name: self.merge_tensor(
                name,
                {parent: point.params[name] for parent, point in problem.parents.items()},
                None if problem.base is None else problem.base.params[name],
                problem.seed,
            )
            for name in first
        }


def check_merged(method: MergeMethod, problem: MergeProblem, found: Params) -> Params:
    """What a method returned, once it has the parents' names and shapes."""
    first = next(iter(problem.parents.values())).params
    what = f"the parents' parameters and what {type(method).__name__}.merge returns"
    check_same_keys(what, first, found)
    check_same_shapes(what, first, found)
    return found
