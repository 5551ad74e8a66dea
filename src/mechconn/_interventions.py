"""Cues and interventions: counterfactual data as pure functions of (row, seed).

A sample is a scene of independent latents: its natural content, and a cue drawn on top of it. An intervention
sets one latent and leaves the others; the pixels follow from the latents when they are asked for, so all
counterfactuals of a dataset share its images in memory.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn import _errors
from mechconn._batches import as_data
from mechconn._checks import check_choice, check_count, check_fraction
from mechconn._rng import integers_by_index, uniform_by_index
from mechconn._typing import Data, SampleSource

NO_CUE, CUE, RAND_CUE, RAND_IMAGE = "no_cue", "cue", "rand_cue", "rand_image"


class Cue(abc.ABC):
    """A latent that is drawn onto a natural sample: its values, and how each looks."""

    @abc.abstractmethod
    def agreeing(self, labels: Tensor) -> Tensor:
        """The value that agrees with each label, [N, ...]."""

    @abc.abstractmethod
    def absent(self, count: int) -> Tensor:
        """The value "no cue", repeated: [count, ...]."""

    @abc.abstractmethod
    def random(self, index: Tensor, seed: int) -> Tensor:
        """A value drawn uniformly from the cue's range for each row of `index`, independent of its label."""

    @abc.abstractmethod
    def render(self, x: Tensor, values: Tensor) -> Tensor:
        """Copies of the inputs x, [N, ...], with the cue drawn as `values` say."""


@dataclass(frozen=True)
class BoxCue(Cue):
    """A small box of one colour whose place on a 3 x 3 grid tells the class.

    Value v in 0 ... 8 is the v-th place, row by row (top, middle, bottom x left, centre, right; flush with the
    border or centred); value 9 is "no box", which is also class 9's own value. The colour is written into
    images that are scaled to [-1, 1].

    Attributes:
        size: side of the box in pixels.
        colour: one value per channel, in [-1, 1].
        values: how many of the ten values the random cue draws from; set it to the number of classes.

    Example:
        >>> BoxCue().render(torch.zeros(1, 3, 32, 32), torch.tensor([1]))[0, 1, 0].nonzero().flatten().tolist()
        [14, 15, 16]

    Source: Lubana et al. 2023, section 4.
    """

    size: int = 3
    colour: tuple[float, ...] = (0.0, 1.0, 0.0)
    values: int = 10

    def __post_init__(self) -> None:
        check_count("size", self.size)
        if not 1 <= self.values <= 10:
            raise ValueError(_errors.RANGE.format(name="values", low=1, high=10, value=self.values))

    def agreeing(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The place that belongs to each label."""
        if len(labels) and int(labels.max()) >= self.values:
            raise ValueError(
                f"BoxCue has {self.values} places but the data has a label {int(labels.max())}; "
                "use at most ten classes and set values= to their number"
            )
        return labels.clone()

    def absent(self, count: int) -> Int[Tensor, " n"]:
        """Value 9, "no box"."""
        return torch.full((count,), 9)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """One of the values for each row, "no box" among them where there are ten."""
        return integers_by_index(index, self.values, seed, "box cue")

    def render(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images with their boxes; h and w at least the box's size."""
        channels, height, width = x.shape[1:]
        if len(self.colour) != channels or min(height, width) < self.size:
            raise ValueError(
                f"a box of {self.size} pixels with {len(self.colour)} colour values does not fit images of shape "
                f"{[channels, height, width]}; set size= and colour= of the cue to suit them"
            )
        x, boxed = x.clone(), (values < 9).nonzero().flatten()
        place, offsets = values[boxed], torch.arange(self.size)
        top = torch.tensor([0, (height - self.size) // 2, height - self.size])[place // 3]
        left = torch.tensor([0, (width - self.size) // 2, width - self.size])[place % 3]
        rows, columns = top[:, None, None] + offsets[:, None], left[:, None, None] + offsets
        x[boxed[:, None, None], :, rows, columns] = torch.tensor(self.colour, dtype=x.dtype)
        return x


@dataclass(frozen=True, eq=False)
class CuedSet:
    """A dataset of scenes: row i shows content `content_rows[i]` with the cue at `cue_values[i]`, labelled `y[i]`.

    Attributes:
        content: the natural samples, without the cue.
        cue: how a cue value is drawn onto a sample.
        content_rows: row of `content` that each scene shows, int64 of shape [N].
        cue_values: the cue's latent, [N, ...].
        y: labels, int64 of shape [N]; no intervention changes them.
        ids: identity of each scene, int64 of shape [N]: what its random draws depend on.
    """

    content: SampleSource
    cue: Cue
    content_rows: Tensor
    cue_values: Tensor
    y: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        """Inputs of the rows `index`, the cue drawn on them."""
        return self.cue.render(self.content.inputs(self.content_rows[index]), self.cue_values[index])

    def subset(self, index: Tensor) -> CuedSet:
        """The rows `index`, with their identities."""
        parts = {name: getattr(self, name)[index] for name in ("content_rows", "cue_values", "y", "ids")}
        return replace(self, **parts)

    def sample(self, count: int, seed: int = 0) -> CuedSet:
        """`count` rows drawn without replacement, in their old order; a pure function of the rows and the seed.

        Raises:
            ValueError: there are fewer rows than asked for.
        """
        if check_count("count", count) > len(self):
            raise ValueError(_errors.TOO_MANY.format(name="sample", asked=count, available=len(self)))
        order = uniform_by_index(self.ids, seed, "sample").argsort(stable=True)
        return self.subset(order[:count].sort().values)

    def with_cue(self) -> CuedSet:
        """Intervention "cue": every row's cue agrees with its label."""
        return replace(self, cue_values=self.cue.agreeing(self.y))

    def without_cue(self) -> CuedSet:
        """Intervention "no cue": no row has one."""
        return replace(self, cue_values=self.cue.absent(len(self)))

    def with_random_cue(self, seed: int = 0) -> CuedSet:
        """Intervention "random cue": each row's cue is drawn anew, uniformly, whatever its label."""
        return replace(self, cue_values=self.cue.random(self.ids, seed))

    def with_random_content(self, seed: int = 0) -> CuedSet:
        """Intervention "random image": each row shows another row's content; its cue and label stay its own."""
        count = len(self)
        if count < 2:
            raise ValueError("a random image needs at least two rows to draw from, got one; use more data")
        other = integers_by_index(self.ids, count - 1, seed, "random content")
        return replace(self, content_rows=self.content_rows[other + (other >= torch.arange(count))])

    def with_proportion(self, proportion: float, seed: int = 0) -> CuedSet:
        """The cue, in agreement with the label, on exactly round(proportion x n_k) rows of each class k of n_k rows.

        Which rows is a pure function of their identities and the seed; a larger proportion adds rows to those
        of a smaller one. The other rows have no cue. Halves are rounded up.
        """
        check_fraction("proportion", proportion)
        chosen = torch.zeros(len(self), dtype=torch.bool)
        draws = uniform_by_index(self.ids, seed, "proportion")
        for label in self.y.unique():
            rows = (self.y == label).nonzero().flatten()
            chosen[rows[draws[rows].argsort(stable=True)][: math.floor(proportion * len(rows) + 0.5)]] = True
        cued, plain = self.cue.agreeing(self.y), self.cue.absent(len(self))
        return replace(self, cue_values=torch.where(chosen.view(-1, *[1] * (cued.dim() - 1)), cued, plain))


def cued_set(content: SampleSource, cue: Cue) -> CuedSet:
    """Every row of `content` as a scene without a cue."""
    rows = torch.arange(len(content))
    return CuedSet(content, cue, rows, cue.absent(len(content)), content.y, rows)


class Suite(Mapping[str, Data]):
    """Named evaluation data: a reference and its counterfactuals.

    Args:
        splits: name -> data that can be read more than once.
        reference: the split that the interventions start from.
        interventions: splits that are unit interventions on the reference (uniform draws of one latent); these
            decide what a model is invariant to. Default: all but the reference and "no_cue", which sets a
            latent to one value rather than drawing it and is reported beside them.

    Raises:
        TypeError: a split is a generator, or no data at all.
        ValueError: the reference or an intervention is not a split, or a split is empty.
    """

    def __init__(
        self,
        splits: Mapping[str, Data],
        reference: str = CUE,
        interventions: tuple[str, ...] | None = None,
    ) -> None:
        if not isinstance(splits, Mapping):
            raise TypeError(f"Suite expects a mapping of names to data, got {type(splits).__name__}")
        self._splits = {name: as_data(f"split {name!r}", data) for name, data in splits.items()}
        check_choice("reference", reference, tuple(self._splits))
        if interventions is None:
            interventions = tuple(name for name in self._splits if name not in (reference, NO_CUE))
        for name in interventions:
            check_choice("interventions", name, tuple(self._splits))
        self.reference, self.interventions = reference, tuple(interventions)

    def __getitem__(self, name: str) -> Data:
        return self._splits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)


def cue_suite(scenes: CuedSet, seed: int = 0) -> Suite:
    """The four evaluation sets of one set of scenes; the cue is on every row of "cue", whatever it was before."""
    cued = scenes.with_cue()
    return Suite(
        {
            NO_CUE: scenes.without_cue(),
            CUE: cued,
            RAND_CUE: cued.with_random_cue(seed),
            RAND_IMAGE: cued.with_random_content(seed),
        },
        reference=CUE,
    )
