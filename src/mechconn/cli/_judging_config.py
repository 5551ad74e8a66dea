"""What `mechconn merge` reads of an audit's configuration."""

from __future__ import annotations

from typing import ClassVar

from mechconn.cli._reading_config import ReadingConfig


class JudgingConfig(ReadingConfig):
    """An audit's configuration by which a merged network is judged: one split is enough."""

    fewest_splits: ClassVar[int] = 1
