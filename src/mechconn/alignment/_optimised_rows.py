"""Whether a barrier is judged on the rows on which the alignment before it was optimised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mechconn.alignment._alignment_result import Alignment
from mechconn.alignment._matching import AlignmentMethod
from mechconn.core import Data, TensorPair, find_row_origin, is_source, log_warnings


def note_same_rows(alignment: Alignment, method: AlignmentMethod | str, suite: Mapping[str, Data]) -> Alignment:
    """The alignment, with a note where splits hold rows on which it was optimised, as far as that is known.

    It is known of rows of one dataset, of rows with one kind of `ids`, and of tensors that lie in one memory.

    Args:
        alignment: as `method` made it.
        method: of which the rows are asked.
        suite: split -> the rows on which a barrier is judged.
    """
    learned = method.optimised_on() if isinstance(method, AlignmentMethod) else None
    same = [] if learned is None else [split for split, data in suite.items() if share_known_rows(learned, data)]
    if not same:
        return alignment
    note = (
        f"the barrier after alignment is judged on rows on which the alignment was optimised, in {', '.join(same)}: it "
        "is too low there; align on other rows"
    )
    log_warnings("alignment", [note])
    return replace(alignment, notes=(*alignment.notes, note))


def share_known_rows(learned: Any, judged: Any) -> bool:
    """Whether two sets of rows are known to have one in common."""
    if learned is judged:
        return True
    if not is_source(learned) or not is_source(judged):
        return False
    (first, ids), (second, others) = find_row_origin(learned), find_row_origin(judged)
    if first is second or (isinstance(first, str) and isinstance(second, str) and first == second):
        return bool(torch.isin(ids.cpu(), others.cpu()).any())
    return isinstance(first, TensorPair) and isinstance(second, TensorPair) and _share_memory(first.y, second.y)


def _share_memory(first: Tensor, second: Tensor) -> bool:
    """Whether the memory of two tensors of rows overlaps."""
    starts = [tensor.data_ptr() for tensor in (first, second)]
    ends = [start + t.numel() * t.element_size() for start, t in zip(starts, (first, second), strict=True)]
    whole = first.is_contiguous() and second.is_contiguous() and first.device == second.device
    return whole and starts[0] < ends[1] and starts[1] < ends[0]
