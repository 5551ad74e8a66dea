"""Checks of arguments: each raises a one-line error, or returns the value in the form used inside."""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SHOWN = 8
"""How many names of a long list an error tells."""
WRONG_INPUT = (ValueError, TypeError, FileNotFoundError, NotADirectoryError, PermissionError)
"""What is raised where the user's input is wrong; one line of text for each mistake."""


def collect_errors(*steps: Callable[[], Any]) -> list[Any]:
    """Run all steps and return their results; if any find wrong input, raise one error with a line for each mistake.

    A mistake that several steps find is reported once, also where one names behind what it found it ("by: no file x").
    The error has the type common to all, else ValueError.
    """
    results, errors = [], []
    for step in steps:
        try:
            results.append(step())
        except WRONG_INPUT as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = dict.fromkeys(line for error in errors for line in str(error).splitlines())
        kinds = {type(error) for error in errors}
        kind = kinds.pop() if len(kinds) == 1 and kinds <= set(WRONG_INPUT) else ValueError
        shortest = [line for line in lines if not any(line.endswith(f": {other}") for other in lines)]
        raise kind("\n".join(shortest)) from errors[0]
    return results


def check_fraction(name: str, value: float) -> float:
    """`value` as a float in [0, 1]."""
    return check_range(name, value, 0.0, 1.0)


def check_share(name: str, value: float) -> float:
    """`value` as a float above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < 1:
        raise ValueError(f"{name} must lie above 0 and below 1, got {value!r}")
    return float(value)


def check_is(name: str, value: object, kind: type, hint: str = "") -> None:
    """Raise TypeError unless `value` is a `kind`; a type's own `refusal` takes the place of the hint."""
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got the class {value.__name__}; write {value.__name__}()")
    if not isinstance(value, kind):
        hint = getattr(type(value), "refusal", hint)
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}{hint}")


def show_value(value: object) -> str:
    """A value in an error text: its `repr`, or its type's name where that holds an address."""
    shown = repr(value)
    return f"a {type(value).__name__}" if re.search(r" at 0x[0-9a-f]+>", shown) else shown


def check_listed(name: str, values: object) -> None:
    """Raise TypeError unless `values` are a tuple or a list."""
    if not isinstance(values, tuple | list):
        raise TypeError(f"{name} must be a tuple or a list, got {values!r}")


def check_whole(name: str, value: int) -> int:
    """`value` as a whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def check_range(name: str, value: float, low: float, high: float) -> float:
    """`value` as a float in [low, high]; NaN is outside."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value!r}")
    return float(value)


def check_count(name: str, value: int) -> int:
    """`value` as a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number greater than zero, got {value!r}")
    return int(value)


def check_positive(name: str, value: float) -> float:
    """`value` as a finite float above zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number greater than zero, got {value!r}")
    return float(value)


def check_non_negative(name: str, value: float) -> float:
    """`value` as a finite float of at least zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be zero or more, got {value!r}")
    return float(value)


def check_choice(name: str, value: str, options: Sequence[str]) -> str:
    """`value` if it is one of `options`, else an error that suggests the nearest one."""
    if value in options:
        return value
    listed = ", ".join(map(repr, options))
    raise ValueError(f"{name} must be one of {listed}, got {value!r}{did_you_mean(value, options)}")


def did_you_mean(value: object, options: Iterable[str]) -> str:
    """The end of an error text that suggests the nearest option; empty where none is near."""
    known = list(options)
    near = [option for option in known if option.lower() == str(value).lower()]
    near = near or difflib.get_close_matches(str(value), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_distinct(values: Sequence[Any]) -> None:
    """Raise where a value stands twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"the same value stands there twice: {', '.join(map(str, values))}")


def list_first(words: Sequence[str]) -> str:
    """The first words with commas between, and how many more there are.

    Example:
        >>> list_first([*"abcdefghij"])
        'a, b, c, d, e, f, g, h and 2 more'
    """
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def check_same_keys(what: str, expected: Iterable[str], got: Iterable[str]) -> None:
    """Raise unless both hold the same names; the first that are missing or unexpected are listed."""
    expected, got = list(expected), list(got)
    missing = [key for key in expected if key not in set(got)]
    unexpected = [key for key in got if key not in set(expected)]
    if missing or unexpected:
        lists = [list_first(names) if names else "none" for names in (missing, unexpected)]
        raise ValueError(f"{what} do not match: missing {lists[0]}; unexpected {lists[1]}")


def check_same_shapes(what: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Raise unless tensors of the same name have the same shape and type; the first that differ are listed."""
    differences = [
        f"{key} {describe_tensor(a[key])} against {describe_tensor(b[key])}"
        for key in a
        if describe_tensor(a[key]) != describe_tensor(b[key])
    ]
    if differences:
        raise ValueError(
            f"{what} have different shapes or types: {list_first(differences)}; both endpoints must be the same "
            "architecture"
        )


def check_reiterable(name: str, data: Any) -> None:
    """Raise TypeError for generators and iterators: what is read twice must be readable twice."""
    if isinstance(data, Iterator):
        raise TypeError(
            f"{name} must be data that can be read more than once, got a {type(data).__name__} that is used up "
            "after one pass; pass a list of batches, a DataLoader, an (x, y) pair of tensors, or a dataset"
        )
    if not isinstance(data, Iterable):
        raise TypeError(
            f"{name} must be an (x, y) pair of tensors, a dataset, or an iterable of (x, y) batches, got "
            f"{type(data).__name__}"
        )


def check_finite(name: str, x: Tensor, rows: Sequence[int] | Tensor) -> None:
    """Raise unless every value of `x` is finite; the first bad row is named, by its entry in `rows`."""
    if not x.is_floating_point() or bool(torch.isfinite(x.sum(dtype=torch.float64))):
        return
    bad = ~torch.isfinite(x).flatten(1).all(1) if x.dim() > 1 else ~torch.isfinite(x)
    if bool(bad.any()):
        raise ValueError(
            f"{name}: row {int(rows[int(bad.nonzero()[0])])} holds NaN or infinity; remove or repair it before the "
            "data is used"
        )


@contextlib.contextmanager
def require_extra(what: str, extra: str = "data") -> Iterator[None]:
    """Context manager: re-raise an ImportError of a missing package with the name of the extra that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{what} needs the package {error.name}, which is not installed; pip install 'mechconn[{extra}]'"
        ) from error


def describe_tensor(tensor: Tensor) -> str:
    """Its number type and shape, as in float32[3, 4]."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def check_samples(name: object, count: int) -> None:
    """Raise ValueError unless there is a sample."""
    if count == 0:
        raise ValueError(f"{name} holds no samples; at least one is needed")


def check_lengths(name: object, inputs: int, targets: int) -> None:
    """Raise ValueError unless there are as many inputs as targets."""
    if inputs != targets:
        raise ValueError(f"{name}: {inputs} inputs but {targets} targets; every row needs one of each")


def check_available(name: str, asked: int, available: int) -> None:
    """Raise ValueError where more samples are asked for than there are."""
    if asked > available:
        raise ValueError(f"{name}: asked for {asked} samples, but only {available} exist; ask for fewer")


def check_cuda(device: object) -> None:
    """Raise ValueError where no CUDA device is here."""
    if not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for, but no CUDA device is here; use 'cpu'")


def check_two_models(what: str, count: int) -> None:
    """Raise ValueError where there are fewer than two models."""
    if count < 2:
        raise ValueError(f"{what} needs two models or more, got {count}")
