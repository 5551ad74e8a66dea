"""The folder of a merged network: weights, configuration, tokenizer, the verdict and its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mechconn.cli._merge_job import MergeJob
from mechconn.cli._merge_plan import PAGE
from mechconn.core import draft_folder, note_drafts
from mechconn.merging import Merged, copy_further_files, describe_parents, write_record
from mechconn.models import save_network
from mechconn.report import save_report

RESULT = "merge.json"


def write_merged(job: MergeJob, found: Merged, folder: Path, shard_size: int) -> Merged:
    """Write everything into a new folder, which appears whole or not at all; the result with what was noted.

    Args:
        job: what was merged.
        found: the network, and the verdict about it.
        folder: where it goes.
        shard_size: the most bytes of a file of weights.
    """
    parents = job.request.parents
    first = next(iter(parents.values()))
    notes: list[str] = []
    with draft_folder(folder) as draft:
        copy_further_files(first, draft)
        save_network(found.model, draft, first, shard_size, notes.append)
        found = replace(found, notes=(*found.notes, *notes))
        paths = dict(parents) | ({} if job.request.base is None else {"base": job.request.base})
        verdict = {"verdict": found.verdict, "headline": found.headline}
        told = describe_parents(paths, job.request.base is not None)
        write_record(draft, folder, found.method, told, job.request.seed, found.notes, verdict)
        found.save(draft / RESULT)
        save_report(found, draft / PAGE)
    return replace(found, notes=(*found.notes, *note_drafts(folder)))
