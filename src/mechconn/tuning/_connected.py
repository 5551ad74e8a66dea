"""Connected fine-tuning: low loss on the lines to other networks, the opposite of CBFT's barrier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

import torch
from pydantic import PlainValidator, WithJsonSchema
from torch import Tensor, nn

from mechconn.core import Data, DescribedSetting, Params, check_choice, check_positive, hash_content
from mechconn.descent import Batch, Descent, Objective, Problem, TrainingStep, compute_clean_loss
from mechconn.network import explain_differences, parameters_of, refuse_adapters, say_not_one_module
from mechconn.tuning._path_to_anchor import PathSampling, compute_path_loss, draw_path_t


@dataclass(frozen=True, eq=False)
class Anchor(DescribedSetting, name="_anchor"):
    """A network to stay connected to, as it was when the method was made.

    Attributes:
        params: a copy of its parameters.
        module: the network itself, for what it computes; nothing reads its weights.
    """

    params: Params = field(repr=False)
    module: nn.Module = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(self.describe())

    def __repr__(self) -> str:
        return f"Anchor({self.describe()})"

    def describe(self) -> str:
        """A hash of its parameters."""
        return "sha256:" + hash_content(part for named in self.params.items() for part in named)[:16]


def _read_anchors(given: Any) -> tuple[Anchor, ...]:
    """Networks as anchors.

    Raises:
        TypeError: no list.
        ValueError: something in the list is no network, or one holds NaN or infinity, or carries low-rank adapters.
    """
    if not isinstance(given, list | tuple):
        raise TypeError(f"anchors must be a list of networks, got {type(given).__name__}; write anchors=[model]")
    if wrong := [type(one).__name__ for one in given if not isinstance(one, nn.Module | Anchor)]:
        raise ValueError(
            f"anchors must be networks, got a list with {wrong[0]}; configuration files name none, and leave the "
            "start as the only one: pass ConnectedFineTuning(anchors=[model]) in Python"
        )
    return tuple(one if isinstance(one, Anchor) else _make_anchor(number, one) for number, one in enumerate(given, 1))


def _make_anchor(number: int, model: nn.Module) -> Anchor:
    refuse_adapters(f"anchor {number}", model)
    params = parameters_of(model)
    if wrong := [name for name, tensor in params.items() if not bool(tensor.isfinite().all())]:
        raise ValueError(
            f"anchor {number} holds NaN or infinity in {wrong[0]}, and so would every loss on its line; leave it "
            "out, or take an earlier checkpoint"
        )
    return Anchor(params, model)


Anchors: TypeAlias = Annotated[
    Sequence[nn.Module | Anchor],
    PlainValidator(_read_anchors),
    WithJsonSchema({"type": "array", "maxItems": 0, "description": "networks, in Python alone; none: the start"}),
]


@dataclass(frozen=True, kw_only=True)
class ConnectedFineTuning(Descent):
    r"""Fine-tuning that stays linearly connected to given networks: the other sign of CBFT's barrier term.

    Minimises over theta, with anchors theta_1 .. theta_N held fixed,

        L(f(D_NC; theta), y) + weight / N sum_a E_t L(f(D; (1 - t) theta + t theta_a), y),

    D_NC clean data, and D the data with the cue, on which the lines to the anchors then keep a low loss. CBFT asks for
    a loss of `barrier_margin` there instead. So it is the control of CBFT's barrier term, `CBFT(invariance=False)`: the
    same data, the same passes, the same t at the same step and seed, and a line to theta_C that is kept in place of one
    that is cut. The gradient reaches theta
    alone, (1 - t) times that at the point of the line; BatchNorm there uses batch statistics and leaves no trace.

    Federated learning uses it with on="clean", t_sampling="half", weight=0.1 to keep the clients' networks connected
    to those of a server, with one step for each anchor; here one step is on the mean over anchors.

    Attributes:
        anchors: networks of the model's architecture, copied when the method is made; none is the start, theta_C. A
            configuration file can name none.
        weight: of the mean loss on the lines.
        on: "cued" takes that loss on the data with the cue, as CBFT does (of several sources the mean), "clean" on the
            clean data.
        update: "alternating" takes one step on the lines and then one on the clean loss; "joint" one step on the sum.
        t_sampling: "truncated" or "clipped" as CBFT draws t; "uniform" on [0, 1); "half" is 0.5 at every step.

    Source: Li et al. 2024, *FedGuCci: making local models more connected in landscape for federated learning*; Lubana
    et al. 2023, section 6, for the term with the other sign.
    """

    mixes_weights: ClassVar[bool] = True

    anchors: Anchors = ()
    weight: float = 1.0
    on: Literal["cued", "clean"] = "cued"
    update: Literal["alternating", "joint"] = "alternating"
    t_sampling: PathSampling = "truncated"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "anchors", _read_anchors(self.anchors))
        check_positive("weight", self.weight)
        check_choice("on", self.on, ("cued", "clean"))
        check_choice("update", self.update, ("alternating", "joint"))
        check_choice("t_sampling", self.t_sampling, get_args(PathSampling))

    def explain_misfit(self, model: nn.Module) -> str:
        """The first anchor that is not one module with the model, with other parameters and statistics."""
        for number, anchor in enumerate(self._read(), start=1):
            names = ("the model", f"anchor {number}")
            if why := explain_differences(model, anchor.module, ignore=None, names=names):
                return (
                    f"{say_not_one_module(names, why)}; a line joins networks of one architecture: pass the network "
                    "that it was fine-tuned from, or another fine-tuned from it, in one number type"
                )
        return ""

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """D, of every source; none where the lines are on the clean data."""
        if self.on == "clean":
            return {}
        if not cued:
            raise ValueError(
                "ConnectedFineTuning needs data with the cue: pass cued=..., the data that the model was trained on, "
                "or on='clean' to stay connected on the clean data"
            )
        return cued

    def passes(self, sources: int) -> int:
        """One on the clean data, and one on every line and source."""
        return 1 + max(len(self.anchors), 1) * max(sources, 1)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["connection", "clean"], or their sum as one."""
        anchors = self._load_anchors(problem)

        def connect(step: TrainingStep) -> dict[str, Tensor]:
            t = float(draw_path_t(torch.tensor([step.number]), problem.seed, self.t_sampling))
            lines = self._list_lines(problem, anchors, step)
            losses = torch.stack([compute_path_loss(problem, anchor, batch, t) for anchor, batch in lines])
            return {"connection": self.weight * losses.mean()}

        clean = compute_clean_loss(problem)
        return [connect, clean] if self.update == "alternating" else [lambda step: connect(step) | clean(step)]

    def _list_lines(
        self, problem: Problem, anchors: Sequence[Params], step: TrainingStep
    ) -> list[tuple[Params, Batch]]:
        """The far end and the batch of every line: without anchors, of each source the reference that it has."""
        if not self.anchors and self.on == "cued":
            return list(zip(problem.references, step.cued, strict=True))
        batches = (step.clean,) if self.on == "clean" else step.cued
        return [(anchor, batch) for anchor in anchors for batch in batches]

    def _load_anchors(self, problem: Problem) -> list[Params]:
        """Each anchor's parameters where the network computes, in its types; the start where there are none."""
        theta = dict(problem.model.named_parameters())
        if not self.anchors:
            return [{name: p.detach().clone() for name, p in theta.items()}]
        return [{name: anchor.params[name].to(p) for name, p in theta.items()} for anchor in self._read()]

    def _read(self) -> tuple[Anchor, ...]:
        return _read_anchors(self.anchors)
