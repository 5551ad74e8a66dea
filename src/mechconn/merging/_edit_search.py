"""Edits of one network, evaluated from the fewest changes on until one is shown to do it, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from jaxtyping import Bool
from torch import Tensor, nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute
from mechconn.datasets import Suite
from mechconn.mechanisms import ModelOutcome, measure_outcome
from mechconn.merging._add_change import add_change
from mechconn.merging._edit_methods import Edit, EditFamily, EditMethod
from mechconn.merging._edit_scores import EditProblem
from mechconn.merging._edit_verdict import find_shares, passes
from mechconn.merging._merge_parents import name_network
from mechconn.merging._scale_rows import divide_rows, select_values
from mechconn.merging._scale_runs import check_rows, find_chance, list_values
from mechconn.merging._scale_verdict import ScaleQuestion, Values
from mechconn.network import NormPolicy, WeightChange, find_statistics_layers, resolve_norm

Passed: TypeAlias = Literal["shown", "by means", "no"]


@dataclass(frozen=True)
class TriedEdit:
    """One edit on the rows that choose.

    Attributes:
        cue_share: q, of what rows with the cue need most.
        clean_share: p, of what rows without it need most.
        count: weights or ranks that it changes.
        accuracies: split -> accuracy.
        passes: whether it brings the target to chance and keeps the rest: "shown" by bounds at tail level 5 %, "by
            means" alone, or "no".
    """

    cue_share: float
    clean_share: float
    count: int
    accuracies: Mapping[str, float]
    passes: Passed


@dataclass(eq=False)
class EditSearch:
    """A search under way.

    Attributes:
        model: the network that is edited.
        suite: the target and what is to be kept.
        choosing: the share of rows that choose, or a suite of other rows.
        norm: where normalisation statistics come from, as it was asked for.
        own: loss, clusters and seed, as `Evaluator` takes them.
        compute: how to compute.
        tried: every edit that was evaluated.
        notes: edits that were left out.
        evaluator: of the model as saved.
        policy: where normalisation statistics come from, once that is settled.
        family: its edits.
        base: what the model with the policy's statistics does.
    """

    model: nn.Module
    suite: Suite
    choosing: float | Suite
    norm: NormPolicy | None
    own: Mapping[str, Any]
    compute: Compute
    tried: list[TriedEdit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evaluator: Evaluator = field(init=False)
    policy: NormPolicy = field(init=False)
    family: EditFamily = field(init=False)
    base: ModelOutcome = field(init=False)
    _sides: dict[str, Bool[Tensor, " n"]] | None = None
    _choosing_base: Values = field(default_factory=dict)
    _edits: list[Edit] = field(default_factory=list)
    _keeping: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.model, self.suite, **self.own, compute=self.compute.without_progress())
        self.policy = resolve_norm(self.norm, self.evaluator.network)

    def start(
        self, asked: ScaleQuestion, floor: float | None, method: EditMethod, problem: EditProblem
    ) -> ScaleQuestion:
        """Score, evaluate the model with the policy's statistics, and divide rows; the question with its floor."""
        self.family = method.prepare(problem)
        model = self.build(None)
        self.base = self._measure("the model", model)
        if not isinstance(self.choosing, Suite):
            self._sides = divide_rows(self.base, self.suite, self.own["cluster"], self.choosing, self.own["seed"])
        self._choosing_base = self._list_choosing("the model", model, self.base)
        chance = find_chance(self.base, asked.target) if floor is None else floor
        return replace(asked, bounds=self.base.bounds_on("accuracy"), floor=chance)

    def build(self, change: WeightChange | None) -> nn.Module:
        """The network with a change; without, with statistics of the policy alone."""
        change = self.family.make_change({}) if change is None else change
        return add_change(self.model, change, 1.0, self.policy, self.own["seed"], self.compute)

    def build_edit(self, edit: Edit, draw: int | None = None) -> nn.Module:
        """The network after an edit, or after a random one of its size."""
        family = self.family
        moves = family.make_moves(edit) if draw is None else family.draw_moves(edit, self.own["seed"] + draw)
        return self.build(family.make_change(moves))

    def choose(self, asked: ScaleQuestion) -> Edit | None:
        """Of the edits, by the rows that choose; None where none is able, or nothing is to be removed.

        The smallest that is shown to pass; else the smallest that passes by means; else, of those that keep and lower
        the target, the one nearest to chance.
        """
        if passes(asked, self._choosing_base, self._choosing_base, False)[0]:
            self.notes.append("the model's own target is at chance on the rows that choose: there is nothing to remove")
            return None
        edits = self.family.list_edits()
        if not edits:
            same = "" if self.family.problem.reference is None else ", or another reference="
            raise ValueError(
                "no edit of these shares changes a weight, so none can be tried; take larger cue_shares=, smaller "
                f"clean_shares={same}"
            )
        for number, edit in enumerate(edits):
            self.compute.report("evaluating edits", number, len(edits))
            if self._try(asked, edit) == "shown":
                break
        if not self.tried:
            raise ValueError(f"no edit can be evaluated; take smaller cue_shares=: {self.notes[0]}")
        return self._pick(asked)

    @property
    def _unknown_clusters(self) -> bool:
        """Whether rows come in clusters, and those of the rows that choose are not known: nothing is shown on these."""
        return self.own["cluster"] is not None and isinstance(self.choosing, Suite)

    def _try(self, asked: ScaleQuestion, edit: Edit) -> Passed | None:
        what = f"the edit of {edit.count} {self.family.unit}"
        try:
            model = self.build_edit(edit)
            found = self._list_choosing(what, model, None)
        except ValueError as error:
            self.notes.append(f"{what} (q = {edit.cue_share:g}, p = {edit.clean_share:g}) is left out: {error}")
            return None
        reached, keeps = passes(asked, self._choosing_base, found, False)
        own: Passed = "by means" if reached and keeps else "no"
        if own != "no" and not self._unknown_clusters and all(passes(asked, self._choosing_base, found, True)):
            own = "shown"
        self.tried.append(TriedEdit(edit.cue_share, edit.clean_share, edit.count, find_shares(found), own))
        self._edits.append(edit)
        self._keeping.append(keeps)
        return own

    def _pick(self, asked: ScaleQuestion) -> Edit | None:
        for how in ("shown", "by means"):
            for edit, tried in zip(self._edits, self.tried, strict=True):
                if tried.passes == how:
                    return edit
        able = [number for number, keeps in enumerate(self._keeping) if keeps]
        before = find_shares(self._choosing_base)[asked.target]
        able = [number for number in able if self.tried[number].accuracies[asked.target] < before]
        if not able:
            return None
        return self._edits[min(able, key=lambda n: abs(self.tried[n].accuracies[asked.target] - asked.floor))]

    def judge(self, what: str, model: nn.Module) -> Values:
        """Values of a network on the rows that judge."""
        found = self._measure(what, model)
        check_rows(what, self.base, found)
        return select_values(list_values(found, "accuracy"), self._sides, False)

    def judge_base(self) -> Values:
        """Those of the model."""
        return select_values(list_values(self.base, "accuracy"), self._sides, False)

    def count_rows(self) -> dict[str, tuple[int, int]]:
        """Split -> (rows that choose, rows that judge)."""
        return {
            split: (len(self._choosing_base[split].values), len(rows.values))
            for split, rows in self.judge_base().items()
        }

    def place(self, edit: Edit) -> int:
        """Which of those tried an edit is."""
        return self._edits.index(edit)

    def describe_norm(self) -> dict[str, Any]:
        """Where normalisation statistics come from; empty of a network that keeps none."""
        return self.policy.describe() if list(find_statistics_layers(self.evaluator.network)) else {}

    def describe(self, asked: ScaleQuestion) -> dict[str, Any]:
        """Everything needed to repeat it."""
        rows = {split: len(own.values) for split, own in self._choosing_base.items()}
        return {
            "target": asked.target,
            "keep": [list(pair) for pair in asked.keep],
            "floor": asked.floor,
            "margin": asked.margin,
            "choosing": self.choosing if isinstance(self.choosing, float) else {"rows": rows},
            "norm": self.describe_norm(),
            **self.evaluator.settings,
        }

    def _list_choosing(self, what: str, model: nn.Module, known: ModelOutcome | None) -> Values:
        if isinstance(self.choosing, Suite):
            how = {**self.own, "cluster": None}
            evaluator = Evaluator(model, self.choosing, **how, compute=self.compute.without_progress())
            with name_network(f"{what} on choosing="):
                return list_values(measure_outcome(evaluator, "accuracy"), "accuracy")
        found = self._measure(what, model) if known is None else known
        return select_values(list_values(found, "accuracy"), self._sides, True)

    def _measure(self, what: str, model: nn.Module) -> ModelOutcome:
        evaluator = Evaluator(model, self.suite, **self.own, compute=self.compute.without_progress())
        with name_network(what):
            return measure_outcome(evaluator, "accuracy")
