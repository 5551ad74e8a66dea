"""Which signs, scales and linear maps a network has, and which it has not: each one found leaves every output alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

import mechconn as mc
from symmetry.check import built, largest_change_under, list_actions_alone
from symmetry.kind_nets import (
    FEATURES,
    HAVE,
    LACK,
    LACK_APART,
    NETWORKS,
    NOT_HOMOGENEOUS,
    NOT_ODD,
    SUMMED,
    between,
    outer_product_of_parts,
    sums_of_parts,
)
from symmetry.recurrent_nets import Net

CHANGE = 1e-9


def check_found(factory: Callable[[], nn.Module], x: Tensor, names: tuple[str, ...]) -> mc.Symmetry:
    """The symmetry, once it has these actions and each of them, and all together, leave the outputs alone."""
    model = built(factory)
    symmetry = mc.symmetry_of(model, x)
    assert tuple(action.name for action in symmetry.actions) == names
    elements = [*list_actions_alone(symmetry), *(symmetry.random(seed) for seed in (0, 1))]
    assert largest_change_under(model, x, symmetry, elements) <= CHANGE
    return symmetry


@pytest.mark.parametrize("case", HAVE)
def test_units_have_the_signs_scales_and_maps_that_a_function_leaves(case: str) -> None:
    function, names = HAVE[case]
    symmetry = check_found(between(function), FEATURES, names)
    kinds = {group.kind: group.size for group in symmetry.groups}
    assert kinds == {"permutation": 6} | {name.split(":")[1]: 6 for name in names}


@pytest.mark.parametrize("case", LACK)
def test_units_lack_signs_and_scales_that_a_function_does_not_leave(case: str) -> None:
    function, operation = LACK[case]
    symmetry = check_found(between(function), FEATURES, ())
    assert symmetry.without == {
        "layer:sign": NOT_ODD.format(operation),
        "layer:scale": NOT_HOMOGENEOUS.format(operation),
    }


@pytest.mark.parametrize("case", LACK_APART)
def test_units_lack_signs_for_one_reason_and_scales_for_another(case: str) -> None:
    function, of_sign, of_scale = LACK_APART[case]
    symmetry = check_found(between(function), FEATURES, ())
    assert symmetry.without == {"layer:sign": of_sign, "layer:scale": of_scale}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks_have_these_actions_and_no_others(case: str) -> None:
    factory, x, names = NETWORKS[case]
    check_found(factory, x, names)


PARTS: dict[str, tuple[Callable[..., Tensor], str, str]] = {
    "concatenated": (outer_product_of_parts, "exp", "cat"),
    "summed": (sums_of_parts, SUMMED, "einsum"),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_tensor_of_too_many_parts_has_no_scales(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is 4,096 combinations of parts; it is lowered here, so that a small network passes it."""
    run, below, above = PARTS[case]
    for bound, reason in ((9, below), (8, above)):
        monkeypatch.setattr("mechconn.symmetry._unit_places.MOST_RUNS", bound)
        symmetry = check_found(lambda: Net(run, left=nn.Linear(5, 6), right=nn.Linear(5, 6)), FEATURES, ())
        assert symmetry.without["left:scale"] in (reason, NOT_HOMOGENEOUS.format(reason))
