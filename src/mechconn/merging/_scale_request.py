"""What `search_scale` is asked, once it can be: scales, splits, shares, and the rows that choose."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

from mechconn.core import check_choice, check_fraction, check_non_negative, check_positive, check_share
from mechconn.datasets import Suite
from mechconn.mechanisms import On
from mechconn.merging._merge_verdict import Better, choose_better
from mechconn.merging._scale_rows import refuse_shared_rows
from mechconn.merging._scale_verdict import Direction, ScaleQuestion

Keep: TypeAlias = tuple[str, float] | Sequence[tuple[str, float]]
"""(split, share of the base's value), or several such pairs."""
SCALES = (-0.5, -0.25, *(step / 10 for step in range(11)), 1.25, 1.5, 2.0)
"""Twentieths would cost twice as much, and rows seldom tell them apart. Below 0 the curve shows what the opposite
change does, above 1 where it ends: a change that was found by short training is often best at more than itself."""


def read_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The grid in order, with 0.

    Raises:
        ValueError: no finite numbers.
    """
    found = list(scales) if isinstance(scales, Sequence) and not isinstance(scales, str) else [scales]
    bad = [s for s in found if isinstance(s, bool) or not isinstance(s, numbers.Real) or not math.isfinite(s)]
    if bad or not any(found):
        raise ValueError(
            f"scales must be finite numbers, one of them not 0, got {scales!r}; write scales=(0.25, 0.5, 0.75, 1.0)"
        )
    return tuple(sorted({0.0, *(float(s) + 0.0 for s in found)}))


def read_question(
    lower: str | None,
    higher: str | None,
    keep: Keep,
    suite: Suite,
    on: On,
    better: Better | None,
    enough: float,
    margin: float,
    floor: float | None,
) -> ScaleQuestion:
    """What is asked, once it can be."""
    if (lower is None) == (higher is None):
        got = "neither" if lower is None else "both"
        raise ValueError(
            f"exactly one of lower= (the split whose {on} is to fall) and higher= (to rise) must be given, got {got}"
        )
    target, direction = (lower, "lower") if higher is None else (higher, "higher")
    assert target is not None
    pairs: list[Any] = [keep] if isinstance(keep, tuple) and keep and isinstance(keep[0], str) else list(keep)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(
                f"keep must be (split, share) or a list of such pairs, got {pair!r}; write keep=('no_cue', 0.95)"
            )
        check_fraction("the share of keep", check_positive("the share of keep", pair[1]))
    check_share("enough", enough)
    if floor is not None:
        check_non_negative("floor", floor)
    direction: Direction = direction
    found = ScaleQuestion(
        target, direction, tuple((str(split), float(share)) for split, share in pairs), on, choose_better(on, better),
        float(enough), margin, None,
    )  # fmt: skip
    check_splits(found, suite, "the suite")
    return found


def check_splits(asked: ScaleQuestion, suite: Suite, where: str) -> None:
    """Raise unless the target and all that is kept are splits, each once."""
    check_choice(f"{asked.direction}= (a split of {where})", asked.target, tuple(suite))
    kept = [split for split, _ in asked.keep]
    for split in kept:
        check_choice(f"a split of keep= (in {where})", split, tuple(suite))
    if asked.target in kept or len(set(kept)) < len(kept):
        raise ValueError(
            f"keep= must name other splits than {asked.direction}={asked.target!r}, each once, got "
            f"{', '.join(map(repr, kept))}"
        )


def check_choosing(choosing: float | Suite, suite: Suite) -> float | Suite:
    """A share below 1, or a suite of other rows.

    Raises:
        ValueError: neither, or rows of the suite.
    """
    if isinstance(choosing, Suite):
        refuse_shared_rows(choosing, suite)
        return choosing
    if check_share("choosing", choosing) == 1:
        raise ValueError("choosing must leave rows that judge, a share below 1, got 1; write choosing=0.5")
    return choosing
