"""What a profile says: barriers, verdicts, tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mechconn as mc

finite = st.floats(-5, 5)


def profile_of(
    losses: dict[str, list[float]], accuracy: dict[str, list[float]] | None = None, reference: str = "cue"
) -> mc.Profile:
    points = len(next(iter(losses.values())))
    return mc.Profile(
        ts=mc.path_grid(points),
        loss={name: tuple(values) for name, values in losses.items()},
        accuracy={name: tuple(values) for name, values in (accuracy or losses).items()},
        samples=dict.fromkeys(losses, 1),
        reference=reference,
        interventions=tuple(name for name in losses if name not in (reference, "no_cue")),
        settings={},
    )


@given(st.lists(finite, min_size=2, max_size=12), finite)
def test_a_barrier_does_not_change_with_a_constant(values: list[float], constant: float) -> None:
    barrier = profile_of({"cue": values}).barrier("cue")
    shifted = profile_of({"cue": [value + constant for value in values]}).barrier("cue")
    assert shifted.height == pytest.approx(barrier.height, abs=1e-13)  # roundings of numbers below 10


@given(st.lists(finite, min_size=2, max_size=12))
def test_a_barrier_is_mirrored_when_the_endpoints_swap(values: list[float]) -> None:
    forth, back = profile_of({"cue": values}), profile_of({"cue": values[::-1]})
    assert back.barrier("cue").height == pytest.approx(forth.barrier("cue").height, abs=1e-13)
    gaps = [v - ((1 - t) * values[0] + t * values[-1]) for t, v in zip(forth.ts, values, strict=True)]
    # Where two points stand equally high, either may be named.
    assert max(gaps) - gaps[len(gaps) - 1 - forth.ts.index(back.barrier("cue").t)] <= 1e-13


@given(st.lists(finite, min_size=2, max_size=12))
def test_a_barrier_is_the_highest_rise_above_the_chord(values: list[float]) -> None:
    barrier = profile_of({"cue": values}).barrier("cue")
    n = len(values) - 1
    gaps = [value - (values[0] * (n - i) + values[-1] * i) / n for i, value in enumerate(values)]
    assert barrier.height == pytest.approx(max(gaps), abs=1e-13)
    assert barrier.height >= 0.0


def test_a_tent_has_its_closed_form() -> None:
    profile = profile_of({"cue": [1.0, 2.0, 5.0, 2.0, 2.0]}, {"cue": [0.5, 0.25, 0.0, 0.75, 1.0]})
    assert profile.barrier("cue") == mc.Barrier(3.5, 0.5, area=1.125)
    # The error rate 0.5, 0.75, 1, 0.25, 0 against a chord from 0.5 to 0.
    assert profile.barrier("cue", on="accuracy") == mc.Barrier(0.75, 0.5, area=0.3125)
    assert profile.endpoint_minus_minimum("cue") == 0.5
    assert profile.mode_connected("cue", 3.5) and not profile.mode_connected("cue", 3.49)


def test_mechanistic_connectivity_asks_for_every_intervention() -> None:
    flat, tent = [1.0, 1.0, 1.0], [1.0, 1.5, 1.0]
    assert profile_of({"cue": flat, "no_cue": tent, "rand_cue": flat}).mechanistically_connected()
    assert not profile_of({"cue": flat, "no_cue": flat, "rand_cue": tent}).mechanistically_connected()
    assert not profile_of({"cue": tent, "no_cue": flat, "rand_cue": flat}).mechanistically_connected(0.4)
    assert profile_of({"cue": tent, "no_cue": flat, "rand_cue": tent}).mechanistically_connected(0.5)


def test_questions_that_a_profile_cannot_answer() -> None:
    profile = profile_of({"cue": [1.0, float("nan"), 1.0]})
    with pytest.raises(ValueError, match=r"^split must be one of 'cue', got 'cu'; did you mean 'cue'\?$"):
        profile.barrier("cu")
    with pytest.raises(ValueError, match=r"^on must be one of 'loss', 'accuracy', got 'los'; did you mean 'loss'\?$"):
        profile.barrier("cue", on="los")
    with pytest.raises(ValueError, match=r"^the loss on 'cue' is nan at t = 0.5, so the path has no barrier there$"):
        profile.barrier("cue")
    with pytest.raises(ValueError, match=r"^tolerance must be zero or more, got -0.1$"):
        profile_of({"cue": [1.0, 1.0]}).mode_connected("cue", -0.1)


def test_the_table_holds_every_number_in_full(tmp_path: Path) -> None:
    profile = profile_of({"cue": [0.1, 1 / 3], "no_cue": [2.0, 3.0]}, {"cue": [0.5, 1.0], "no_cue": [0.25, 0.0]})
    profile.to_csv(tmp_path / "profile.csv")
    with open(tmp_path / "profile.csv", newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert [(float(row["t"]), row["split"], float(row["loss"]), float(row["accuracy"])) for row in table] == [
        (0.0, "cue", 0.1, 0.5), (1.0, "cue", 1 / 3, 1.0), (0.0, "no_cue", 2.0, 0.25), (1.0, "no_cue", 3.0, 0.0),
    ]  # fmt: skip
    assert {row["samples"] for row in table} == {"1"}


def test_a_barrier_is_computed_once_and_a_changed_copy_has_its_own() -> None:
    profile = profile_of({"cue": [1.0, 2.0, 1.0]})
    assert profile.barrier("cue") is profile.barrier("cue") is not profile.barrier("cue", confidence=0.9)
    assert replace(profile, loss={"cue": (1.0, 4.0, 1.0)}).barrier("cue").height == 3.0
