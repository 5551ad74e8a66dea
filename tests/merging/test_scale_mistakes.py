"""What `search_scale` refuses: one line each, and the remedy works."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from planted_scales import BASE, CUE, make_suite, plant, search
from zoo import build

SUITE = make_suite(kept=plant([9.0] * 40), target=plant([0.3] * 40))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lower": None}, "exactly one of lower= .* and higher= .* must be given, got neither"),
        ({"higher": "kept"}, "must be given, got both"),
        ({"lower": "tarjet"}, "lower= .* must be one of 'kept', 'target', got 'tarjet'.*target"),
        ({"keep": ("no_cue", 0.95)}, "a split of keep= .* must be one of 'kept', 'target', got 'no_cue'"),
        ({"keep": ("target", 0.95)}, "keep= must name other splits than lower='target', each once"),
        ({"keep": [("kept", 0.9), ("kept", 0.8)]}, "each once, got 'kept', 'kept'"),
        ({"keep": ("kept", 1.5)}, "the share of keep must"),
        ({"keep": ("kept", 0.0)}, "the share of keep must"),
        ({"keep": ["kept"]}, r"keep must be \(split, share\) or a list of such pairs, got 'kept'"),
        ({"scales": ()}, "scales must be finite numbers, one of them not 0"),
        ({"scales": (0.0,)}, "one of them not 0"),
        ({"scales": (1.0, float("nan"))}, "scales must be finite numbers"),
        ({"scales": "half"}, "scales must be finite numbers"),
        ({"scales": (True,)}, "scales must be finite numbers"),
        ({"enough": 1.0}, "enough must lie above 0 and below 1"),
        ({"draws": 0}, "draws must be a whole number greater than zero"),
        ({"choose": "first"}, "choose must be one of 'best', 'largest', 'shown'"),
        ({"choosing": 1.0}, "choosing must lie above 0 and below 1"),
        ({"choosing": make_suite(other=plant([0.3] * 40))}, r"lower= \(a split of choosing=\) must be one of 'other'"),
        ({"choosing": SUITE}, r"choosing= holds rows that are in the suite \(kept, target\)"),
        ({"margin": 0.0}, "margin must"),
        ({"on": "sureness"}, "on must be one of 'accuracy', 'loss'"),
    ],
)
def test_one_line_says_what_is_wrong(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        search(SUITE, **settings)
    assert "\n" not in str(caught.value)


def test_a_change_of_another_network_and_no_change_are_refused() -> None:
    first, second = (build(lambda: nn.Linear(3, 2), seed) for seed in range(2))
    other = mc.weight_change(first, second)
    with pytest.raises(ValueError, match="parameters of the model and of the change"):
        search(SUITE, other)
    with pytest.raises(TypeError, match=r"change must be a WeightChange, got dict; pass weight_change\(base, tuned\)"):
        search(SUITE, {"weight": torch.zeros(2, 2)})  # pyright: ignore[reportArgumentType]


def test_too_few_rows_to_divide_and_the_remedies() -> None:
    few = make_suite(kept=plant([9.0] * 40), target=plant([0.3] * 3))
    with pytest.raises(ValueError, match="two are needed on either side; give more rows, or rows that choose alone"):
        search(few, choosing=0.5, cluster=None)
    assert search(few, choosing=make_suite(kept=plant([9.0] * 5), target=plant([0.3] * 5))).scale == 0.5
    assert search(SUITE, choosing=0.5).scale == 0.5


def test_a_scale_that_breaks_the_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"scale 1e\+38: "):
        search(SUITE, 1e30 * CUE, scales=(1.0, 1e38), draws=1)


def test_a_value_at_another_scale_is_refused() -> None:
    found = search(SUITE)
    with pytest.raises(ValueError, match=r"no value of 'target' at scale 0.3; splits are kept, target, scales 0, 0.25"):
        found.value("target", 0.3)
    assert found.value("target", 0.25) == 1.0


def test_the_base_stays_as_it_is() -> None:
    before = {name: tensor.clone() for name, tensor in BASE.state_dict().items()}
    search(SUITE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in BASE.state_dict().items())
