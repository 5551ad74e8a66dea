"""What effects and accuracies look like: cells, tables and pictures of one model or of two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mechconn.core import SPLITS
from mechconn.losses import NATS
from mechconn.mechanisms._amounts import choose_scale, format_amount
from mechconn.plotting import Cell, Drawing, Mark, Section, Table, draw_marks, format_interval, place_legend

if TYPE_CHECKING:
    from mechconn.mechanisms._effects import Effect, Invariance
    from mechconn.plotting import Axes, Figure
    from mechconn.stats import Interval

EFFECTS = "effects"
"""Anchor of the section that holds the evidence."""
HOLM = (
    "For the verdicts the intervals are widened, so that those on all interventions are right together with 95 % "
    "(Holm's correction)."
)


class Scale(NamedTuple):
    """How effects are written: what they are multiplied by, and what they are then in."""

    factor: float
    unit: str

    def write(self, value: float, sign: str = "+") -> str:
        """One number."""
        return format_amount(self.factor * value, self.unit, sign)

    def write_interval(self, interval: Interval | None, sign: str = "+") -> str:
        """Both bounds."""
        return "" if interval is None else " to ".join(self.write(bound, sign) for bound in interval)


def choose_effect_scale(found: Invariance) -> Scale:
    """How the effects of a result are written."""
    factor, unit = choose_scale(found.on, found.loss_unit)
    return Scale(factor, unit.removeprefix("of "))


def flatten_interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Both bounds as entries of a record.

    Example:
        >>> flatten_interval("effect", (-0.1, 0.2))
        {'effect_low': -0.1, 'effect_high': 0.2}
    """
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def list_invariance_rows(found: Invariance, **front: Any) -> list[dict[str, Any]]:
    """One record per split: its means, and the effects on them where it is not the reference, with their intervals."""
    return [{**front, **_flatten_split(found, split)} for split in found.samples]


def _flatten_split(found: Invariance, split: str) -> dict[str, Any]:
    effect = found.effects.get(split)
    row: dict[str, Any] = {"split": split, "samples": found.samples[split]}
    if found.accuracy:
        row |= {"accuracy": found.accuracy[split], **flatten_interval("accuracy", found.accuracy_interval.get(split))}
    row |= {"loss": found.loss[split], **flatten_interval("loss", found.loss_interval.get(split))}
    for name, means in found.metrics.items():
        row |= {name: means[split], **flatten_interval(name, found.metrics_interval[name][split])}
    for name in (*(["accuracy"] if found.accuracy else []), "loss", *found.metrics):
        change = None if effect is None else effect.effect_on(name)
        row |= {f"{name}_effect": change and change.effect}
        row |= flatten_interval(f"{name}_effect", change and change.interval)
    row |= {"effect": effect and effect.effect, **flatten_interval("effect", effect and effect.interval)}
    row |= {"verdict": effect and effect.verdict, "adjusted_p_value": effect and effect.adjusted_p_value}
    return {**row, "to_settle": effect and effect.to_settle, "changed": effect and effect.changed}


def name_split(found: Invariance, split: str) -> Cell:
    """A split's name, with what it holds where it is one of the paper's."""
    meaning = SPLITS[split][1] if split in SPLITS else ""
    return Cell(split, "reference" if split == found.reference else "", title=meaning)


def make_level_cell(found: Invariance, split: str) -> Cell:
    """The accuracy on a split with its interval; the mean loss where there is no accuracy."""
    if split in found.accuracy:
        interval = format_interval(found.accuracy_interval.get(split), 100, ".1f")
        return Cell(f"{100 * found.accuracy[split]:.1f} %", interval)
    loss, form = found.loss[split], ".3f" if found.loss_unit == NATS else ".4g"
    interval = format_interval(found.loss_interval.get(split), form=form)
    return Cell("not finite" if loss is None else f"{loss:{form}}", f"loss\n{interval}" if interval else "loss")


def make_level_section(sides: Mapping[str, Invariance]) -> Section:
    """How often each model is right on every split, or its mean loss, as points with their intervals."""
    words = "; ".join(
        f"{name} {', '.join(f'{split} {make_level_cell(side, split)}' for split in side.samples)}".strip()
        for name, side in sides.items()
    )
    right = all(side.accuracy for side in sides.values())
    what = "Accuracy" if right else "Mean loss"
    figure = Drawing(lambda: draw_levels(sides), f"{what} on every split with 95 % intervals: {words}.")
    return Section("How often each is right" if right else "The loss on every split", figures=(figure,), half=True)


def draw_levels(sides: Mapping[str, Invariance], ax: Axes | None = None) -> Figure:
    """Accuracies in % of one model or several on every split, or mean losses, with their 95 % intervals."""
    first = next(iter(sides.values()))
    right = all(side.accuracy for side in sides.values())
    series = {name: [_mark_level(side, split, right) for split in first.samples] for name, side in sides.items()}
    label = "accuracy (%)" if right else f"loss ({first.loss_unit})" if first.loss_unit == NATS else "loss"
    figure = draw_marks(list(first.samples), series, label, "split", ax)
    if right:
        (figure.axes[0] if ax is None else ax).set_ylim(-2, 102)
    return figure


def _mark_level(side: Invariance, split: str, right: bool) -> Mark:
    value, scale = (side.accuracy[split], 100.0) if right else (side.loss[split], 1.0)
    if value is None:
        return None
    low, high = (side.accuracy_interval if right else side.loss_interval).get(split) or (value, value)
    return scale * value, scale * low, scale * high


def make_effect_cell(effect: Effect | None, scale: Scale) -> Cell:
    """The verdict on an intervention, its effect below it; nothing on the reference."""
    if effect is None:
        return Cell("")
    amount = f"{scale.write(effect.effect)} ({scale.write_interval(effect.interval)})"
    if effect.caveat:
        return Cell(effect.verdict, f"says nothing about what it uses\n{amount}", title=effect.caveat)
    return Cell(effect.verdict, amount, style=effect.verdict)


def make_invariance_section(found: Invariance) -> Section:
    """Accuracies and effects of one model, split by split."""
    scale = choose_effect_scale(found)
    changed = any(effect.changed is not None for effect in found.values())
    columns = ["split", "accuracy" if found.accuracy else "loss", *found.metrics, f"effect ({scale.unit})"]
    rows = []
    for split in found.samples:
        effect = found.effects.get(split)
        metrics = [_make_metric_cell(found, split, name) for name in found.metrics]
        moved = [] if not changed else [_write_changed(effect)]
        rows.append(
            (name_split(found, split), make_level_cell(found, split), *metrics, make_effect_cell(effect, scale), *moved)
        )
    table = Table((*columns, *(["predictions change"] if changed else [])), tuple(rows))
    figure = Drawing(lambda: draw_effects({"": found}), describe_effects({"": found}))
    empty = (
        f" Where it is invariant that says nothing about what it uses: {found.uninformative}."
        if found.uninformative
        else ""
    )
    noted = "".join(f" Note: {note}." for note in found.notes)
    note = f"{describe_effect_intervals(found)} {HOLM}{empty}{noted}"
    return Section("What it relies on", figures=(figure,), tables=(table,), note=note, anchor=EFFECTS, half=True)


def _make_metric_cell(found: Invariance, split: str, name: str) -> Cell:
    """The mean of a metric with its interval; below it the effect on it, with its own."""
    lines, effect = [format_interval(found.metrics_interval[name][split])], found.effects.get(split)
    change = None if effect is None else effect.effect_on(name)
    if change is not None:
        bounds = f" ({format_interval(change.interval, form='+.4g')})" if change.interval else ""
        lines.append(f"effect {change.effect:+.4g}{bounds}")
    return Cell(f"{found.metrics[name][split]:.4g}", "\n".join(filter(None, lines)))


def _write_changed(effect: Effect | None) -> Cell:
    if effect is None or effect.changed is None:
        return Cell("")
    return Cell(f"{100 * effect.changed:.1f} %", format_interval(effect.changed_interval, 100, ".1f"))


def describe_effect_intervals(found: Invariance) -> str:
    """What effects are in, and when one is invariant, in a sentence or a few."""
    scale = choose_effect_scale(found)
    of_shares = "" if found.each == "rows" else f" Accuracies are mean shares of a row's {found.each} that are right."
    approximate = (
        " On the loss that is approximate (Student's t): a few rows with a loss far above the others' can make "
        "intervals too narrow."
        if found.on == "loss"
        else ""
    )
    drawn = "".join(
        f" {name} was drawn {effect.draws} times: means over the draws."
        for name, effect in found.items()
        if effect.draws > 1
    )
    return (
        f"Effects in {scale.unit} against {found.reference}, with 95 % intervals over {found.over}; invariant when the "
        f"whole interval lies within {scale.factor * found.margin:g} {scale.unit} of zero, sensitive when it lies "
        f"outside, else undetermined.{approximate} Interventions: {', '.join(found.interventions)}; other splits are "
        f"reported beside them and decide nothing.{of_shares}{drawn}"
    )


def draw_effects(
    sides: Mapping[str, Invariance], ax: Axes | None = None, *, splits: Sequence[str] | None = None
) -> Figure:
    """The effects of one model or several on some splits, with their intervals and the margin.

    `splits` defaults to every split but the reference.
    """
    first = next(iter(sides.values()))
    scale, shown = choose_effect_scale(first), list(first if splits is None else splits)
    series = {name: [_mark_effect(found[split], scale) for split in shown] for name, found in sides.items()}
    what = first.on if first.on in ("accuracy", "loss") else f"the metric {first.on}"
    unit = "" if scale.unit == first.on else f" ({scale.unit})"
    figure = draw_marks(shown, series, f"effect on {what}{unit}", "split", ax)
    axes = figure.axes[0] if ax is None else ax
    reach = scale.factor * first.margin
    axes.axhspan(-reach, reach, color="gray", alpha=0.15, label=f"within the margin, {reach:g}")
    axes.axhline(0.0, color="gray", linewidth=0.8)
    place_legend(figure, axes, ax is None)
    return figure


def _mark_effect(effect: Effect, scale: Scale) -> Mark:
    low, high = effect.interval
    return scale.factor * effect.effect, scale.factor * low, scale.factor * high


def describe_effects(sides: Mapping[str, Invariance]) -> str:
    """What the picture of effects shows, for those who do not see it."""
    return f"Effects with 95 % intervals: {'; '.join(_list_effects(sides))}."


def _list_effects(sides: Mapping[str, Invariance]) -> Iterator[str]:
    for name, found in sides.items():
        scale = choose_effect_scale(found)
        for split, effect in found.items():
            who = f"{name} " if name else ""
            yield f"{who}{split} {scale.write(effect.effect)} {scale.unit}, {effect.verdict}"
