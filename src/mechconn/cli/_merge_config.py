"""[merge] of a configuration: how several networks become one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mechconn.alignment import AlignmentMethod
from mechconn.cli._named_settings import Named, show_names
from mechconn.core import Config, check_choice, list_kinds, list_options
from mechconn.merging import MergeMethod

NONE = "none"
METHOD, ALIGN, TOLERANCE = "mean", NONE, 0.01


class MergeConfig(Config):
    """How several networks become one."""

    method: Annotated[str | dict[str, Any], show_names(MergeMethod)] = Field(
        default=METHOD,
        description="the merge method; package.module:Class, a MergeMethod of your own; or a table of a name and "
        'options, such as {name = "ties", density = 0.2}; --method comes first',
        examples=[{"name": "ties", "density": 0.2}],
    )
    data: str | dict[str, str] | None = Field(
        default=None,
        description="rows that choose or weigh the networks, given like a split and in no split, for methods that read "
        "some; or network -> its own rows",
        examples=["validation"],
    )
    align: Annotated[str | dict[str, Any], show_names(AlignmentMethod, NONE)] = Field(
        default=ALIGN,
        description="also merge the networks once their hidden units are in one order; a method as under alignment, or "
        "none; --align comes first",
        examples=["weights"],
    )
    onto: str | None = Field(
        default=None,
        description="with a method for pairs: the network that the others are moved onto; default: the first",
        examples=["a"],
    )
    tolerance: float = Field(
        default=TOLERANCE, ge=0, allow_inf_nan=False, description="how much worse than a network counts as none"
    )
    splits: list[str] | None = Field(
        default=None,
        min_length=1,
        description="those that the verdict is over; default: all. Leave out one on which being right is not wanted, "
        "such as rand_image; --splits comes first",
        examples=[["cue", "rand_cue"]],
    )
    better: Literal["higher", "lower"] | None = Field(
        default=None,
        description="with on = a metric: which of its values are better; --better comes first",
        examples=["lower"],
    )

    @field_validator("method")
    @classmethod
    def _is_method(cls, method: Named) -> Named:
        list_options("method", MergeMethod, method)
        return method

    @field_validator("align")
    @classmethod
    def _is_known(cls, align: Named) -> Named:
        if isinstance(align, str) and ":" not in align:
            return check_choice("align", align, [NONE, *list_kinds(AlignmentMethod)])
        list_options("align", AlignmentMethod, align)
        return align
