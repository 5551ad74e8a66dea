"""Outcomes of models and barriers of paths as steps of a store: what is done is not done again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mechconn.core import Inputs, hash_content, iterate_batches
from mechconn.datasets import Suite
from mechconn.mechanisms import WalkedLine
from mechconn.network import Answers, Outcomes
from mechconn.store import StepOutput, StoredStep

OUTCOMES, ROWS_READ, LINE, UNIVERSE = "map outcomes", "map rows", "map line", "map universe"
VERSION = 1
"""Of the code that computes these steps; raised when the same input would give other numbers."""
ROWS = 500
TENSORS = ("right", "predicted", "labels", "shares", "example")
"""Of answers; the last two are what outcomes of other rows are joined by."""


def hash_suite(suite: Suite) -> str:
    """SHA-256 of the inputs and targets of all splits and draws, and of what they are to each other."""
    what = f"{suite.reference} {suite.interventions} {suite.paired}"
    draws = ((name, data) for split in suite for name, data in suite.draws_of(split).items())
    return hash_content([what, *(part for name, data in draws for part in (name, hash_data(name, data)))])


def hash_data(what: str, data: Any) -> str:
    """SHA-256 of the inputs and targets of data."""
    return hash_content(_list_parts(what, data))


def _list_parts(what: str, data: Any) -> Iterator[Tensor | str]:
    for inputs, targets in iterate_batches(what, data, batch_size=ROWS, device=torch.device("cpu")):
        yield from _flatten_inputs(inputs)
        yield targets


def _flatten_inputs(inputs: Inputs) -> Iterator[Tensor | str]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, Mapping):
        for name, part in sorted(cast(Mapping[str, Any], inputs).items()):
            yield name
            yield from _flatten_inputs(part)
    else:
        for part in cast(Sequence[Any], inputs):
            yield from _flatten_inputs(part)


# ---------------------------------------------------------------- outcomes


def pack_outcomes(found: Mapping[str, Outcomes]) -> StepOutput:
    """Outcomes of every draw, by what errors call it, as numbers and tensors."""
    tensors: dict[str, Tensor] = {}
    numbers: list[dict[str, Any]] = []
    for place, (what, own) in enumerate(found.items()):
        answers = own.answers
        numbers.append(
            {
                "what": what,
                "probabilities": own.probabilities,
                "row_shape": list(own.row_shape),
                "answers": None if answers is None else _list_numbers(answers),
            }
        )
        parts = {"loss": own.loss, "targets": own.targets, "counted": own.counted}
        parts |= {f"metric {name}": values for name, values in own.metrics.items()}
        if answers is not None:
            parts |= {name: getattr(answers, name) for name in TENSORS}
        tensors |= {f"{place} {name}": part.clone() for name, part in parts.items() if part is not None}
    return StepOutput({"draws": numbers}, {"outcomes": tensors})


def _list_numbers(answers: Answers) -> dict[str, Any]:
    names = ("each", "undefined", "commonest", "constant", "classes")
    return {name: getattr(answers, name) for name in names}


def unpack_outcomes(step: StoredStep) -> dict[str, Outcomes]:
    """The outcomes that `pack_outcomes` was given."""
    tensors, found = step.tensors["outcomes"], {}
    for place, own in enumerate(step.numbers["draws"]):
        named = {
            name.removeprefix(f"{place} "): tensor for name, tensor in tensors.items() if name.startswith(f"{place} ")
        }
        answers = None
        if own["answers"] is not None:
            answers = Answers(**{name: named.get(name) for name in TENSORS}, **own["answers"])  # pyright: ignore
        found[own["what"]] = Outcomes(
            loss=named["loss"],
            answers=answers,
            targets=named["targets"],
            metrics={n.removeprefix("metric "): t for n, t in named.items() if n.startswith("metric ")},
            probabilities=own["probabilities"],
            counted=named.get("counted"),
            row_shape=tuple(own["row_shape"]),
        )
    return found


# ---------------------------------------------------------------- lines


def pack_line(line: WalkedLine) -> StepOutput:
    """What was found on a path, as numbers."""
    interval = None if line.interval is None else list(line.interval)
    return StepOutput(
        {"height": line.height, "interval": interval, "verdict": line.verdict, "shifted": dict(line.shifted)}
    )


def unpack_line(step: StoredStep) -> WalkedLine:
    """What `pack_line` was given."""
    numbers = step.numbers
    interval = None if numbers["interval"] is None else tuple(numbers["interval"])
    return WalkedLine(numbers["height"], interval, numbers["verdict"], numbers["shifted"])
