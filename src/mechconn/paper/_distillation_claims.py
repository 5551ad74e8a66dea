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
from mechconn.paper._run_tables import SeedMean, average_seeds
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
        more = average_seeds([_sign(of) * (own - other) for own, other, of in both])
        yield Claim(
            f"The cue comes over from rows without it: {name} responds more to rand_cue than the student of theta_NC",
            where,
            f"{_write(more)} points more",
            _judge(more),
        )


def _judge_between(where: str, results: Sequence[DistillationResult], on: DistilledOn, name: str, split: str) -> Claim:
    """Above the student of labels alone and below the teacher, both over the seeds."""
    own, plain, of = (list_effects(results, on, one, split) for one in (name, LABELS_ALONE, "theta_C"))
    pairs = list(zip(own, plain, of, strict=True))
    signs = [_sign(teacher - other) for _, other, teacher in pairs]
    above = average_seeds([sign * (mine - other) for sign, (mine, other, _) in zip(signs, pairs, strict=True)])
    below = average_seeds([sign * (teacher - mine) for sign, (mine, _, teacher) in zip(signs, pairs, strict=True)])
    both = _judge(above), _judge(below)
    verdict: ClaimVerdict = (
        "does not hold" if "does not hold" in both else "holds" if both == ("holds", "holds") else "undetermined"
    )
    return Claim(
        f"{name}'s effect of {abbreviate_split(split)} lies between that of labels alone and the teacher's (Wu et al.)",
        where,
        f"{_write(above)} points from labels alone towards the teacher, {_write(below)} from there to the teacher",
        verdict,
    )


def _judge_nearer(
    where: str, results: Sequence[DistillationResult], on: DistilledOn, plain: str, name: str, split: str
) -> Claim:
    """Whether a term brings the effect nearer to the teacher's."""
    first, second, of = (list_effects(results, on, one, split) for one in (plain, name, "theta_C"))
    nearer = average_seeds(
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
    """By where the interval over seeds lies; undetermined with one seed. Each claim is at 95 % by itself."""
    if value.interval is None:
        return "undetermined"
    return "holds" if value.interval[0] > 0 else "does not hold" if value.interval[1] < 0 else "undetermined"


def _write(value: SeedMean) -> str:
    bounds = format_interval(value.interval, 100, "+.1f")
    return f"{100 * (value.mean or 0.0):+.1f}" + (f" (95 % interval {bounds})" if bounds else "")
