"""What is said of rows that were read until verdicts were settled, of several models at once."""

from __future__ import annotations

from collections.abc import Collection

from mechconn.mechanisms._outcomes import ModelOutcome


def note_rows_read(outcomes: Collection[ModelOutcome], reference: str) -> tuple[str, ...]:
    """Notes on how many rows of every split were read of several models; none where all were."""
    first = next(iter(outcomes))
    if not first.read:
        return ()
    whole = all(known.complete for own in outcomes for known in own.read.values())
    biased = "" if whole else "; estimates at stopping are biased, intervals hold whenever reading stops"
    counts = ", ".join(_count(outcomes, split) for split in first.read)
    notes = [f"rows were read as far as the verdicts needed them: {counts}{biased}"]
    if first.read[reference].total is None:
        notes.append(
            "they were read in the order of the loader: the verdicts need rows that stand there in random order, not "
            "sorted by class or by origin"
        )
    return tuple(notes)


def _count(outcomes: Collection[ModelOutcome], split: str) -> str:
    rows, read = sorted({len(own.splits[split].loss) for own in outcomes}), [own.read[split] for own in outcomes]
    if all(known.complete for known in read):
        return f"{split} all {rows[-1]:,}"
    total = read[0].total
    few = f"{rows[0]:,}" if len(rows) == 1 else f"{rows[0]:,} to {rows[-1]:,}"
    return f"{split} {few}" + ("" if total is None else f" of {total:,}")
