"""Linear probing, then fine-tuning: a new head first, and from there all weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mechconn.core import MethodSettings, check_is
from mechconn.descent import Descend, Method, Problem, Schedule
from mechconn.tuning._hard_probe import HardProbe
from mechconn.tuning._last_layer import LastLayerRetraining
from mechconn.tuning._naive_fine_tuning import NaiveFineTuning


@dataclass(frozen=True, kw_only=True)
class LPFT(MethodSettings, Method):
    """Linear probing, then fine-tuning: LLRT, and from there all weights.

    Attributes:
        probe: the first part; a `HardProbe` trains the head under perturbed features.
        tuning: the second.

    Source: Kumar et al. 2022; Lubana et al. 2023, section 6; Trivedi et al. 2023 (hardened probes).
    """

    probe: LastLayerRetraining | HardProbe = field(default_factory=LastLayerRetraining)
    tuning: NaiveFineTuning = field(default_factory=NaiveFineTuning)

    def __post_init__(self) -> None:
        check_is("probe", self.probe, LastLayerRetraining)
        check_is("tuning", self.tuning, NaiveFineTuning)

    def passes(self, sources: int) -> int:
        """Those of the second part."""
        return self.tuning.passes(sources)

    def whole_schedule(self) -> Schedule | None:
        """That of the second part."""
        return self.tuning

    def with_epochs(self, epochs: int) -> Method:
        """So many epochs of the second part."""
        return replace(self, tuning=replace(self.tuning, epochs=epochs))

    def run(self, problem: Problem, descend: Descend) -> None:
        """One after the other."""
        self.probe.run(problem, descend)
        if problem.decided:
            decided = dict(problem.decided)
            problem.decided.clear()
            problem.decided["probe"] = {**self.probe.list_fields(), **decided}
        self.tuning.run(problem, descend)
