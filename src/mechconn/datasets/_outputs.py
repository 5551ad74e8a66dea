"""Precomputed outputs of models: read from tables, and used in place of the model where outputs are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mechconn.core import (
    IDS,
    Compute,
    HostParts,
    ShortRepr,
    find_host_copy,
    find_row_origin,
    is_source,
    isolate_rng,
    keep_generator_states,
    read_targets,
)
from mechconn.datasets._label_names import check_label_names
from mechconn.datasets._links import find_links
from mechconn.datasets._suite import Suite
from mechconn.network import Inference, Network, iterate_outputs, point_of

NO_WEIGHTS = (
    "outputs that were given have no weights and take no other inputs: use measure_invariance, compare_mechanisms, "
    "output_discrepancy or measure_groups, or load the model"
)


SAME_ORDER = "give outputs in the order of the data, and data that are not shuffled"


@dataclass(frozen=True, eq=False, repr=False)
class GivenSplit(ShortRepr):
    """The rows of a split whose outputs were given: labels, and no inputs.

    Attributes:
        y: labels, int64 of shape [N]; floating point of a regression.
        name: what errors call it.
        ids: identity of each row, int64 of shape [N]; None where the files tell none.
        classes: names of the classes; None where the files tell none.
        linked: the number of each row's group of rows that show something of each other, int64 of shape [N]; None where
            all rows are apart.
    """

    y: Tensor
    name: str
    ids: Tensor | None = None
    classes: tuple[str, ...] | None = None
    linked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Any:
        """There are none.

        Raises:
            ValueError: always, with what to pass instead.
        """
        raise ValueError(
            f"split {self.name!r} stands for outputs that were given: it has labels, but no inputs to run a model on; "
            "pass the suite of the data themselves"
        )


@dataclass(frozen=True, eq=False, repr=False)
class NumberedRows(ShortRepr):
    """The rows of a split as their numbers in a table of outputs.

    Attributes:
        numbers: int64 of shape [N].
        y: labels of the data.
        scenes: the data, which know of their rows what the numbers do not: identities, names of classes, how they were
            chosen.
    """

    numbers: Tensor
    y: Tensor
    scenes: Any

    @property
    def linked(self) -> Tensor | None:
        """The number of each row's group of rows that show something of each other; None where all rows are apart."""
        return find_links(self.scenes)

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """That of the data; rows of batches come from these batches."""
        return find_row_origin(self.scenes) if is_source(self.scenes) else (self.scenes, torch.arange(len(self.y)))

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        """The numbers of the rows `index`."""
        return self.numbers[index]


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """A model's outputs on every row of a suite, in the place of the model.

    `measure_invariance`, `compare_mechanisms`, `output_discrepancy` and `measure_groups` take it as they take a model,
    with `suite` or with a suite of the data whose rows have the same labels in the same order. Whatever needs weights
    or other inputs refuses it. How splits were chosen (`split_by_agreement`, `split_by_group`) is known to the data
    alone: pass their suite.

    Attributes:
        draws: split -> the outputs of each draw, each [N, K] of K classes, or [N] of one output.
        suite: the suite without inputs: labels alone.
    """

    draws: Mapping[str, tuple[Tensor, ...]]
    suite: Suite

    refusal: ClassVar[str] = f"; {NO_WEIGHTS}"
    """The end of the error of `check_is` where a module is needed."""

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Split -> the outputs of its first draw."""
        return {name: draws[0] for name, draws in self.draws.items()}

    def __repr__(self) -> str:
        return f"ModelOutputs({', '.join(f'{name}: {_describe_draws(draws)}' for name, draws in self.draws.items())})"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(nn.Module, name):  # somebody takes it for a module
            raise TypeError(NO_WEIGHTS)
        raise AttributeError(f"ModelOutputs has no attribute {name!r}")


def _describe_draws(draws: tuple[Tensor, ...]) -> str:
    shape = " x ".join(map(str, draws[0].shape))
    return shape if len(draws) == 1 else f"{shape} in {len(draws)} draws"


@torch.no_grad()
def compute_model_outputs(model: nn.Module, suite: Suite, seed: int, compute: Compute) -> ModelOutputs:
    """The outputs of a model on every split and draw, as `measure_invariance` with this seed sees them.

    Raises:
        ValueError: outputs or targets that are not one row of numbers, or one number, for each row of data.
    """
    network = Network(model, compute)
    forward = Inference(network).at(network.load(point_of(model).params), network.buffers)
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    for number, name in enumerate(suite, start=1):
        outputs, labels = found.setdefault(name, ([], []))
        for what, data in suite.draws_of(name).items():
            with isolate_rng(seed, "evaluate"), keep_generator_states(data):  # what an `Evaluator` draws
                own, known = HostParts(), HostParts()
                for found_outputs, targets in iterate_outputs(forward, network, data, what):
                    own.add(found_outputs)
                    known.add(find_host_copy(targets))
            outputs.append(torch.cat(own.all()))
            labels.append(torch.cat(known.all()))
            _check_shapes(what, outputs[-1], labels[-1])
        compute.report("computing outputs", number, len(suite))
    shared = {name for name in suite if name != suite.reference and suite.rows_shared(name)}
    numbered = shared | {suite.reference} if shared else shared
    splits = {
        name: [
            GivenSplit(y, name, _choose_ids(data, len(y) if name in numbered else None), linked=find_links(data))
            for y, data in zip(labels, suite.draws_of(name).values(), strict=True)
        ]
        for name, (_, labels) in found.items()
    }
    return make_model_outputs(
        {name: tuple(outputs) for name, (outputs, _) in found.items()},
        splits,
        suite.reference,
        suite.interventions,
        suite.paired,
    )


def _choose_ids(data: Any, count: int | None) -> Tensor | None:
    """The identities that the data tell; else, of rows that are known to correspond, the numbers of so many."""
    ids = _read_ids(data)
    return torch.arange(count) if ids is None and count is not None else ids


def _read_ids(data: Any) -> Tensor | None:
    """The identities that data tell by `ids`; None of other data."""
    origin, ids = find_row_origin(data) if is_source(data) else (None, None)
    return ids if isinstance(origin, str) and origin == IDS else None


def _check_shapes(what: str, outputs: Tensor, labels: Tensor) -> None:
    if outputs.dim() > 2 or not outputs.is_floating_point() or labels.dim() != 1:
        raise ValueError(
            f"{what}: a table holds outputs [N] or [N, K] and one label for each row, got outputs "
            f"{list(outputs.shape)} and targets {list(labels.shape)}"
        )


def make_model_outputs(
    draws: Mapping[str, tuple[Tensor, ...]],
    splits: Mapping[str, Sequence[GivenSplit]],
    reference: str,
    interventions: tuple[str, ...] | None,
    paired: bool | None,
) -> ModelOutputs:
    """Outputs, and the suite that stands for the data; float32 where that holds every number exactly."""
    redraws = {name: of[1:] for name, of in splits.items() if len(of) > 1}
    suite = Suite({name: of[0] for name, of in splits.items()}, reference, interventions, redraws, paired)
    every = [tensor for of in draws.values() for tensor in of]
    exact = all(tensor.dtype != torch.float64 or is_exact_in_float32(tensor) for tensor in every)
    kind = torch.float32 if exact else torch.float64
    return ModelOutputs({name: tuple(tensor.to(kind) for tensor in of) for name, of in draws.items()}, suite)


def is_exact_in_float32(numbers: Tensor) -> bool:
    """Whether float32 holds these numbers exactly; infinities, but not NaN."""
    return torch.equal(numbers.float().double(), numbers.double())


# ---------------------------------------------------------------- in the place of a model


class OutputTable(nn.Module):
    """A network whose inputs are row numbers and whose outputs are rows of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """The rows of the table."""
        return self.table[rows]


def represent_on_suite(model: nn.Module | ModelOutputs, suite: Suite) -> tuple[nn.Module, Suite]:
    """(a module, its suite) to evaluate: the two themselves, or the table of outputs and the numbers of its rows.

    The numbers depend on the suite alone, so that several models' outputs have one suite. What is known of the data's
    rows is known of the numbers.

    Raises:
        ValueError: the suite has other splits, draws, rows or labels than the outputs are of.
    """
    if not isinstance(model, ModelOutputs):
        return model, suite
    check_label_names([], {"outputs": model.suite[model.suite.reference], **suite})
    tables, rows, start = [], {}, 0
    for name in suite:
        draws = suite.draws_of(name)
        given = _find_draws(model, name, len(draws))
        for outputs, own, (what, data) in zip(given, model.suite.draws_of(name).values(), draws.items(), strict=True):
            labels = _read_labels(what, data)
            _check_same_rows(what, own, data, labels)
            tables.append(outputs)
            numbers = torch.arange(start, start + len(labels))
            rows.setdefault(name, []).append(NumberedRows(numbers, labels, data))
            start += len(labels)
    further = {name: of[1:] for name, of in rows.items() if len(of) > 1}
    first = {name: of[0] for name, of in rows.items()}
    numbered = Suite(first, suite.reference, suite.interventions, further, suite.paired)
    return OutputTable(torch.cat(tables)), numbered


def represent_pair_on_suite(
    model_a: nn.Module | ModelOutputs, model_b: nn.Module | ModelOutputs, suite: Suite, seed: int, compute: Compute
) -> tuple[nn.Module, nn.Module, Suite]:
    """Two models and one suite to evaluate both on; where one is given as outputs, the other's are computed first."""
    pair = [model_a, model_b]
    if any(isinstance(model, ModelOutputs) for model in pair):
        pair = [
            model
            if isinstance(model, ModelOutputs)
            else compute_model_outputs(model, suite, seed, compute.without_progress())
            for model in pair
        ]
    (a, own), (b, _) = (represent_on_suite(model, suite) for model in pair)
    return a, b, own


def represent_on_split(model: nn.Module | ModelOutputs, data: Any) -> tuple[nn.Module, Any]:
    """(a module, its data) to evaluate: the two themselves, or the table of one split's outputs and its row numbers.

    Raises:
        ValueError: outputs were given for several splits, and the data are none of them; other rows or labels.
    """
    if not isinstance(model, ModelOutputs):
        return model, data
    names = [name for name in model.suite if model.suite[name] is data] or list(model.suite)
    if len(names) > 1:
        raise ValueError(
            f"outputs were given for several splits ({', '.join(names)}); pass the rows of one as the data, "
            f"given.suite[{names[0]!r}]"
        )
    labels = _read_labels("data", data)
    _check_same_rows("data", model.suite[names[0]], data, labels)
    return OutputTable(model.outputs[names[0]]), NumberedRows(torch.arange(len(labels)), labels, data)


def _read_labels(what: str, data: Any) -> Tensor:
    with isolate_rng(0, "labels"), keep_generator_states(data):  # a loader draws from global generators
        return read_targets(what, data)


def _find_draws(model: ModelOutputs, name: str, count: int) -> tuple[Tensor, ...]:
    if name not in model.draws:
        raise ValueError(f"no outputs were given for split {name!r}, only for {', '.join(model.draws)}; add its file")
    if len(model.draws[name]) != count:
        raise ValueError(
            f"outputs of {len(model.draws[name])} draws were given for split {name!r}, and the suite has {count}; "
            "give a file for each draw"
        )
    return model.draws[name]


def _check_same_rows(what: str, own: Any, data: Any, labels: Tensor) -> None:
    """Raise unless outputs that were given are of these rows, by their labels and, where both tell them, their ids."""
    given = _read_labels(what, own)
    if given.shape != labels.shape:
        raise ValueError(
            f"{what}: outputs were given for {len(given)} rows with labels {list(given.shape)}, and the data have "
            f"{len(labels)} with labels {list(labels.shape)}; give the outputs of these rows, in their order"
        )
    differs = (given.double() != labels.double()).nonzero().flatten()
    if len(differs):
        row = int(differs[0])
        raise ValueError(
            f"{what}: the label of row {row} is {given[row].item()} with the outputs that were given and "
            f"{labels[row].item()} in the data ({len(differs)} rows differ); {SAME_ORDER}"
        )
    ids, known = _read_ids(own), _read_ids(data)
    if ids is not None and known is not None and ids.shape == known.shape:
        _check_same_ids(what, ids.cpu(), known.cpu())


def _check_same_ids(what: str, given: Tensor, known: Tensor) -> None:
    differs = (given != known).nonzero().flatten()
    if len(differs):
        raise ValueError(
            f"{what}: the id of row {int(differs[0])} is another with the outputs that were given than in the data "
            f"({len(differs)} rows differ); {SAME_ORDER}"
        )
