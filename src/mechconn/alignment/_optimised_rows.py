"""Whether a barrier is judged on the rows on which the alignment before it was optimised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mechconn.alignment._alignment_result import Alignment
from mechconn.alignment._matching import AlignmentMethod
from mechconn.core import Data, log_warnings, share_known_rows


def note_same_rows(alignment: Alignment, method: AlignmentMethod | str, suite: Mapping[str, Data]) -> Alignment:
    """The alignment, with a note where splits hold rows on which it was optimised, as far as that is known.

    What is known, `share_known_rows` says.

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
