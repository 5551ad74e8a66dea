"""What random changes of equal norms do at the chosen scale, each draw by itself.

Every draw is judged on the target and the kept splits as effects are: "nothing" where the mean moves within the margin,
"moves" beyond it. All verdicts over draws and splits are right together with 95 % (`mechconn.mechanisms._judge`), given
the draws. Of a split: "moves" where some draw does, "nothing" where every draw does nothing; so draws that move it up
and down are not called nothing because their mean stays. It is a verdict of its own, beside that on the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from mechconn.mechanisms import RowValues, judge_family
from mechconn.merging._scale_verdict import CONFIDENCE, ScaleQuestion, Values
from mechconn.stats import Interval

ControlVerdict: TypeAlias = Literal["nothing", "moves", "undetermined"]
WORDS: dict[str, ControlVerdict] = {"invariant": "nothing", "sensitive": "moves", "undetermined": "undetermined"}


@dataclass(frozen=True)
class RandomEffect:
    """What the random changes do to one split at the chosen scale.

    Attributes:
        split: the data.
        effect: mean under them minus that of the base, over rows and draws.
        interval: of it, at 95 % by itself, given the draws.
        draws: draw by draw, the mean over rows.
        verdicts: draw by draw, "nothing" within the margin, "moves" beyond, else "undetermined".
        bounds: the least and the largest move of any draw, as far as the bounds of its verdict go.
        further: how much further the change itself moves this split than the mean over draws, in the direction asked
            for on the target, else upwards: mean over rows.
        further_interval: of that, at 95 % by itself, given the draws.
    """

    split: str
    effect: float
    interval: Interval
    draws: tuple[float, ...]
    verdicts: tuple[ControlVerdict, ...]
    bounds: Interval
    further: float
    further_interval: Interval

    @property
    def verdict(self) -> ControlVerdict:
        """Over the draws."""
        return join_verdicts(self.verdicts)


def join_verdicts(verdicts: Sequence[ControlVerdict]) -> ControlVerdict:
    """Over several: "moves" where one does, "nothing" where all do nothing, else "undetermined"."""
    return "moves" if "moves" in verdicts else "nothing" if set(verdicts) == {"nothing"} else "undetermined"


def judge_random(
    asked: ScaleQuestion, base: Values, edited: Values, draws: Sequence[Values]
) -> tuple[RandomEffect, ...]:
    """What the random changes, draw by draw, do to the target and the kept splits."""
    splits = dict.fromkeys((asked.target, *(split for split, _ in asked.keep)))
    family = {
        f"{draw} {split}": asked.compute_move(base, values, split, 1)
        for draw, values in enumerate(draws)
        for split in splits
    }
    judged = judge_family(family, asked.margin)
    found = []
    for split in splits:
        mean = {split: average_draws([values[split] for values in draws])}
        move = asked.compute_move(base, mean, split, 1)
        further = asked.compute_move(mean, edited, split, asked.sign if split == asked.target else 1)
        own = [judged[f"{draw} {split}"] for draw in range(len(draws))]
        found.append(
            RandomEffect(
                split=split,
                effect=move.effect,
                interval=move.interval(CONFIDENCE),
                draws=tuple(family[f"{draw} {split}"].effect for draw in range(len(draws))),
                verdicts=tuple(WORDS[judgement.verdict] for judgement in own),
                bounds=(min(j.adjusted_interval[0] for j in own), max(j.adjusted_interval[1] for j in own)),
                further=further.effect,
                further_interval=further.interval(CONFIDENCE),
            )
        )
    return tuple(found)


def average_draws(values: Sequence[RowValues]) -> RowValues:
    """The mean over draws of the value of each row; of one draw itself."""
    if len(values) == 1:
        return values[0]
    return RowValues(torch.stack([rows.values.double() for rows in values]).mean(0), values[0].clusters)
