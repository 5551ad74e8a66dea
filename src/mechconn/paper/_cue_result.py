"""What a cell of an experiment with a cue gives: its models measured, its paths evaluated, how each training went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mechconn.connectivity import PathVerdict, Profile
from mechconn.mechanisms import Invariance, Relearned, State, describe_state
from mechconn.paper._cue_sections import draw_cue_results, make_cue_sections
from mechconn.paper._findings import write_findings
from mechconn.paper._run_cards import list_cue_cards
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import sort_splits
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import Card, Header, Section

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

PathKind = Literal["linear", "aligned", "fitted"]
FittedOn = Literal["cued", "clean"]
History = tuple[Mapping[str, int | float], ...]
"""A record for each epoch: its loss terms by name."""


@dataclass(frozen=True)
class CellPath:
    """A path between two models of a cell.

    Attributes:
        kind: "linear"; "aligned": straight, after the other end's units were moved onto theta_C's; "fitted": a curve.
        profile: loss and accuracy along it; its `names` are those of the ends.
        fitted_on: of a fitted path: the training data "cued" or "clean".
        history: of a fitted path: how the fit went.
    """

    kind: PathKind
    profile: Profile
    fitted_on: FittedOn | None = None
    history: History = ()

    @property
    def end(self) -> str:
        """The model at t = 1; theta_C is the one at t = 0."""
        return self.profile.names[1]

    @property
    def label(self) -> str:
        """What tables and figures call it."""
        how = {"linear": "", "aligned": ", aligned", "fitted": f", fitted on {self.fitted_on} data"}[self.kind]
        return f"{' to '.join(self.profile.names)}{how}"


@dataclass(frozen=True, repr=False)
class CueResult(RunPart, kind="cue_cell"):
    """A cell of an experiment with a cue.

    Attributes:
        dataset, proportion, clean_samples, seed: its place; clean_samples None is all training samples.
        tolerance: the rise in nats that still counts as connected.
        models: theta_C, theta_NC, or a method's name -> accuracies, effects and verdicts.
        paths: what was evaluated between them.
        histories: model -> how its training went; none for what needs no epochs.
        relearned: model -> whether the cue is gone or hidden in it, where that was measured.
    """

    derived: ClassVar[tuple[str, ...]] = ("states",)

    dataset: str
    proportion: float
    clean_samples: int | None
    seed: int
    tolerance: float
    models: Mapping[str, Invariance]
    paths: tuple[CellPath, ...] = ()
    histories: Mapping[str, History] = field(default_factory=dict)
    relearned: Mapping[str, Relearned] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, State]:
        """Model -> what it does with the cue: "uses", "avoids", "hidden", "gone" or "undetermined"."""
        return {name: found.state for name, found in self.relearned.items()}

    def header(self) -> Header:
        """Its place."""
        clean = "" if self.clean_samples is None else f", {self.clean_samples:,} clean samples"
        return Header(f"{self.dataset}, cue on {self.proportion:.0%}{clean}, seed {self.seed}")

    def cards(self) -> list[Card]:
        """Which networks rely on the cue, is it gone or hidden, which paths join them."""
        return list(list_cue_cards([self]))

    @property
    def findings(self) -> tuple[str, ...]:
        """What each model relies on, the straight paths, and what follows."""
        return tuple(write_findings(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record for each model and split, then one for each path and split."""
        place = {name: getattr(self, name) for name in ("dataset", "proportion", "clean_samples", "seed")}
        models = [
            {**place, "model": name, "path": None, **row} for name, found in self.models.items() for row in found.rows()
        ]
        paths = [
            {**place, "model": None, "path": path.label, **row} for path in self.paths for row in path.profile.rows()
        ]
        keys = dict.fromkeys(key for row in (*models, *paths) for key in row)
        return [{key: row.get(key) for key in keys} for row in (*models, *paths)]

    def sections(self) -> list[Section]:
        """Accuracies, verdicts, barriers and figures."""
        return make_cue_sections([self])

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: accuracy of every model on every split."""
        return draw_cue_results([self], ax)

    def __str__(self) -> str:
        lines = [self.header().title]
        states = {name: f"; {describe_state('it', state, 'the cue')}" for name, state in self.states.items()}
        lines += [f"  {name}: {_describe_model(model)}{states.get(name, '')}" for name, model in self.models.items()]
        for path in self.paths:
            verdict = path.profile.judge(self.tolerance)
            lines.append(f"  {path.label}: {verdict.verdict} ({', '.join(_list_verdicts(verdict))})")
        return "\n".join(lines)


def _describe_model(model: Invariance) -> str:
    """Accuracy on every split, with the verdict where it is that of an intervention."""
    verdicts = {split: f" ({effect.verdict})" for split, effect in model.items() if split in model.interventions}
    return ", ".join(
        f"{abbreviate_split(split)} {model.accuracy[split]:.1%}{verdicts.get(split, '')}"
        for split in sort_splits(model.accuracy)
    )


def _list_verdicts(verdict: PathVerdict) -> list[str]:
    return [f"{abbreviate_split(split)} {verdict.splits[split]}" for split in sort_splits(verdict.splits)]
