"""What is said of distilled mechanisms, held against a run's seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mechconn.core import RAND_CUE
from mechconn.paper._claims import Claim, ClaimVerdict
from mechconn.paper._distillation_result import (
    LABELS_ALONE,
    DistillationResult,
    DistillationSummary,
    DistilledOn,
    describe_student,
    list_effects,
    summarise_students,
)
from mechconn.paper._run_tables import SeedMean, average_differing_seeds
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import format_interval


def write_distillation(found: DistillationSummary) -> Iterator[str]:
    """A sentence for every student and intervention."""
    for place, results in found.places.items():
        for one in summarise_students(results):
            yield f"{place}, {describe_student(one)}."


def judge_distillation(found: DistillationSummary) -> Iterator[Claim]:
    """The claims of Wu et al. on every kind of rows, and whether the cue comes over from clean rows."""
    for place, results in found.places.items():
        for on, students in results[0].students.items():
            methods = [name for name in students if name != LABELS_ALONE and not name.endswith("of theta_NC")]
            where = f"{place}, {on} rows"
            if on == "clean":
                yield from _judge_clean(where, results, methods)
            for split in next(iter(students.values())):
                yield _judge_between(where, results, on, methods[0], split)
                for name in methods[1:]:
                    yield _judge_nearer(where, results, on, methods[0], name, split)


def _judge_clean(where: str, results: Sequence[DistillationResult], methods: Sequence[str]) -> Iterator[Claim]:
    """The effect of a random cue on students of theta_C, beyond that on the student of theta_NC."""
    control = f"{methods[0]} of theta_NC"
    teachers = list_effects(results, "clean", "theta_C", RAND_CUE)
    for name in methods:
        both = zip(list_effects(results, "clean", name, RAND_CUE), list_effects(results, "clean", control, RAND_CUE),
                   teachers, strict=True)  # fmt: skip
        more = average_differing_seeds([_sign(of) * (own - other) for own, other, of in both])
        yield Claim(
            f"The cue comes over from rows without it: {name} responds more to rand_cue than the student of theta_NC",
            where,
            f"{_write(more)} points more",
            _judge(more),
        )


def _judge_between(where: str, results: Sequence[DistillationResult], on: DistilledOn, name: str, split: str) -> Claim:
    """Both steps, from labels alone to the student and on to the teacher, in one direction, of means over the seeds.

    No direction is taken from a seed: the sign of what noise makes of teacher - labels alone would put any student
    between the two more often than not.
    """
    own, plain, of = (list_effects(results, on, one, split) for one in (name, LABELS_ALONE, "theta_C"))
    steps = [
        average_differing_seeds([after - before for before, after in zip(*pair, strict=True)])
        for pair in ((plain, own), (own, of))
    ]
    directions = [_find_direction(step) for step in steps]
    verdict: ClaimVerdict = "undetermined"
    if 0 not in directions:
        verdict = "holds" if directions[0] == directions[1] else "does not hold"
    return Claim(
        f"{name}'s effect of {abbreviate_split(split)} lies between that of labels alone and the teacher's (Wu et al.)",
        where,
        f"{_write(steps[0])} points from labels alone to it, {_write(steps[1])} from it to the teacher",
        verdict,
    )


def _judge_nearer(
    where: str, results: Sequence[DistillationResult], on: DistilledOn, plain: str, name: str, split: str
) -> Claim:
    """Whether a term brings the effect nearer to the teacher's."""
    first, second, of = (list_effects(results, on, one, split) for one in (plain, name, "theta_C"))
    nearer = average_differing_seeds(
        [abs(a - teacher) - abs(b - teacher) for a, b, teacher in zip(first, second, of, strict=True)]
    )
    return Claim(
        f"{name} is nearer to the teacher's effect of {abbreviate_split(split)} than {plain} (Wu et al.)",
        where,
        f"{_write(nearer)} points nearer",
        _judge(nearer),
    )


def _sign(value: float) -> int:
    return 1 if value > 0 else -1


def _judge(value: SeedMean) -> ClaimVerdict:
    """Whether a mean is above zero. Each claim is at 95 % by itself."""
    verdicts: dict[int, ClaimVerdict] = {1: "holds", -1: "does not hold", 0: "undetermined"}
    return verdicts[_find_direction(value)]


def _find_direction(value: SeedMean) -> int:
    """+1 or -1 where the interval over seeds lies on one side of zero, else 0; also where there is none.

    Effects on accuracy move in whole rows, and a few seeds may agree to the row, which gives no interval.
    """
    low, high = value.interval or (0.0, 0.0)
    return 0 if low <= 0.0 <= high else _sign(low)


def _write(value: SeedMean) -> str:
    bounds = format_interval(value.interval, 100, "+.1f")
    return f"{100 * (value.mean or 0.0):+.1f}" + (f" (95 % interval {bounds})" if bounds else "")
