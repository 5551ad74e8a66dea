"""Whether the rows that judge a merge chose anything of it: the parents, their alignment, or the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mechconn.core import Data, as_data, share_known_rows
from mechconn.merging._merge_method import MergeMethod
from mechconn.merging._parent_data import Chain
from mechconn.network import NormPolicy


def refuse_choosing_rows(method: MergeMethod, suite: Mapping[str, Data]) -> None:
    """Raise where the method chose or weighed the parents on rows that judge the merged network.

    What is known, `share_known_rows` says.

    Raises:
        ValueError: some splits hold such rows; they are named.
    """
    if shared := list_shared(method.chosen_on(), suite):
        raise ValueError(
            f"{type(method).__name__} chooses on rows that are in the suite ({', '.join(shared)}), so that no verdict "
            "on them holds; give the method other rows"
        )


def note_choosing_rows(aligned_on: Data | None, norm: NormPolicy | None, suite: Mapping[str, Data]) -> Iterator[str]:
    """What else of the merge was chosen on rows that judge it."""
    if shared := list_shared(aligned_on, suite):
        yield (
            f"the alignment was found on rows that judge the merge, in {', '.join(shared)}: the verdict after "
            "alignment may be too good there; align on other rows"
        )
    if shared := list_shared(getattr(norm, "data", None), suite):
        yield (
            f"normalisation statistics were taken on rows that judge the merge, in {', '.join(shared)}: the merged "
            "network is fitted to them and the parents are not; take training rows"
        )


def list_shared(data: Any, suite: Mapping[str, Data]) -> list[str]:
    """The splits that are known to hold some of these rows."""
    if data is None:
        return []
    parts = data.parts if isinstance(data, Chain) else (data,)
    rows = [*parts, *(as_data("rows", part) for part in parts)]
    return [split for split, judged in suite.items() if any(share_known_rows(part, judged) for part in rows)]
