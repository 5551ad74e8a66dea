"""The statements, where they hold, where an assumption fails, and where they claim nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.theory import (
    Slabs,
    check_corollary,
    check_exception,
    check_lemma_2,
    check_theorem_1,
    fresh_network,
    interpolate,
    loss_along,
    spline_network,
)
from theory.nets import random_pair, readers, rows

seeds = st.integers(0, 500)


def held(evidence: object) -> dict[str, bool]:
    return {assumption.text: assumption.holds for assumption in evidence.assumptions}  # pyright: ignore


# ---------------------------------------------------------------- Lemma 2 and the Corollary


@given(seed=seeds, within=st.booleans())
def test_lemma_2_on_labels_that_two_networks_interpolate(seed: int, within: bool) -> None:
    """B moves within the patterns of A, or turns one unit off: then, and only then, there is a barrier."""
    a, _ = random_pair(5, seed)
    x = rows(seed, count=6, inputs=8)
    a = fresh_network(8, 5, scale=1.0, seed=seed)
    still = torch.linalg.svd(x, full_matrices=True).Vh[6:]  # directions that no row sees
    b = replace(a, weights=a.weights + still.T @ torch.ones(2, 5, dtype=torch.float64))
    if not within:  # on every row the first two units change roles
        b = b.permuted(torch.tensor([1, 0, 2, 3, 4]))
    evidence = check_lemma_2(a, b, x, a(x))
    assert evidence.applies and evidence.as_claimed
    assert evidence.numbers["largest error of the predicted loss"] <= 1e-12
    same = evidence.numbers["differing entries"] == 0
    assert same == (evidence.numbers["barrier"] <= 1e-12)
    assert same if within else True


@given(seed=seeds, signed=st.booleans())
def test_the_predicted_loss_needs_no_assumption(seed: int, signed: bool) -> None:
    a, b = random_pair(6, seed, signed=signed)
    evidence = check_lemma_2(a, b, rows(seed), rows(seed + 1)[:, 0])
    assert evidence.numbers["largest error of the predicted loss"] <= 1e-12
    assert not evidence.applies
    assert held(evidence)["all output weights are positive"] != signed
    assert "does not apply, for want of: A interpolates the data" in evidence.sentence


def test_with_both_signs_connected_networks_may_differ_in_their_patterns() -> None:
    """Why the lemma needs positive weights: what a positive and a negative unit lose cancels."""
    x = torch.ones(1, 1, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    a, b = (fresh_network(1, 2, signed=True) for _ in range(2))
    a, b = (replace(net, weights=torch.full((1, 2), w, dtype=torch.float64)) for net, w in ((a, 1.0), (b, -1.0)))
    assert torch.equal(a.signs, signs)
    evidence = check_lemma_2(a, b, x, torch.zeros(1, dtype=torch.float64))
    assert evidence.numbers["barrier"] == 0.0 and evidence.numbers["differing entries"] == 2
    assert not evidence.applies and not evidence.as_claimed


@pytest.mark.parametrize("signed", [False, True])
def test_the_corollary_up_to_a_permutation(signed: bool) -> None:
    slabs = Slabs((0, 0), (2.0, 2.0))
    data = slabs.sample(60)
    a = spline_network(slabs, 0, 6, signed=signed)
    order = [1, 2, 0, 4, 3, 5] if signed else [5, 4, 3, 2, 1, 0]
    b = spline_network(slabs, 1, 6, signed=signed).permuted(torch.tensor(order))
    evidence = check_corollary(a, b, data.x, data.y)
    assert evidence.applies and evidence.as_claimed and evidence.status == "proved"
    assert evidence.numbers["agreement"] == 1.0
    assert evidence.numbers["barrier before"] > 0.001
    assert evidence.numbers["barrier after"] <= 1e-24


def test_the_corollary_says_nothing_of_unequal_patterns() -> None:
    a, b, data = readers((0, 1), 4)
    evidence = check_corollary(a, b, data.x, data.y)
    assert not evidence.applies and not evidence.as_claimed
    assert held(evidence)["the patterns are equal up to a permutation"] is False


# ---------------------------------------------------------------- Theorem 1


def test_theorem_1_with_a_floor_under_every_order_of_the_units() -> None:
    a, b, data = readers((0, 1), 4)
    evidence = check_theorem_1(a, b, data)
    assert evidence.applies and evidence.as_claimed and evidence.status == "proved"
    lowest = min(
        loss_along(a, b.permuted(torch.tensor(order)), data.x, data.y).barrier.height
        for order in permutations(range(4))
    )
    assert 0 < evidence.numbers["barrier floor"] <= lowest
    assert evidence.numbers["barrier after"] >= lowest
    # Both units of the valley are on in one of its two slabs with label 1; the ramp's unit is on in both.
    assert evidence.numbers["units without a partner"] == 2


@pytest.mark.parametrize("complexities", [(0, 4), (4, 0), (1, 4), (3, 2)])
def test_theorem_1_on_labels_that_need_both_signs(complexities: tuple[int, int]) -> None:
    a, b, data = readers(complexities, 12, signed=True)
    evidence = check_theorem_1(a, b, data)
    assert evidence.applies and evidence.as_claimed
    assert evidence.numbers["agreement"] < 1 and evidence.numbers["barrier floor"] == 0.0
    assert evidence.numbers["barrier after"] > 0.01
    assert "has no proved floor here" in evidence.sentence


def test_theorem_1_does_not_take_a_reader_of_one_attribute_for_one_of_the_other() -> None:
    a, _, data = readers((0, 4), 12, signed=True)
    evidence = check_theorem_1(a, a, data)
    assert not evidence.applies and not evidence.as_claimed
    found = held(evidence)
    assert found["A interpolates also with other attributes drawn anew"]
    assert not found["B interpolates also with other attributes drawn anew"]
    assert not found["every unit of B follows attribute 1 alone"]


def test_theorem_1_wants_two_complexities_and_all_pairs_of_slabs() -> None:
    a, b, data = readers((4, 4), 12, signed=True, coupled=True)
    found = held(check_theorem_1(a, b, data))
    assert not found["the attributes differ in complexity"]
    assert not found["slabs of one label occur in all pairs"]
    assert found["every unit of A follows attribute 0 alone"] and found["every unit of B follows attribute 1 alone"]


def test_a_unit_that_noise_turns_on_follows_no_attribute_alone() -> None:
    a, b, data = readers((0, 1), 4)
    weights = b.weights.clone()
    weights[2, 0] = 100.0  # the first noise dimension
    found = held(check_theorem_1(a, replace(b, weights=weights), data))
    assert not found["every unit of B follows attribute 1 alone"]
    weights = b.weights.clone()
    weights[2, 0] = 1e-6  # too little to turn it on or off
    assert held(check_theorem_1(a, replace(b, weights=weights), data))["every unit of B follows attribute 1 alone"]


def test_trained_networks_have_a_barrier_in_every_order_too() -> None:
    """No assumption on single units is needed for the floor."""
    data = Slabs((0, 1), (2.0, 1.0)).sample(60)
    nets = []
    for attribute in (0, 1):
        fit = data.relying_on(attribute)
        nets.append(interpolate(fresh_network(5, 16, seed=attribute), fit.x, fit.y).net)
    evidence = check_theorem_1(nets[0], nets[1], data)
    found = held(evidence)
    assert found["A interpolates the data"] and found["B interpolates also with other attributes drawn anew"]
    assert 0.005 < evidence.numbers["barrier floor"] <= evidence.numbers["barrier after"]


# ---------------------------------------------------------------- the exception


@pytest.mark.parametrize(("complexities", "signed"), [((0, 0), False), ((0, 0), True), ((4, 4), True)])
def test_dissimilar_mechanisms_of_one_complexity_can_connect(complexities: tuple[int, int], signed: bool) -> None:
    a, b, data = readers(complexities, 12, signed=signed, coupled=complexities != (0, 0))
    evidence = check_exception(a, b, data)
    assert evidence.applies and evidence.as_claimed and evidence.status == "shown by example"
    assert evidence.numbers["effect of A's attribute on A"] > 0.2 < evidence.numbers["effect of B's attribute on B"]
    assert evidence.numbers["effect of A's attribute on B"] == 0.0 == evidence.numbers["effect of B's attribute on A"]
    assert evidence.numbers["barrier after"] <= 1e-24
    assert "dissimilar" in evidence.sentence and "no barrier" in evidence.sentence


def test_dissimilar_mechanisms_of_one_complexity_need_not_connect() -> None:
    a, b, data = readers((4, 4), 12, signed=True)
    evidence = check_exception(a, b, data)
    assert evidence.applies and not evidence.as_claimed
    assert evidence.numbers["agreement"] < 1 and evidence.numbers["barrier after"] > 0.1
    assert evidence.sentence.endswith("This pair is no example of it, which refutes nothing.")


def test_one_mechanism_is_no_exception() -> None:
    a, _, data = readers((0, 0), 4)
    evidence = check_exception(a, a, data)
    assert not evidence.applies and "not told apart" in evidence.sentence


def test_evidence_reads_as_text_and_as_plain_values() -> None:
    a, b, data = readers((0, 1), 4)
    evidence = check_theorem_1(a, b, data)
    text = str(evidence)
    assert text.startswith("Theorem 1 (proved): networks that read attributes of different complexity")
    assert text.count("assumed: ") == len(evidence.assumptions) == 8
    assert text.endswith(evidence.sentence)
    record = json.loads(evidence.to_json())
    assert record["applies"] is True and record["numbers"] == dict(evidence.numbers)
    assert record["assumptions"][0] == {"text": "A interpolates the data", "holds": True, "measured": 0.0}
