"""What `search_scale` refuses: one line each, and the remedy works."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mechconn as mc
from planted_scales import BASE, CUE, make_suite, plant, search, take
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
        ({"scales": torch.tensor([float("inf")])}, "scales must be finite numbers"),
        ({"keep": None}, r"got None; write keep=\('no_cue', 0.95\), or keep=\[\] where nothing must stay"),
        ({"keep": "kept"}, "keep must be .* got 'kept'; write keep="),
        ({"keep": [("kept", 0.95), "kept"]}, "keep must be .* got 'kept'; write keep="),
        ({"floor": 50}, r"floor must be a value of 'accuracy', in \[0, 1\], got 50; write chance as a share, such as"),
        ({"floor": -0.1}, "floor must be zero or more, got -0.1"),
        ({"lower": None, "higher": "target", "floor": 0.1}, "with higher= nothing rests on it, got 0.1; leave it out"),
        ({"choose": "largest", "scales": (-1.0, -0.5)}, "choose='largest' takes .* negate the change, -change"),
        ({"choose": "shown", "cluster": list(range(40))}, "choose='shown' needs the clusters of the rows that choose"),
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


def test_the_remedies_of_these_messages_work() -> None:
    suite = make_suite(kept=plant([9.0] * 80), target=plant([0.3] * 80))
    assert search(suite, keep=[]).keep == () and search(suite, floor=0.1).floor == 0.1
    assert search(suite, lower=None, higher="target", floor=None).floor == 0.0
    assert search(suite, choose="largest", scales=(0.5, 1.0)).scale == 1.0
    labels = [n // 2 for n in range(80)]
    how: Any
    for how in ({"choosing": 0.5}, {"choose": "best"}):
        assert search(suite, **({"choose": "shown", "cluster": labels, "keep": ("kept", 0.5)} | how)).over == "clusters"


def test_scales_are_any_real_numbers() -> None:
    expected = search(SUITE, scales=(0.25, 0.5)).scales
    grids: list[Any] = [np.array([0.25, 0.5], np.float32), torch.tensor([0.5, 0.25]), {0.5, 0.25}]
    grids += [(Fraction(n, 4) for n in (1, 2)), np.float64(0.25) * np.arange(1, 3), iter([0.25, 0.5])]
    assert all(search(SUITE, scales=grid).scales == expected for grid in grids)


def test_a_scale_that_breaks_the_network_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """At 1e38 times a change of 1e30 weights are not finite, of the change or of the random ones."""
    found = search(SUITE, 1e30 * CUE, scales=(1.0, 1e38), draws=2, lower=None, higher="target", keep=[])
    assert found.scales == (0.0, 1.0) and len(found.curves["kept"].random) == 2 and len(found.kept) == 2
    assert any("scale 1e+38 is left out of the grid: " in note and "overflows float32" in note for note in found.notes)
    assert found.settings["scales"] == [0.0, 1.0, 1e38] and "left out of the grid" in caplog.text
    with pytest.raises(ValueError, match=r"no scale but 0 can be evaluated; take smaller scales= \(.*overflows"):
        search(SUITE, 1e30 * CUE, scales=(1e38,))


def test_what_is_wrong_with_rows_is_not_taken_for_a_scale_that_breaks() -> None:
    """Data that give other rows to every network."""
    x, y = take(SUITE, "target")

    class Turning(list[Any]):
        turns = 0

        def __iter__(self) -> Any:
            self.turns += 1
            return iter([(x[self.turns :], y[self.turns :])])

    suite = mc.Suite({"kept": take(SUITE, "kept"), "target": Turning([0])}, "kept")
    with pytest.raises(ValueError, match=r"scale 0\.25") as caught:
        mc.search_scale(BASE, -CUE, suite, lower="target", keep=[], scales=(0.25,), draws=1)
    assert "no scale but 0" not in str(caught.value)


def test_negative_values_are_refused_only_where_a_share_is_taken() -> None:
    how: Any = {"on": "below", "better": "higher",
                "metrics": {"below": mc.Metric(lambda z, y: z.gather(1, y[:, None])[:, 0] - 20)}}  # fmt: skip
    assert search(SUITE, **how, lower=None, higher="target", keep=[], scales=(1.0,)).target == "target"
    asked: Any
    for asked in ({"lower": None, "higher": "target", "keep": ("kept", 0.9)}, {"keep": []}):
        with pytest.raises(ValueError, match=r"negative on rows of '(kept|target)'; measure on what is 0 or more"):
            search(SUITE, **how, **asked)


def test_rows_that_choose_have_an_identity_in_the_settings() -> None:
    other = make_suite(kept=plant([9.0] * 40), target=plant([0.3] * 39 + [-1.0]))
    first, same, second = search(SUITE), search(SUITE), search(SUITE, choosing=other)
    assert first.settings["choosing"]["rows"] == {"kept": 40, "target": 40}
    assert first.settings_hash == same.settings_hash != second.settings_hash


def test_advice_does_not_contradict_itself() -> None:
    """Below the floor a smaller scale is named, and not a wider grid."""
    suite = make_suite(kept=plant([9.0] * 40), target=plant([0.3] * 40))
    found = search(suite, choosing=0.5, floor=0.08, scales=(1.0,), choose="largest")
    assert found.value("target") == 0.0 and found.verdict != "reverses"
    assert any("take a smaller scale" in said for said in found.findings)
    assert not any("widen scales=" in said for said in found.findings)
    assert any("widen scales= beyond 1" in said for said in search(suite, scales=(1.0,)).findings)


def test_networks_made_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        found = search(SUITE)
        changed = mc.with_change(BASE, CUE)
        moved = mc.transplant(CUE, BASE, BASE, None)
    for model in (found.model, changed, moved.model):
        model.requires_grad_()
        model(torch.ones(2, 2)).sum().backward()
        assert model.get_parameter("weight").grad is not None


def test_a_value_at_another_scale_is_refused() -> None:
    found = search(SUITE)
    with pytest.raises(ValueError, match=r"no value of 'target' at scale 0.3; splits are kept, target, scales 0, 0.25"):
        found.value("target", 0.3)
    assert found.value("target", 0.25) == 1.0


def test_the_base_stays_as_it_is() -> None:
    before = {name: tensor.clone() for name, tensor in BASE.state_dict().items()}
    search(SUITE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in BASE.state_dict().items())
