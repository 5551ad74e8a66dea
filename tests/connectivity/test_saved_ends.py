"""The ends of a path as saved and as evaluated: where statistics are re-estimated they may be two networks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mechconn as mc
from reference import evaluated
from zoo import FEATURES, build, mlp, norm_mlp, rows

X, Y = rows(200, 1)
DATA = {"cue": (X[:120], Y[:120]), "hue": (X[120:], Y[120:])}
SUITE = mc.Suite(DATA)
KIND = mc.LinearPath.between


def trained(seed: int) -> nn.Module:
    """Right on nearly all rows, with statistics that fit."""
    method = mc.Training(epochs=20, batch_size=20, lr=0.1, milestones=())
    return mc.train(build(norm_mlp, seed), (X, Y), method, seed=seed).model.requires_grad_(False).eval()


def shifted(model: nn.Module) -> nn.Module:
    """The same weights with statistics of other data."""
    model.get_buffer("1.running_mean").add_(torch.linspace(-4, 4, 5, dtype=torch.float64))
    return model


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    return trained(1), shifted(trained(1))


def walk(a: nn.Module, b: nn.Module, norm: Any, **more: Any) -> mc.Profile:
    return mc.evaluate_path(a, KIND(a, b), SUITE, 3, norm=norm, **more)


def reestimated(model: nn.Module, norm: mc.Reestimate) -> nn.Module:
    return mc.model_at(model, KIND(model, model), 1.0, norm=norm)


def test_both_ends_are_known_as_saved_and_as_evaluated(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    norm = mc.Reestimate((X, Y), label="training data")
    profile = walk(a, b, norm)
    for number, (end, saved) in enumerate(zip(pair, profile.saved, strict=True)):
        assert isinstance(saved, mc.EndMeans)
        here = reestimated(end, norm)
        for split in SUITE:
            assert (saved.loss[split], saved.accuracy[split]) == pytest.approx(evaluated(end, [DATA[split]]), rel=1e-12)
            found = profile.loss[split][-number], profile.accuracy[split][-number]
            assert found == pytest.approx(evaluated(here, [DATA[split]]), rel=1e-9)
    measured = mc.measure_invariance(b, SUITE)
    saved = profile.saved[1]
    assert saved is not None and (saved.loss, saved.accuracy) == (measured.loss, measured.accuracy)


def test_a_shifted_end_is_told_and_is_not_connected(pair: tuple[nn.Module, nn.Module]) -> None:
    """The path joins A with B's weights, which are A's; B as saved is another network."""
    a, b = pair
    profile = walk(a, b, mc.Reestimate((X, Y)))
    before, here = profile.saved[1], profile.accuracy
    assert before is not None
    lost = {split: here[split][-1] - before.accuracy[split] for split in SUITE}
    assert min(lost.values()) > 0.05
    shifts = profile.shifted_ends()
    assert shifts == tuple(
        mc.ShiftedEnd("B", split, "accuracy", before.accuracy[split], here[split][-1]) for split in SUITE
    )
    middle = (lost["cue"] + lost["hue"]) / 2
    assert [shift.split for shift in profile.shifted_ends(middle)] == [max(lost, key=lambda split: lost[split])]
    assert profile.shifted_ends(1.0) == ()
    # One network at every t, so that nothing rises between the ends of the path itself.
    assert profile.mechanistic_connection(0.1) == "undetermined"
    assert not profile.mechanistically_connected(0.1) and not profile.mode_connected("cue", 0.1)
    with pytest.raises(ValueError, match="margin must be"):
        profile.shifted_ends(0.0)


def test_text_record_and_figure_say_so(pair: tuple[nn.Module, nn.Module]) -> None:
    profile = walk(*pair, mc.Reestimate((X, Y)))
    told = [line for line in str(profile).splitlines() if line.startswith("  other ends: ")]
    assert told == [f"  other ends: {shift}" for shift in profile.shifted_ends()] and len(told) == 2
    before, here = profile.saved[1], profile.accuracy["cue"][-1]
    assert before is not None
    assert told[0] == (
        f"  other ends: B is right on {100 * before.accuracy['cue']:.1f} % of cue as saved, and on {100 * here:.1f} % "
        "on this path"
    )
    record = json.loads(profile.to_json())
    assert [shift.end for shift in profile.judge().shifted] == ["B", "B"]
    assert record["saved"][1]["accuracy"] == dict(before.accuracy)
    assert record["saved"][1]["loss"] == dict(before.loss)
    assert profile.judge(margin=1.0).shifted == ()
    circles = [
        (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for axes in profile.plot().axes
        for line in axes.lines
        if line.get_markerfacecolor() == "none"
    ]
    percent = [(1.0, 100 * before.accuracy[split]) for split in SUITE]
    assert circles == [pytest.approx(place) for place in (*percent, *((1.0, before.loss[split]) for split in SUITE))]


def test_a_loss_alone_is_held_to_the_margin_too(pair: tuple[nn.Module, nn.Module]) -> None:
    x, y = rows(50, 1)
    suite = mc.Suite({"cue": (x, y.double())})
    a, b = pair
    profile = mc.evaluate_path(
        a, KIND(a, b), suite, 2, norm=mc.Reestimate((x, y)), loss=lambda f, t: (f[:, 0] - t) ** 2
    )
    assert [(shift.end, shift.on) for shift in profile.shifted_ends()] == [("B", "loss")]
    assert "B has a mean loss of " in str(profile)


def test_statistics_that_fit_shift_nothing(pair: tuple[nn.Module, nn.Module]) -> None:
    a, _ = pair
    norm = mc.Reestimate((X, Y))
    fresh = reestimated(a, norm)
    profile = walk(fresh, fresh, norm)
    assert profile.shifted_ends(1e-12) == () and "other ends" not in str(profile)
    assert not [line for axes in profile.plot().axes for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert profile.mechanistically_connected(0.1)


def test_interpolated_statistics_leave_the_ends_as_they_are(pair: tuple[nn.Module, nn.Module]) -> None:
    profile = walk(*pair, mc.InterpolateNorm())
    for number, saved in enumerate(profile.saved):
        assert saved is not None
        assert saved.loss == {split: values[-number] for split, values in profile.loss.items()}
        assert saved.accuracy == {split: values[-number] for split, values in profile.accuracy.items()}
    assert profile.shifted_ends(1e-300) == ()


def test_kept_statistics_shift_the_end_that_has_others(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    assert {shift.end for shift in walk(a, b, mc.KeepNorm()).shifted_ends()} == {"B"}
    assert {shift.end for shift in mc.evaluate_path(b, KIND(a, b), SUITE, 3, norm=mc.KeepNorm()).shifted_ends()} == {
        "A"
    }
    assert walk(a, a, mc.KeepNorm()).shifted_ends(1e-300) == ()


def test_of_parameters_alone_the_saved_statistics_are_not_known(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    path, norm = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.Reestimate((X, Y))
    profile = mc.evaluate_path(a, path, SUITE, 3, norm=norm)
    assert profile.saved == (None, None) and profile.shifted_ends() == ()
    assert profile.loss == walk(a, b, norm).loss
    assert profile.to_dict()["saved"] == [None, None]
    plain = [build(mlp, seed) for seed in (1, 2)]  # without statistics the parameters are the network
    found = mc.evaluate_path(plain[0], mc.LinearPath(*map(mc.parameters_of, plain)), SUITE, 3)
    for number, saved in enumerate(found.saved):
        assert saved is not None
        assert saved.loss == {split: values[-number] for split, values in found.loss.items()}


def test_parts_of_a_path_know_the_ends_that_they_have(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    path, norm = KIND(a, b), mc.Reestimate((X, Y))
    back = mc.evaluate_path(a, path.reversed(), SUITE, 3, norm=norm)
    assert back.saved == tuple(reversed(walk(a, b, norm).saved))
    assert {shift.end for shift in back.shifted_ends()} == {"A"}
    part = mc.evaluate_path(a, path.sub(0.5, 1.0), SUITE, 3, norm=norm)
    assert part.saved == (None, walk(a, b, norm).saved[1])


def test_alignments_maps_and_audits_say_so(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    norm = mc.Reestimate((X, Y))
    symmetry = mc.symmetry_of(a, torch.zeros(2, FEATURES, dtype=torch.float64))
    found = mc.evaluate_alignment(a, b, mc.WeightMatching(restarts=1), SUITE, 3, norm=norm, symmetry=symmetry)
    expected = walk(a, b, norm)
    for profile in found.values():
        assert profile.saved[0] == expected.saved[0]
        assert {shift.end for shift in profile.shifted_ends()} == {"B"}
        assert profile.saved[1] is not None and expected.saved[1] is not None
        assert profile.saved[1].loss == pytest.approx(dict(expected.saved[1].loss), rel=1e-12)
    notes = mc.mechanism_map({"one": a, "two": b}, SUITE, ts=3, norm=norm).notes
    assert notes == (str(expected.shifted_ends()[0]._replace(end="two")),)
    audit = mc.audit(a, b, SUITE, norm=norm, ts=3, alignment="none")
    assert audit.paths["before"].saved == expected.saved
    record = json.loads(audit.to_json())
    assert [shift["end"] for shift in record["connections"]["before"]["shifted"]] == ["B", "B"]
    assert [shift.end for shift in audit.connections["before"].shifted] == ["B", "B"]
    assert "between networks with other statistics than those saved" in str(audit)
    assert "Its ends are not the networks as saved: B is right on " in str(audit)


def test_a_block_begins_at_a_network_and_ends_at_none(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = pair
    line = walk(a, b, mc.Reestimate((X, Y)))
    cases: list[Any] = [("a", (line.saved[0], None)), ("b", (None, line.saved[1]))]
    for rest, saved in cases:
        found = mc.evaluate_blocks(a, a, b, SUITE, rest=rest, ts=3, norm=mc.Reestimate((X, Y)))
        assert [profile.saved for profile in found.values()] == [saved] * 3
