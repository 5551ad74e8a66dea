"""What `[groups]` of a configuration file of an audit may hold."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

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
        description="columns are marks, 0 and 1, of which a row may have several: a group is the rows with one mark "
        "and one class, instead of the combinations",
    )
    train: str | None = Field(
        default=None,
        description="training data, given like a split: also the mean by the groups' shares there",
        examples=["train.csv"],
    )

    @field_validator("train")
    @classmethod
    def _has_shares(cls, train: str | None, info: Any) -> str | None:
        if train is not None and info.data.get("overlapping"):
            raise ValueError("groups that overlap have no shares that add up to 1; leave out train, or overlapping")
        return train
