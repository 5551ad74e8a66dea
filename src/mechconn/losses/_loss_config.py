"""Losses in configuration files: a name, or a table of the name and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from mechconn.core import import_function
from mechconn.losses._base import Loss
from mechconn.losses._resolve_loss import BY_NAME, as_loss, make_named_loss
from mechconn.losses._row_losses import cross_entropy


def read_loss(value: Any) -> Loss:
    """The loss that a configuration names; None is cross-entropy.

    Args:
        value: a name of `mechconn.losses`, a table such as {name = "cross_entropy", label_smoothing = 0.1}, or
            "package.module:function".

    Raises:
        ValueError: no such loss or option.
        TypeError: neither a name nor a table.
    """
    if value is None or isinstance(value, Loss):
        return value or cross_entropy
    if isinstance(value, Mapping):
        if "name" not in value:
            raise ValueError(f'loss must have a name, as in {{name = "squared"}}, got {dict(value)}')
        return make_named_loss(**value)
    if not isinstance(value, str):
        raise TypeError(f"loss must be a name or a table, got {value!r}")
    if value in BY_NAME or (":" not in value and "." not in value):
        return make_named_loss(value)
    return as_loss(import_function("the loss", value))


def _read_built_in_loss(value: Any) -> Loss:
    try:
        return make_named_loss(value) if isinstance(value, str) else read_loss(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


BuiltInLoss = Annotated[
    Any,
    PlainValidator(_read_built_in_loss),
    PlainSerializer(lambda loss: loss.describe()),
    WithJsonSchema({"anyOf": [{"enum": sorted(BY_NAME)}, {"type": "object"}]}),
]
"""A loss of `mechconn.losses`, as a field of a configuration."""
