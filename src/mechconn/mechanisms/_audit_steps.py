"""Steps of an audit: what is refused before the work, both models compared, the lines between them, their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mechconn.connectivity import Evaluator, Profile, RowReader, SettledPath, Until, settle_lines, walk_lines
from mechconn.mechanisms._compare import compare_evaluated, compare_settled, read_pair
from mechconn.mechanisms._comparison import Comparison
from mechconn.mechanisms._discrepancy import Draws, OutputDiscrepancy, compare_outputs, measure_discrepancy
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._outcomes import match_outcomes
from mechconn.mechanisms._representation_result import RepresentationSimilarity
from mechconn.mechanisms._representations import NoLayersError, compare_layers
from mechconn.network import NormPolicy, Outcomes, Point


def check_settles_all(until: Until, asked: Mapping[str, object]) -> None:
    """Refuse what reads all rows where they are to be read until verdicts are settled."""
    given = [name for name, value in asked.items() if value is not None]
    if until == "settled" and given:
        raise ValueError(
            f"until='settled' reads some rows, and {' and '.join(given)} need{'s' * (len(given) == 1)} all; leave out "
            f"{'=, '.join(given)}=, or use until='end'"
        )


def compare_pair(
    a: Evaluator, b: Evaluator, margin: float, on: On, until: Until
) -> tuple[Comparison, OutputDiscrepancy | None, RowReader | None]:
    """(the comparison, how far the outputs lie apart, the reader of A where rows are read until settled).

    A's evaluator then knows B's outcomes as saved.
    """
    if until == "end":
        comparison = compare_evaluated((lambda: a,), (lambda: b,), margin, on)
        discrepancy = measure_discrepancy(a, b) if _share_classes(*_take_reference(a, a.draws, b.draws)) else None
        for own in (a, b):
            own.drop_probabilities()
        a.adopt(b)
        return comparison, discrepancy, None
    first, second = read_pair(a, b, margin, on)
    of_a, of_b = (
        lambda split, own=own: own.splits[split].draws for own in match_outcomes(first.outcome, second.outcome)
    )
    comparison = compare_settled((first, second), a.suite, margin, on)
    discrepancy = compare_outputs(a, of_a, of_b) if _share_classes(*_take_reference(a, of_a, of_b)) else None
    first.reader.adopt(second.reader)
    return comparison, discrepancy, first.reader


def _take_reference(a: Evaluator, of_a: Draws, of_b: Draws) -> tuple[Outcomes, Outcomes]:
    return of_a(a.suite.reference)[0], of_b(a.suite.reference)[0]


def check_blocks(policy: NormPolicy) -> None:
    """Refuse a policy that needs both ends of a path, which a block that moves by itself does not have."""
    if policy.reads_ends():
        raise ValueError(
            f"{type(policy).__name__} needs the two ends of a path, and a block moved by itself lies on none; leave "
            "out blocks, or pass norm=Reestimate(training batches)"
        )


def _share_classes(first: Outcomes, second: Outcomes) -> bool:
    """Whether both classify rows as wholes, among as many classes."""
    classified = first.answers is not None and first.answers.each == "rows"
    return classified and first.row_shape == second.row_shape


def compare_audit_layers(
    a: Evaluator, b: Evaluator, layers: Sequence[str] | Literal["all"]
) -> tuple[RepresentationSimilarity | None, list[str]]:
    """(linear CKA, []), or (None, [why there is none]) where none of the layers that were left to us has any."""
    data = a.suite[a.suite.reference]
    try:
        return compare_layers((a.network, b.network), (a.saved, b.saved), data, layers, a.seed), []
    except NoLayersError as error:
        return None, [f"No linear CKA: {error}."]


def walk_audit_lines(
    ends: tuple[Evaluator, RowReader | None],
    b: Point,
    moved: Point | None,
    grid: tuple[float, ...],
    policy: NormPolicy,
    asked: tuple[float, On, float],
) -> tuple[dict[str, Profile], dict[str, SettledPath]]:
    """(both lines at all rows and points, both until they are settled): one of them is empty.

    `ends` are the evaluator of A and, until settled, its reader; `asked` the tolerance, what effects are measured on,
    and their margin.
    """
    evaluator, reader = ends
    if reader is None:
        return walk_lines(evaluator, b, moved, grid, policy), {}
    tolerance, on, margin = asked
    return {}, settle_lines(reader, b, moved, grid, policy, tolerance, on, margin)  # both in what effects are in
