"""Losses in configuration files: a name, or a table of the name and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from mechconn.core import construct, list_kinds, read_named
from mechconn.losses._base import Loss
from mechconn.losses._position_losses import OverPositions
from mechconn.losses._resolve_loss import as_loss
from mechconn.losses._row_losses import cross_entropy


def read_loss(value: Any) -> Loss:
    """The loss that a configuration names; None is cross-entropy.

    Args:
        value: a registered name, a table such as {name = "cross_entropy", label_smoothing = 0.1}, or
            "package.module:name" of a function, of a subclass of `Loss`, or of an instance of one.

    Raises:
        ValueError: no such loss or option.
        TypeError: neither a name nor a table.

    Example:
        >>> read_loss({"name": "over_positions", "each": "squared", "ignore_index": 255})
        OverPositions(each=Squared(), ignore_index=255, classes_at=None)
    """
    if value is None or isinstance(value, Loss):
        return value or cross_entropy
    found, options = read_named("the loss", Loss, value)
    if found is OverPositions and isinstance(options.get("each"), str | Mapping):
        options["each"] = read_loss(options["each"])
    if isinstance(found, type):
        if not any("__call__" in vars(part) for part in found.__mro__):
            raise ValueError(
                "the loss must be a function of (outputs, targets) or a subclass of mechconn.losses.Loss, got the "
                f"class {found.__name__}, whose instances cannot be called; write "
                f"class {found.__name__}(mechconn.losses.Loss) with __call__(self, outputs, targets)"
            )
        found = construct("the loss", found, options)
    return as_loss(found)


def _read_any_loss(value: Any) -> Loss:
    try:
        return read_loss(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


AnyLoss = Annotated[
    Any,
    PlainValidator(_read_any_loss),
    PlainSerializer(lambda loss: loss.describe()),
    WithJsonSchema(
        {"anyOf": [{"enum": list(list_kinds(Loss, built_in=True))}, {"type": "string"}, {"type": "object"}]}
    ),
]
"""A loss as a field of a configuration, as `read_loss` reads it."""
