"""Adapters that are merged without being judged: their factors side by side, in a folder of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mechconn.cli._merge_request import MergeRequest
from mechconn.core import draft_folder, note_drafts
from mechconn.merging import (
    ConcatenatedAdapter,
    MergeMethod,
    concatenate_adapters,
    copy_further_files,
    describe_parents,
    write_record,
)

INNER = "adapter"


def write_merged_adapter(request: MergeRequest, method: MergeMethod, folder: Path) -> ConcatenatedAdapter:
    """Write one adapter of several, with a tokenizer and the record; the folder appears whole or not at all.

    Raises:
        ValueError: as in `concatenate_adapters`.
    """
    with draft_folder(folder) as draft:
        found = concatenate_adapters(request.parents, method, draft / INNER)
        for file in sorted((draft / INNER).iterdir()):
            file.rename(draft / file.name)
        (draft / INNER).rmdir()
        copy_further_files(next(iter(request.parents.values())), draft)
        parents = describe_parents(request.parents, with_base=False)
        write_record(draft, folder, method.describe(), parents, request.seed, found.notes)
    return replace(found, folder=folder, notes=(*found.notes, *note_drafts(folder)))
