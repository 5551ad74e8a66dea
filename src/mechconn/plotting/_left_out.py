"""Fields that files leave out: what a result that was read from a file says when such a field is asked for."""

from __future__ import annotations

from typing import Any


def leave_out(what: str, advice: str) -> Any:
    """Default of a dataclass field that is `NOT_SAVED`: reading it after loading says what to do.

    Args:
        what: what the field holds, such as "model".
        advice: what to do, for the end of the sentence.

    Example:
        >>> from dataclasses import dataclass, field
        >>> from mechconn.core import NOT_SAVED
        >>> @dataclass(frozen=True)
        ... class Found:
        ...     model: object = field(default=leave_out("model", "train it again"), metadata=NOT_SAVED)
        >>> Found("a network").model
        'a network'
        >>> Found().model
        Traceback (most recent call last):
        AttributeError: this Found was read from a file, and files hold no model; train it again
    """
    return _LeftOut(what, advice)


class _LeftOut:
    """Descriptor of such a field; also its default, which stands for a value that is not there."""

    def __init__(self, what: str, advice: str) -> None:
        self._what, self._advice, self._name = what, advice, what

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = vars(instance)[self._name]
        if isinstance(value, _LeftOut):
            raise AttributeError(
                f"this {type(instance).__name__} was read from a file, and files hold no {self._what}; {self._advice}"
            )
        return value
