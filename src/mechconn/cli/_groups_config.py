"""What `[groups]` of a configuration file of an audit may hold."""

from __future__ import annotations

from pydantic import Field

from mechconn.core import Config


class GroupsConfig(Config):
    """How often both networks are right in each group of rows, and the worst group of each."""

    columns: list[str] = Field(
        min_length=1,
        description='columns of the split, a value for each row, or "label" for its classes; the groups are the '
        "combinations that occur",
        examples=[["label", "place"]],
    )
    split: str | None = Field(
        default=None,
        description="the split that is measured; default: the reference, with by the one that is divided",
        examples=["test"],
    )
    overlapping: bool = Field(
        default=False,
        description="each value of a column with each class is a group, so that a row is in several, instead of the "
        "combinations",
    )
    train: str | None = Field(
        default=None,
        description="training data, given like a split: also the mean by the groups' shares there",
        examples=["train.csv"],
    )
