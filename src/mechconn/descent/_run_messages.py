"""What the training engine says of a run: why a batch of one row failed, and where validation kept one epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mechconn.core import Data, is_source
from mechconn.descent._method import Records, TrainingStep, find_taken_epoch


def explain_one_row(error: ValueError, step: TrainingStep, data: Sequence[Data], named: str, processes: int) -> str:
    """The error of a layer that cannot normalise one row, with the data it came from and what to do; else nothing.

    Args:
        error: what the layer raised.
        step: what the iteration worked on.
        data: the clean data and every source of data with a cue, which its batches were read from.
        named: what errors call the clean data.
        processes: how many share each batch.
    """
    names = (named, *(f"cued data {number}" for number, _ in enumerate(data[1:], start=1)))
    read = zip(names, (step.clean, *step.cued), data, strict=False)
    single = {name: _advise_two_rows(source, processes) for name, (_, y), source in read if len(y) == 1}
    if not single or "more than 1 value per channel" not in str(error):
        return ""
    advice = " and ".join(dict.fromkeys(single.values()))
    return (
        f"{error} (a batch of {' and '.join(single)} has one row; layers that normalise over a batch need two: "
        f"{advice})"
    )


def _advise_two_rows(source: Data, processes: int) -> str:
    if processes > 1:
        return "give larger batches, or fewer processes"
    if is_source(source):
        return "set batch_size= to two or more" if len(source) > 1 else "give two rows or more"
    return "leave that batch out, as drop_last=True does in a loader, or give the dataset itself"


def note_selection(records: Records, what: str) -> Iterator[str]:
    """A note where validation data rejected all epochs but the first."""
    if len(records) > 1 and "validation" in records[0] and find_taken_epoch(records) == 0:
        least = min(record["validation"] for record in records[1:])
        yield (
            f"Validation data selected the first of {len(records)} epochs of {what}: their loss is "
            f"{records[0]['validation']:.4g} there and {least:.4g} or more in every later one."
        )
