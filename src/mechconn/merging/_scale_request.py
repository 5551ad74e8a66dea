"""What `search_scale` is asked, once it can be: scales, splits, shares, and the rows that choose."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from mechconn.core import check_choice, check_fraction, check_non_negative, check_positive, check_share
from mechconn.datasets import Clusters, Suite
from mechconn.mechanisms import On
from mechconn.merging._merge_verdict import Better, choose_better
from mechconn.merging._scale_rows import refuse_shared_rows
from mechconn.merging._scale_verdict import Choose, Direction, ScaleQuestion
from mechconn.stats import Interval

Keep: TypeAlias = tuple[str, float] | Sequence[tuple[str, float]]
"""(split, share of the base's value), or several such pairs."""
SCALES = (-0.5, -0.25, *(step / 10 for step in range(11)), 1.25, 1.5, 2.0)
"""Twentieths would cost twice as much, and rows seldom tell them apart. Below 0 the curve shows what the opposite
change does, above 1 where it ends: a change that was found by short training is often best at more than itself."""


def read_scales(scales: Iterable[float]) -> tuple[float, ...]:
    """The grid in order, with 0, from any finite real numbers: a tuple, an array, a tensor, a generator.

    Raises:
        ValueError: no finite numbers.
    """
    values: Any = scales.tolist() if isinstance(scales, Tensor | np.ndarray) else scales
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
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
    bounds: Interval | None,
) -> ScaleQuestion:
    """What is asked, once it can be."""
    if (lower is None) == (higher is None):
        got = "neither" if lower is None else "both"
        raise ValueError(
            f"exactly one of lower= (the split whose {on} is to fall) and higher= (to rise) must be given, got {got}"
        )
    target, direction = (lower, "lower") if higher is None else (higher, "higher")
    assert target is not None
    check_share("enough", enough)
    direction: Direction = direction
    if floor is not None:
        _check_floor(floor, direction, on, bounds)
    found = ScaleQuestion(
        target, direction, _read_keep(keep), on, choose_better(on, better), float(enough), margin, None
    )  # fmt: skip
    check_splits(found, suite, "the suite")
    return found


def _read_keep(keep: Keep) -> tuple[tuple[str, float], ...]:
    """Pairs of a split and a share in (0, 1]."""
    one = isinstance(keep, tuple) and len(keep) > 0 and isinstance(keep[0], str)
    pairs: list[Any] = [keep] if one or not isinstance(keep, Sequence) or isinstance(keep, str) else list(keep)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(
                f"keep must be (split, share) or a list of such pairs, got {pair!r}; write keep=('no_cue', 0.95), or "
                "keep=[] where nothing must stay"
            )
        check_fraction("the share of keep", check_positive("the share of keep", pair[1]))
    return tuple((str(split), float(share)) for split, share in pairs)


def _check_floor(floor: float, direction: Direction, on: On, bounds: Interval | None) -> None:
    """Raise unless a floor is a value that the target can have, and asked for where it means something."""
    if direction == "higher":
        raise ValueError(
            f"floor= is where lower= ends, and with higher= nothing rests on it, got {floor!r}; leave it out"
        )
    check_non_negative("floor", floor)
    if bounds is not None and not bounds[0] <= floor <= bounds[1]:
        raise ValueError(
            f"floor must be a value of {on!r}, in [{bounds[0]:g}, {bounds[1]:g}], got {floor!r}; write chance as a "
            "share, such as floor=0.1"
        )


def check_reaches_up(choose: Choose, scales: Sequence[float]) -> None:
    """Raise where the largest scale is asked for and none is above 0."""
    if choose == "largest" and max(scales) <= 0:
        raise ValueError(
            "choose='largest' takes the largest scale above 0, and scales= has none; negate the change, -change, "
            "and pass scales above 0"
        )


def refuse_unknown_clusters(choose: Choose, cluster: Clusters | None) -> None:
    """Raise where rows of another suite would be shown to keep as if they were independent."""
    if choose == "shown" and cluster is not None:
        raise ValueError(
            "choose='shown' needs the clusters of the rows that choose, and cluster= has those of the suite alone; "
            "write choosing=0.5, which divides whole clusters, or choose='best'"
        )


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
    return check_share("choosing", choosing)
