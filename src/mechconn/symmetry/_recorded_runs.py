"""Runs of a model on an example, with all that an export needs to know of them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mechconn.core import Inputs, isolate_rng
from mechconn.network import drop_computed_values, make_call_arguments, make_input_caster, set_mode
from mechconn.symmetry._looks import Forced, Look, Looks
from mechconn.symmetry._module_copies import (
    borrow,
    clone_tensors,
    copy_with_tensors,
    has_meta_tensors,
    writes_into_weights,
)
from mechconn.symmetry._no_dropout import NoDropout
from mechconn.symmetry._origins import Origins
from mechconn.symmetry._recurrent_calls import NotePacked, PackedSize, RecurrentCalls
from mechconn.symmetry._shape_only import hide_meta


@contextmanager
def silence_export() -> Iterator[None]:
    """Context manager: suppress logging, printing and warnings; an export reports through its error."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        aside = io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(aside), redirect_stderr(aside):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def take_first_line(error: Exception) -> str:
    """The first line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True)
class RecordedRun:
    """What a run on an example shows that an export needs.

    Attributes:
        output: what the model returned.
        packed: the sizes of packed sequences.
        looks: at which values it looked.
        made: a number for the operations that made the outputs, and what was written into the model's tensors.
        read: names of the parameters and buffers that it was given.
        hidden: what hides values of the input from Python's comparisons, and where.
        raised: whether the model raised, after these looks.
    """

    output: Any
    packed: list[PackedSize]
    looks: list[Look]
    made: int
    read: set[str]
    hidden: list[str]
    raised: bool = False


class Predictions(nn.Module):
    """A model of which only the predictions count: caches and hidden states beside the logits are no outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.packed: list[PackedSize] | None = None
        """Of an export, the sizes of packed sequences; None of a run."""
        self.looks = Looks(replayed=())
        """Of an export, what answers looks at values."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.packed is None:
            return select_predictions(self.model(*args, **kwargs))
        self.looks.restart()
        with RecurrentCalls(self.packed), NoDropout() if self.training else nullcontext(), self.looks:
            return select_predictions(self.model(*args, **kwargs))


def select_predictions(output: Any) -> Any:
    """What counts of a forward pass's output: its `.logits` if it has some, else all but caches and other objects."""
    found = getattr(output, "logits", output)
    if isinstance(found, Mapping):
        kept: Any = {name: part for name, part in found.items() if _is_plain(part)}
    elif isinstance(found, list | tuple):
        kept = [part for part in found if _is_plain(part)]
    else:
        return found
    return kept if 0 < len(kept) < len(found) else found


def _is_plain(value: Any) -> bool:
    """Whether a value is made of tensors, numbers and texts."""
    return all(isinstance(part, Tensor | int | float | str | None) for part in tree_leaves(value))


def record_run(model: nn.Module, example_input: Inputs, forced: Forced | None = None) -> RecordedRun:
    """A run in evaluation mode on the example, with the answers that are forced."""
    probe, arguments = prepare(model, example_input)
    seen: list[Look] = []
    try:
        with isolate_rng(0, "graph"), silence_export():
            return run_borrowed(probe, arguments, forced, seen)
    except Exception:  # any refusal
        return RecordedRun(None, [], seen, 0, set(), [], raised=True)


def prepare(model: nn.Module, example_input: Inputs) -> tuple[Predictions, Any]:
    """The model in evaluation mode, and the arguments of a call.

    A copy that holds the model's own weights: they are not copied but where a change of the mode writes into them.
    """
    writing = writes_into_weights(model)
    probe = Predictions(
        copy_with_tensors(model, lambda t: t if isinstance(t, nn.Parameter) and not writing else t.clone())
    )
    drop_computed_values(probe)
    set_mode(probe, False)
    fitted = example_input if has_meta_tensors(model) else make_input_caster(model)(example_input)
    return probe, make_call_arguments(fitted)


@torch.no_grad()
def run_borrowed(
    probe: nn.Module, arguments: Any, forced: Forced | None = None, seen: list[Look] | None = None
) -> RecordedRun:
    """A run of a model; on the meta device, results have no values. `seen` gets its looks, also where it raises.

    No weight is copied where it runs without.
    """
    seen = [] if seen is None else seen
    hidden = tree_map(lambda v: hide_meta(v) if isinstance(v, Tensor) else v, arguments)
    try:
        return _run_recorded(copy_with_tensors(probe, borrow), clone_tensors(hidden), forced, seen)
    except Exception:
        if has_meta_tensors(probe):
            raise
        return _run_recorded(copy_with_tensors(probe, torch.clone), clone_tensors(hidden), forced, seen)


def _run_recorded(module: nn.Module, arguments: Any, forced: Forced | None, seen: list[Look]) -> RecordedRun:
    args, kwargs = arguments
    origins = Origins(module, tree_leaves(arguments))
    with NotePacked() as packed, origins, Looks(origins, forced, seen=seen) as looks:
        found = module(*args, **kwargs)
    kept = [*tree_leaves(select_predictions(found)), *module.parameters(), *module.buffers()]
    made = origins.describe([v for v in kept if isinstance(v, Tensor)])
    return RecordedRun(found, packed.seen, looks.seen, made, origins.read, list(looks.hidden))
