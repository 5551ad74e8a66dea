"""The figure of a path, and what it shows in words."""

from __future__ import annotations

from mechconn.core import abbreviate_split
from mechconn.losses import NATS
from mechconn.mechanisms import PathRecord, describe_shifts
from mechconn.plotting import LABELS, draw_curves, inline_svg, replace_not_finite


def draw_path_figure(path: PathRecord, unit: str = NATS) -> str:
    """Accuracy, where measured, and loss along a path, one curve per split, as inline SVG with a title for readers."""
    measured = {"accuracy": replace_not_finite(path.accuracy)} if path.accuracy else {}
    measured["loss"] = replace_not_finite(path.loss)
    labels = {**LABELS, "loss": _name_axis(unit)}
    return inline_svg(
        lambda: draw_curves(
            path.ts, measured, start=path.start, end=path.end, labels=labels, saved=list_saved_ends(path)
        ),
        describe_path(path, unit),
    )


def list_saved_ends(path: PathRecord) -> list[tuple[str, str, float, float]]:
    """(split, measure, t, value) of every end as saved that is another network than the path's."""
    shifted = {shift.end for shift in path.shifted}
    return [
        (split, on, t, value)
        for end, saved, t in zip(
            (path.start, path.end), path.saved, (0.0, 1.0), strict=False
        )  # older records hold none
        if saved is not None and end in shifted
        for on, splits in (("accuracy", saved.accuracy), ("loss", saved.loss))
        for split, value in splits.items()
        if value is not None
    ]


def _name_axis(unit: str) -> str:
    """The axis of the loss; "loss (loss units)" would say nothing."""
    return f"loss ({unit})" if unit == NATS else "loss"


def describe_path(path: PathRecord, unit: str = NATS) -> str:
    """What the figure shows, for those who do not see it."""
    ends = "; ".join(
        f"{abbreviate_split(split)} {_describe_ends(path, split)}, {_describe_rise(path, split, unit)}"
        for split in path.loss
    )
    what = "Accuracy and loss" if path.accuracy else "Loss"
    shifts = describe_shifts([shift.model_dump() for shift in path.shifted], unit)
    return f"{what} along the straight path from {path.start} to {path.end}: {ends}.{shifts}"


def _describe_ends(path: PathRecord, split: str) -> str:
    """Accuracy at both ends, or the loss where there is none."""
    if split in path.accuracy:
        values, shown, what = path.accuracy[split], _format_percent, "accuracy"
    else:
        values, shown, what = path.loss[split], _format_number, "loss"
    return f"{what} {shown(values[0])} at t = 0 and {shown(values[-1])} at t = 1"


def _format_number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"


def _format_percent(share: float | None) -> str:
    return "undefined" if share is None else f"{100 * share:.0f} %"


def _describe_rise(path: PathRecord, split: str, unit: str) -> str:
    barrier = path.barrier[split]
    if barrier is None:
        return "loss not finite on the path"
    height = f"{barrier[0]:.2f}" if unit == NATS else f"{barrier[0]:.3g}"
    return f"largest rise in loss above the chord {height} {unit} at t = {barrier[1]:g}"
