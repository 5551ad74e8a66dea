"""How a configuration of an audit says what texts are read, and by which tokenizer."""

from __future__ import annotations

from pydantic import Field, field_validator

from mechconn.core import Config


class TextConfig(Config):
    """How texts become inputs; see `mechconn.datasets.load_text`."""

    column: str | list[str] | None = Field(
        default=None,
        description='column of the texts, or two for pairs, ["premise", "hypothesis"]; default: usual names',
        examples=["text"],
    )
    label: str | None = Field(
        default=None, description="column of the labels; default: usual names", examples=["label"]
    )
    tokenizer: str | None = Field(
        default=None,
        description="folder of a tokenizer; default: that of the networks, which must agree, of an adapter its base's",
        examples=["tokenizer"],
    )
    max_length: int | None = Field(
        default=None, gt=0, description="tokens that longer texts are cut to; by default none is cut", examples=[128]
    )
    classes: list[str] | None = Field(
        default=None,
        description="names of the classes in the order of the outputs; default: as the networks name them, else sorted",
        examples=[["negative", "positive"]],
    )

    @field_validator("column")
    @classmethod
    def _is_one_or_two(cls, column: str | list[str] | None) -> str | list[str] | None:
        if isinstance(column, list) and (len(column) not in (1, 2) or len(set(column)) < len(column)):
            raise ValueError(f"expected one column, or two different ones for pairs, got {', '.join(column) or 'none'}")
        return column
