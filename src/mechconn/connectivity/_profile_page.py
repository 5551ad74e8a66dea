"""What a profile shows: its curves, the table of its barriers, and both in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechconn.connectivity._path_verdict import MARGIN
from mechconn.connectivity._saved_ends import ShiftedEnd, describe_shifted_end
from mechconn.losses import NATS
from mechconn.plotting import LABELS, Cell, Drawing, Mark, Section, Table, draw_curves, format_interval

if TYPE_CHECKING:
    from mechconn.connectivity._path_verdict import PathVerdict
    from mechconn.connectivity._profile import Profile
    from mechconn.plotting import Axes, Figure

TABLE_NOTE = (
    "Small figures are 95 % intervals over {over}, simultaneous over the points of the path. Connected: the whole "
    "interval is at most the tolerance; not connected: all of it is above; else undetermined."
)


def make_path_section(profile: Profile, title: str, verdict: PathVerdict, symmetry: str = "") -> Section:
    """The curves of a path with the table of its barriers.

    Args:
        profile: what was measured.
        title: the heading.
        verdict: on the path, `profile.judge(tolerance, margin)`.
        symmetry: which symmetries were removed, a sentence of the caption.
    """
    unit, form = profile.unit, ".3f" if profile.unit == NATS else ".4g"
    rows = []
    for split, connection in verdict.splits.items():
        place = gap = ""
        if is_finite(profile, split, "loss"):
            place, gap = f"{profile.barrier(split).t:.2g}", f"{profile.endpoint_minus_minimum(split):{form}}"
        rows.append((split, make_barrier_cell(profile, split, form), place, gap, connection))
    graded = Cell(
        "ends less minimum",
        title="mean loss of the ends less the lowest on the path: reported only; not part of the verdict",
    )
    columns = ("split", f"barrier ({unit})", "at t", graded, f"within {verdict.tolerance} {unit}")
    over = "clusters of test samples" if profile.clusters else "the test samples"
    table = Table(columns, tuple(rows), note=TABLE_NOTE.format(over=over))
    figure = Drawing(
        lambda: draw_profile(profile, list(profile.measured()), None, verdict.margin),
        describe_path(profile, verdict.margin),
        " ".join(filter(None, (_describe_points(profile), symmetry))),
    )
    return Section(title, figures=(figure,), tables=(table,))


def describe_verdict(profile: Profile, found: PathVerdict) -> Iterator[str]:
    """The verdict on the networks as saved, in a sentence; where it is another, that on the ends of the path."""
    splits = ", ".join((profile.reference, *profile.interventions))
    other = "" if found.evaluated == found.verdict else f"; between the networks that it ends at: {found.evaluated}"
    shifts = describe_shifts(found.shifted, profile.unit, profile.names)
    yield f"Over {splits} the path is {found.verdict} (tolerance {found.tolerance:g} {profile.unit}){other}.{shifts}"
    for split, on, t, value in profile.not_finite:
        yield f"The {on} on {split} is {value} at t = {t:g}."


def make_barrier_cell(profile: Profile, split: str, form: str) -> Cell:
    """A barrier in loss with its interval; "not finite" where the loss is not."""
    if not is_finite(profile, split, "loss"):
        return Cell("not finite")
    barrier = profile.barrier(split)
    return Cell(f"{barrier.height:{form}}", format_interval(barrier.interval, form=form))


def mark_barrier(profile: Profile, split: str, on: str) -> Mark:
    """A barrier as a mark of a figure: (height, low, high); None where L is not finite."""
    if not is_finite(profile, split, on):
        return None
    barrier = profile.barrier(split, on)
    low, high = barrier.interval or (barrier.height, barrier.height)
    return barrier.height, low, high


def is_finite(profile: Profile, split: str, on: str) -> bool:
    """Whether every mean of a measure on a split is finite."""
    return not any((bad.split, bad.on) == (split, on) for bad in profile.not_finite)


def _describe_points(profile: Profile) -> str:
    return (
        f"Evaluated at {len(profile.ts)} points{profile.number_types}.{describe_norm(profile.settings.get('norm', {}))}"
    )


def describe_norm(norm: Mapping[str, Any]) -> str:
    """Where normalisation statistics came from, a sentence that follows others; empty where that is not known.

    Example:
        >>> describe_norm({"policy": "reestimate", "data": "the training data"})
        ' Normalisation statistics: reestimate, from the training data.'
    """
    source = f", from {norm['data']}" if "data" in norm else ""
    average = f", {norm['average']} average" if "average" in norm else ""
    return f" Normalisation statistics: {norm['policy']}{source}{average}." if "policy" in norm else ""


def draw_profile(profile: Profile, measures: Sequence[str], ax: Axes | None, margin: float = MARGIN) -> Figure:
    """The curves of some measures, a panel each."""
    named = profile.unit == NATS  # "loss (loss units)" would say nothing
    labels = {**LABELS, "loss": f"loss ({NATS})" if named and "loss_unit" in profile.settings else "loss"}
    measured = profile.measured()
    return draw_curves(
        profile.ts,
        {on: measured[on] for on in measures},
        broken=profile.not_finite,
        start=profile.names[0],
        end=profile.names[1],
        labels=labels,
        saved=profile.moved_ends(margin),
        ax=ax,
    )


def describe_path(profile: Profile, margin: float = MARGIN) -> str:
    """What the figure shows, for those who do not see it."""
    ends = "; ".join(
        f"{split} {_describe_ends(profile, split)}, {_describe_rise(profile, split)}" for split in profile.loss
    )
    what = "Accuracy and loss" if profile.accuracy else "Loss"
    kind = "straight path" if profile.settings.get("path") == "linear" else "path"
    shifts = describe_shifts(profile.shifted_ends(margin), profile.unit, profile.names)
    return f"{what} along the {kind} from {profile.names[0]} to {profile.names[1]}: {ends}.{shifts}"


def describe_shifts(shifted: Sequence[ShiftedEnd], unit: str, names: tuple[str, str] = ("A", "B")) -> str:
    """Which ends of a path are other networks than the saved ones, in a sentence; empty where none is.

    Example:
        >>> describe_shifts([ShiftedEnd("B", "cue", "accuracy", 0.94, 0.33)], "nats")
        ' Its ends are not the networks as saved: B is right on 94.0 % of cue as saved, and on 33.0 % on this path.'
    """
    if not shifted:
        return ""
    show = make_loss_writer(unit)
    groups = dict.fromkeys((shift.end, shift.on) for shift in shifted)
    said = (
        describe_shifted_end([s for s in shifted if (s.end, s.on) == group], show, names["AB".index(group[0])])
        for group in groups
    )
    return f" Its ends are not the networks as saved: {'; '.join(said)}."


def make_loss_writer(unit: str) -> Callable[[float], str]:
    """What writes a loss with its unit: hundredths of nats, three digits of a loss that may have any scale."""
    return f"{{:{'.2f' if unit == NATS else '.3g'}}} {unit}".format


def _describe_ends(profile: Profile, split: str) -> str:
    """Accuracy at both ends, or the loss where there is none."""
    if split in profile.accuracy:
        first, *_, last = profile.accuracy[split]
        return f"accuracy {100 * first:.0f} % at t = 0 and {100 * last:.0f} % at t = 1"
    first, *_, last = profile.loss[split]
    return f"loss {first:.3g} at t = 0 and {last:.3g} at t = 1"


def _describe_rise(profile: Profile, split: str) -> str:
    if not is_finite(profile, split, "loss"):
        return "loss not finite on the path"
    barrier, unit = profile.barrier(split), profile.unit
    height = f"{barrier.height:.2f}" if unit == NATS else f"{barrier.height:.3g}"
    return f"largest rise in loss above the chord {height} {unit} at t = {barrier.t:g}"
