"""How far rows are read, beside what an audit's configuration says."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field

from mechconn.cli._audit_config import AuditConfig
from mechconn.connectivity import Until
from mechconn.core import check_choice

Reading = TypeVar("Reading", bound="ReadingConfig")


class ReadingConfig(AuditConfig):
    """An audit's configuration that says whether all rows are read."""

    until: Until = Field(
        default="end",
        description="end: all rows are read; settled: as many, in random order, as settle every verdict; --until comes "
        "first",
        examples=["settled"],
    )


def choose_until(said: str | None, config: Reading) -> Reading:
    """The configuration with what --until says; where it is left out, as it is.

    Raises:
        ValueError: no such word, or rows in part for verdicts on the loss.
    """
    if said is not None:
        config = config.model_copy(update={"until": check_choice("--until", said, ("end", "settled"))})
    if config.until == "settled" and config.on == "loss":
        raise ValueError(
            'until = "settled" needs values with a least and a largest, and the loss has no bounds; set on = '
            '"accuracy", or a metric with bounds, or until = "end"'
        )
    return config
