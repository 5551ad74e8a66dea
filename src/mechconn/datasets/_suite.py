"""Cues and interventions: counterfactual data as pure functions of (row, seed).

A sample is a scene of independent latents: its natural content, and a cue drawn on top of it. An intervention
sets one latent and leaves the others; the pixels follow from the latents when they are asked for, so all
counterfactuals of a dataset share its images in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mechconn.core import (
    CUE,
    NO_CUE,
    RAND_CUE,
    RAND_IMAGE,
    Data,
    SampleSource,
    ShortRepr,
    as_data,
    check_available,
    check_choice,
    check_count,
    check_fraction,
    check_is,
    derive_seed,
    draw_integers,
    draw_uniform,
    is_built_in,
    move_source,
    share_rows,
)
from mechconn.datasets._cue import Cue, check_values
from mechconn.datasets._suite_repr import print_suite, render_suite


@dataclass(frozen=True, eq=False, repr=False)
class CuedSet(ShortRepr):
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

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """(the content, the identity of each scene)."""
        return self.content, self.ids

    def __len__(self) -> int:
        return len(self.y)

    def facts(self) -> list[str]:
        """The cue, and on how many rows it is."""
        shown = (self.cue_values != self.cue.absent(len(self))).view(len(self), -1).any(1)
        return [f"{self.cue!r} on {int(shown.sum())} rows"]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index`, the cue drawn on them."""
        return self.cue.render(self.content.inputs(self.content_rows[index]), self.cue_values[index])

    def to(self, device: str | torch.device) -> CuedSet:
        """The same scenes, their content held and drawn on `device`."""
        return replace(self, content=move_source(self.content, device))

    def subset(self, index: Tensor) -> CuedSet:
        """The rows `index`, with their identities."""
        parts = {name: getattr(self, name)[index] for name in ("content_rows", "cue_values", "y", "ids")}
        return replace(self, **parts)

    def sample(self, count: int, seed: int = 0) -> CuedSet:
        """`count` rows drawn without replacement, in their old order; a pure function of the rows and the seed.

        Raises:
            ValueError: there are fewer rows than asked for.
        """
        check_available("sample", check_count("count", count), len(self))
        order = draw_uniform(self.ids, seed, "sample").argsort(stable=True)
        return self.subset(order[:count].sort().values)

    def with_cue(self, seed: int = 0) -> CuedSet:
        """Intervention "cue": every row's cue agrees with its label; the seed chooses where several values do."""
        return replace(self, cue_values=self.cue.agreeing(self.y, self.ids, seed))

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
        other = draw_integers(self.ids, count - 1, seed, "random content")
        return replace(self, content_rows=self.content_rows[other + (other >= torch.arange(count))])

    def with_proportion(self, proportion: float, seed: int = 0) -> CuedSet:
        """The cue, in agreement with the label, on exactly round(proportion x n_k) rows of each class k of n_k rows.

        Which rows is a pure function of their identities and the seed; a larger proportion adds rows to those
        of a smaller one. The other rows have no cue. Halves are rounded up.
        """
        check_fraction("proportion", proportion)
        chosen = torch.zeros(len(self), dtype=torch.bool)
        draws = draw_uniform(self.ids, seed, "proportion")
        for label in self.y.unique():
            rows = (self.y == label).nonzero().flatten()
            chosen[rows[draws[rows].argsort(stable=True)][: math.floor(proportion * len(rows) + 0.5)]] = True
        cued, plain = self.cue.agreeing(self.y, self.ids, seed), self.cue.absent(len(self))
        return replace(self, cue_values=torch.where(chosen.view(-1, *[1] * (cued.dim() - 1)), cued, plain))


def make_cued_set(content: SampleSource, cue: Cue) -> CuedSet:
    """Every row of `content` as a scene without a cue.

    Raises:
        TypeError: the cue is none, or the class of one.
        ValueError: a cue of the user's whose values, or what it draws on the first rows, are no cue's; see `Cue`.
    """
    check_is("cue", cue, Cue)
    rows = torch.arange(len(content))
    if not is_built_in(type(cue)):
        check_values(cue, content)
    return CuedSet(content, cue, rows, cue.absent(len(content)), content.y, rows)


class Suite(Mapping[str, Data]):
    """Named evaluation data: a reference and its counterfactuals.

    Args:
        splits: name -> data that can be read more than once.
        reference: the split that the interventions start from.
        interventions: splits that are unit interventions on the reference (uniform draws of one latent); these
            decide what a model is invariant to. Default: all but the reference and "no_cue", which sets a
            latent to one value rather than drawing it and is reported beside them.
        redraws: intervention -> further draws of it: data like its split, on the same rows, the latent drawn anew.
            `measure_invariance`, and what is built on it, takes each row's mean over all draws, so that no verdict
            hangs on the luck of one; `output_discrepancy` takes means over the draws as well. Paths read the split
            alone.
        paired: whether row i of every split shows the same sample, changed by its intervention. Then results tell on
            how many rows predictions change. None infers it from the data: it is known of our own sets, of sets with
            equal `ids`, and of images in files of equal names, and unknown of tensors and loaders.

    Raises:
        TypeError: a split or a draw is a generator, or no data at all; draws that are no list.
        ValueError: the reference or an intervention is not a split, draws are of no intervention, or a split is empty.
    """

    def __init__(
        self,
        splits: Mapping[str, Data],
        reference: str = CUE,
        interventions: tuple[str, ...] | None = None,
        redraws: Mapping[str, Sequence[Data]] | None = None,
        paired: bool | None = None,
    ) -> None:
        if not isinstance(splits, Mapping):
            raise TypeError(f"Suite expects a mapping of names to data, got {type(splits).__name__}")
        if not splits:
            raise ValueError("Suite expects at least one split, got none")
        self._splits = {name: as_data(f"split {name!r}", data) for name, data in splits.items()}
        check_choice("reference", reference, tuple(self._splits))
        if interventions is None:
            interventions = tuple(name for name in self._splits if name not in (reference, NO_CUE))
        for name in interventions:
            check_choice("interventions", name, tuple(split for split in self._splits if split != reference))
        self.reference, self.interventions = reference, tuple(interventions)
        self.redraws = {} if redraws is None else self._checked_redraws(redraws)
        self.paired = paired

    def _checked_redraws(self, redraws: Mapping[str, Sequence[Data]]) -> dict[str, tuple[Data, ...]]:
        if not isinstance(redraws, Mapping):
            raise TypeError(_explain_redraws(type(redraws).__name__))
        if redraws:
            check_interventions("a suite with redraws", self.interventions)
        for name, draws in redraws.items():
            check_choice("redraws", name, self.interventions)
            if not isinstance(draws, list | tuple) or any(isinstance(data, Tensor) for data in draws):
                raise TypeError(_explain_redraws(f"{name!r}: {type(draws).__name__}"))
        return {
            name: tuple(as_data(f"draw {number + 2} of split {name!r}", data) for number, data in enumerate(draws))
            for name, draws in redraws.items()
        }

    def __getitem__(self, name: str) -> Data:
        return self._splits[name]

    def rows_shared(self, name: str) -> bool:
        """Whether row i of a split, in every draw, shows the same sample as row i of the reference."""
        if self.paired is not None:
            return self.paired
        return all(share_rows(self[self.reference], data) for data in self.draws_of(name).values())

    def draws_of(self, name: str) -> dict[str, Data]:
        """Every draw of a split, the split itself first, by what errors call it."""
        further = {f"draw {k} of split {name!r}": data for k, data in enumerate(self.redraws.get(name, ()), start=2)}
        return {f"split {name!r}": self[name], **further}

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        return print_suite(self)

    def _repr_html_(self) -> str:
        """A table of the splits, for notebooks."""
        return render_suite(self)


def make_cue_suite(scenes: CuedSet, seed: int = 0, draws: int = 1) -> Suite:
    """The four evaluation sets of one set of scenes; the cue is on every row of "cue".

    With more than one draw the random cue and the random image are drawn so often, the further ones as `redraws`.
    """
    cued = scenes.with_cue(seed)
    further = [derive_seed(seed, "redraw", number) for number in range(1, check_count("draws", draws))]
    return Suite(
        {
            NO_CUE: scenes.without_cue(),
            CUE: cued,
            RAND_CUE: cued.with_random_cue(seed),
            RAND_IMAGE: cued.with_random_content(seed),
        },
        reference=CUE,
        redraws={
            RAND_CUE: [cued.with_random_cue(own) for own in further],
            RAND_IMAGE: [cued.with_random_content(own) for own in further],
        },
    )


def check_interventions(what: str, interventions: Sequence[str]) -> None:
    """Raise ValueError where a suite has no interventions."""
    if not interventions:
        raise ValueError(f"{what} needs interventions, but the suite has none; add splits to it")


def _explain_redraws(got: str) -> str:
    return f"redraws: expected {{intervention: [data, ...]}}, got {got}; each element of a list is one whole draw"
