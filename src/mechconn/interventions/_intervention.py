"""What an intervention is: the strength of a latent that the label does not depend on, drawn row by row."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.core import (
    ADDED_LATER,
    Registered,
    RowSubset,
    SampleSource,
    as_data,
    check_declared_fields,
    check_range,
    describe_origin,
    is_built_in,
    is_source,
    isolate_rng,
    move_source,
    read_row_ids,
)
from mechconn.datasets import Normalised, SameRows, link_rows
from mechconn.interventions._row_trial import TRIED_ROWS, RowTrial

Kind: TypeAlias = Literal["any", "images", "texts", "tables"]
"""What an intervention is applied to."""
SideData: TypeAlias = Literal["column", "rows", "masks"]
"""What an option takes beside plain values."""


class Intervention(Registered, abc.ABC):
    """A latent that the label does not depend on: how its strength is drawn, and how it looks. Base of your own.

    A subclass gives `draw` and `apply`, both pure functions of their arguments: random numbers come from
    `mechconn.core.draw_uniform(index, seed, ...)` and `draw_integers`, never from a global generator, and no argument
    is written to. Options are fields: make the subclass a frozen dataclass. `intervened` and configuration files find
    one of your own as "package.module:Class", and one that is imported by its class name or the name it gives,
    `class Blur(Intervention, name="blur")`.

    Called on scenes it gives scenes of the same labels, each rendered when it is asked for:
    `Rotate(max_degrees=30)(scenes, seed=0)`. Applied to scenes with a cue it moves the picture as a whole, cue
    included; to move the content alone, apply it to the images before the cue is drawn.
    """

    @abc.abstractmethod
    def draw(self, index: Tensor, seed: int) -> Tensor:
        """A strength for each entry of `index`, [N, ...], drawn uniformly from its range: a function of both."""

    @abc.abstractmethod
    def apply(self, x: Any, values: Tensor) -> Any:
        """Copies of the inputs x, [N, ...] or a mapping of names to such, at the strengths `values`."""

    takes: ClassVar[Kind] = "any"
    """What it is applied to: `reliances` tries those of the data's kind by default."""

    disturbs: ClassVar[str] = ""
    """What it takes away or changes, in a few words: what a model relies on whose answers it changes."""
    by_default: ClassVar[bool] = True
    """Whether `reliances` tries it where none is named."""
    side_data: ClassVar[Mapping[str, SideData]] = {}
    """Option -> what a text in its place names in a configuration: "column", a value for each row of the data; "rows",
    other data; "masks", a mask for each image."""

    def draw_at(self, index: Tensor, seed: int, strength: float) -> Tensor:
        """Values of one strength for each entry of `index`, [N, ...], whatever else is drawn as by `draw`.

        Args:
            index: identity of each row, int64 of shape [N].
            seed: of the draws.
            strength: in [0, 1]: 0 leaves the inputs as they are, 1 is the whole intervention.

        Raises:
            ValueError: the intervention has no strength that can be set.
        """
        name = type(self).__name__
        raise ValueError(
            f"{name} has no strength that can be set; extend mechconn.interventions.GradedIntervention, or give {name} "
            "a method draw_at(index, seed, strength)"
        )

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the intervention cannot be applied to these inputs of one row."""

    def prepare(self, scenes: SampleSource) -> Intervention:
        """The intervention with what it takes from the data it is applied to, such as other rows; itself by default.

        Raises:
            ValueError: the data lack what it needs.
        """
        return self

    @property
    def latent(self) -> Hashable:
        """What it sets: an intervention on scenes replaces one that set the same; by default its class."""
        return type(self)

    @property
    def comes_before_inputs(self) -> bool:
        """Whether it changes what inputs are made from, by `rewrite`, such as texts before they are tokenised."""
        return False

    def rewrite(self, scenes: SampleSource, values: Tensor) -> SampleSource:
        """The scenes at the strengths `values`, of an intervention that comes before the inputs."""
        raise AssertionError(f"{type(self).__name__} comes before the inputs, and has no rewrite of its own")

    def list_partners(self, values: Tensor) -> Int[Tensor, "n k"] | None:
        """For each row of the data the other rows of them that it shows something of; None where there are none.

        Rows that show something of each other are no independent draws; intervals are then over groups of them.

        Args:
            values: what `draw` gave, of all rows.
        """
        return None

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why the right label for people is another one after the intervention; empty where it stays, the default."""
        return ""

    def __call__(self, scenes: Any, seed: int = 0, strength: float | None = None) -> IntervenedSet:
        """`scenes` with this latent drawn anew for every row.

        Setting the latent (`latent`) a second time replaces its value, so an intervention is idempotent in its seed. On
        `Normalised` images it is applied before the normalisation, on the scale of [-1, 1].

        Args:
            scenes: an image set, scenes with a cue, other intervened scenes, or an (x, y) pair of tensors.
            seed: of the strengths.
            strength: of every row, in [0, 1]; None: as `draw` draws it.

        Raises:
            TypeError: the scenes cannot be read by row (an iterable of batches), or are no data.
            ValueError: the scenes do not suit this intervention; or it is one of your own whose `draw` or `apply`,
                tried on the first rows, is no pure function of its arguments, or mixes rows.
        """
        check_declared_fields(type(self))
        name, data = type(self).__name__, lift_scale(as_data("scenes", scenes))
        if not is_source(data):
            raise TypeError(
                f"{name} draws by row and needs an image set or an (x, y) pair of tensors, got {type(scenes).__name__}"
            )
        before = data.scenes if isinstance(data, Normalised) else data
        self.check_inputs(before.inputs(torch.tensor([0])))
        if not isinstance(data, IntervenedSet):
            data = IntervenedSet(data, read_row_ids(before), ())
        latents = {intervention.latent: (intervention, values) for intervention, values in data.latents}
        root = data.source.scenes if isinstance(data.source, Normalised) else data.source
        prepared = self.prepare(root)
        with isolate_rng(seed, "intervention"):
            values = prepared._draw_values(data.ids, seed, strength)
        if values.shape[:1] != data.ids.shape:
            raise ValueError(
                f"{name}.draw must return a strength for each of the {len(data.ids)} entries of index, in the first "
                f"axis, got shape {list(values.shape)}"
            )
        if not is_built_in(type(self)):
            _check_by_row(prepared, data, values, seed, strength)
        latents[prepared.latent] = (prepared, values)  # an old value is replaced in its place
        return data.with_latents(tuple(latents.values()))

    def _draw_values(self, index: Tensor, seed: int, strength: float | None) -> Tensor:
        if strength is None:
            return self.draw(index, seed)
        return self.draw_at(index, seed, check_range("strength", strength, 0.0, 1.0))


def _check_by_row(
    intervention: Intervention, data: IntervenedSet, values: Tensor, seed: int, strength: float | None
) -> None:
    """Raise ValueError unless an intervention of the user's is a pure function of each row, tried on the first ones."""
    name, index = type(intervention).__name__, torch.arange(min(TRIED_ROWS, len(data)))
    for attempt, rows in enumerate((index, index[-1:])):
        with isolate_rng(attempt, "probe"):
            again = intervention._draw_values(data.ids[rows], seed, strength)
        if not torch.equal(again, values[rows]):
            raise ValueError(
                f"{name}.draw gives a row another strength when it is called again or for fewer rows; draw by "
                "mechconn.core.draw_uniform(index, seed, name), a function of row and seed"
            )
    if intervention.comes_before_inputs:
        return
    RowTrial(
        what=f"the intervention {name!r}",
        takes="apply gets (inputs, strengths) and returns inputs of the same rows",
        advice="draw, which gives apply its strengths",
        inputs=data.render,
        change=lambda x, rows: intervention.apply(x, values[rows]),
    ).run(len(data))


def lift_scale(data: Any) -> Any:
    """Some rows of `Normalised` data, intervened or not, as `Normalised` data of these rows; anything else as it is."""
    if not isinstance(data, RowSubset):
        return data
    whole = lift_scale(data.source)
    if isinstance(whole, Normalised):
        return replace(whole, scenes=replace(data, source=whole.scenes))
    if isinstance(whole, IntervenedSet) and isinstance(whole.source, Normalised):
        before = replace(whole, source=whole.source.scenes)
        return replace(whole.source, scenes=replace(data, source=before))
    return data


def check_image_shape(name: str, x: Any) -> list[int]:
    """[C, H, W] of images.

    Raises:
        ValueError: the inputs are no images.
    """
    shape = list(x.shape[1:]) if isinstance(x, Tensor) else []
    if len(shape) != 3:
        got = f"inputs of shape {shape}" if isinstance(x, Tensor) else f"inputs {', '.join(map(str, x))}"
        raise ValueError(f"{name} needs images of shape [C, H, W], got {got}")
    return shape


def check_floating_images(name: str, x: Tensor) -> None:
    """Raise ValueError where images are not of a floating-point type."""
    if not x.is_floating_point():
        raise ValueError(
            f"{name} needs images of floating point in [-1, 1], got {str(x.dtype).removeprefix('torch.')}; "
            "mechconn.datasets.ImageSet(x, y, classes) holds bytes and scales them"
        )


@dataclass(frozen=True, eq=False, repr=False)
class IntervenedSet(SameRows):
    """Scenes with one or more latents set by interventions: lazily rendered, the labels those of `source`.

    Attributes:
        source: the scenes before.
        ids: identity of each row, int64 of shape [N]: what its draws depend on.
        latents: (intervention, strength of each row), in the order in which they are rendered; those that come before
            the inputs first.
        rewritten: the scenes after those that come before the inputs; None without such.
    """

    source: SampleSource
    ids: Int[Tensor, " n"]
    latents: tuple[tuple[Intervention, Tensor], ...]
    rewritten: SampleSource | None = field(default=None, metadata=ADDED_LATER)

    def with_latents(self, latents: tuple[tuple[Intervention, Tensor], ...]) -> IntervenedSet:
        """The same scenes with these latents set."""
        rewritten = None
        for intervention, values in latents:
            if intervention.comes_before_inputs:
                rewritten = intervention.rewrite(self.source if rewritten is None else rewritten, values)
        return replace(self, latents=latents, rewritten=rewritten)

    @property
    def below(self) -> SampleSource:
        """The scenes before."""
        return self.source

    @cached_property
    def linked(self) -> Int[Tensor, " n"] | None:
        """The number of each row's group of rows that show something of each other; None where all rows are apart."""
        pairs = [intervention.list_partners(values) for intervention, values in self.latents]
        return link_rows([partners for partners in pairs if partners is not None], len(self))

    def facts(self) -> list[str]:
        """The interventions, and on what."""
        return [*(repr(intervention) for intervention, _ in self.latents), describe_origin(self.source)]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index`, at their strengths; of `Normalised` images changed before the normalisation."""
        x = self.render(index)
        return self.source.normalise(x) if isinstance(self.source, Normalised) else x

    def render(self, index: Tensor) -> Any:
        """The same before the normalisation, where there is one."""
        source = self.source if self.rewritten is None else self.rewritten
        x = (source.scenes if isinstance(source, Normalised) else source).inputs(index)
        for intervention, values in self.latents:
            if not intervention.comes_before_inputs:
                x = intervention.apply(x, values[index])
        return x

    def to(self, device: str | torch.device) -> IntervenedSet:
        """The same scenes, rendered on `device`."""
        rewritten = None if self.rewritten is None else move_source(self.rewritten, device)
        return replace(self, source=move_source(self.source, device), rewritten=rewritten)
