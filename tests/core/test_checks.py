"""Checks at the door: what passes, and the one line that the rest gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechconn.core import _checks

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.3])
def test_fractions_become_floats(value: float) -> None:
    checked = _checks.check_fraction("p", value)
    assert isinstance(checked, float) and checked == value


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("check", "value", "text"),
    [
        (_checks.check_fraction, -0.1, "n must lie in [0, 1], got -0.1"),
        (_checks.check_fraction, 1.0000001, "n must lie in [0, 1], got 1.0000001"),
        (_checks.check_fraction, NAN, "n must lie in [0, 1], got nan"),
        (_checks.check_fraction, True, "n must lie in [0, 1], got True"),
        (_checks.check_fraction, "0.5", "n must lie in [0, 1], got '0.5'"),
        (_checks.check_count, 0, "n must be a whole number greater than zero, got 0"),
        (_checks.check_count, 2.0, "n must be a whole number greater than zero, got 2.0"),
        (_checks.check_count, True, "n must be a whole number greater than zero, got True"),
        (_checks.check_positive, 0, "n must be a number greater than zero, got 0"),
        (_checks.check_positive, INF, "n must be a number greater than zero, got inf"),
        (_checks.check_positive, NAN, "n must be a number greater than zero, got nan"),
        (_checks.check_positive, None, "n must be a number greater than zero, got None"),
        (_checks.check_non_negative, -1e-9, "n must be zero or more, got -1e-09"),
        (_checks.check_non_negative, NAN, "n must be zero or more, got nan"),
        (_checks.check_non_negative, INF, "n must be zero or more, got inf"),
        (_checks.check_non_negative, False, "n must be zero or more, got False"),
    ],
)
def test_numbers_out_of_range(check: Callable[[str, Any], Any], value: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        check("n", value)
    assert str(caught.value) == text


def test_numbers_in_range_pass() -> None:
    assert _checks.check_count("n", 1) == 1
    assert _checks.check_positive("n", 1e-300) == 1e-300
    assert _checks.check_non_negative("n", 0) == 0.0
    assert _checks.check_range("n", 3, -1.0, 3.0) == 3.0


def test_a_choice_suggests_the_nearest_option() -> None:
    assert _checks.check_choice("fruit", "pear", ("apple", "pear")) == "pear"
    with pytest.raises(ValueError) as caught:
        _checks.check_choice("fruit", "appel", ("apple", "pear"))
    assert str(caught.value) == "fruit must be one of 'apple', 'pear', got 'appel'; did you mean 'apple'?"
    with pytest.raises(ValueError) as caught:
        _checks.check_choice("fruit", "xyz", ("apple", "pear"))
    assert str(caught.value) == "fruit must be one of 'apple', 'pear', got 'xyz'"


def test_names_must_be_the_same_and_all_differences_are_listed() -> None:
    _checks.check_same_keys("weights", ["a", "b"], ["b", "a"])
    with pytest.raises(ValueError) as caught:
        _checks.check_same_keys("weights", ["a", "b", "c"], ["b", "d", "e"])
    assert str(caught.value) == "weights do not match: missing a, c; unexpected d, e"
    with pytest.raises(ValueError) as caught:
        _checks.check_same_keys("weights", ["a"], ["a", "b"])
    assert str(caught.value) == "weights do not match: missing none; unexpected b"


def test_finite_values_pass_even_where_their_sum_does_not() -> None:
    huge = torch.full((4, 2), 1.7e308, dtype=torch.float64)
    _checks.check_finite("x", huge, range(4))
    _checks.check_finite("x", torch.tensor([1, 2]), range(2))
    huge[2, 1] = INF
    with pytest.raises(ValueError, match=r"^x: row 2 holds NaN or infinity"):
        _checks.check_finite("x", huge, range(4))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_first_bad_row_is_named_by_its_number(bad: float, dtype: torch.dtype) -> None:
    x = torch.zeros(5, 2, 3, dtype=dtype)
    x[1, 0, 2], x[3] = bad, -bad  # infinities of both signs: their sum must not hide them
    with pytest.raises(ValueError) as caught:
        _checks.check_finite("x", x, torch.tensor([40, 41, 42, 43, 44]))
    assert str(caught.value) == "x: row 41 holds NaN or infinity; remove or repair it before the data is used"
    with pytest.raises(ValueError, match="row 2 holds"):
        _checks.check_finite("x", torch.tensor([0.0, 1.0, bad]), range(3))
