"""Metrics of the user's: effects, intervals and verdicts on them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.stats import betting_interval, bound_paired_mean
from zoo import build

ROWS = 300
X = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(ROWS) % 3
SUITE = mc.Suite({"cue": (X, Y), "r": (X.flip(1), Y), "other": (X[:200] + 1, Y[:200])})


def model(seed: int = 0) -> nn.Module:
    return build(lambda: nn.Linear(4, 3), seed, dtype=torch.float32).eval()


def brier(z: Tensor, y: Tensor) -> Tensor:
    """Squared distance of the probabilities from the label, in [0, 2]."""
    return (z.softmax(1) - nn.functional.one_hot(y, 3)).square().sum(1)


METRICS: dict[str, Any] = {"brier": mc.Metric(brier, bounds=(0.0, 2.0)), "free": brier}


def test_effects_on_a_metric_stand_beside_the_others() -> None:
    net = model()
    found = mc.measure_invariance(net, SUITE, metrics=METRICS)
    plain = mc.measure_invariance(net, SUITE)
    values = {name: brier(net(x), y).double().detach() for name, (x, y) in (("cue", (X, Y)), ("r", (X.flip(1), Y)))}
    assert found.metrics["brier"]["cue"] == pytest.approx(float(values["cue"].mean()))
    assert found.metrics_interval["brier"]["cue"] == betting_interval(values["cue"].numpy(), (0.0, 2.0))
    assert found["r"].metrics["brier"].effect == pytest.approx(float((values["r"] - values["cue"]).mean()))
    moved = (values["r"] - values["cue"]).numpy()
    assert found["r"].metrics["brier"].interval == pytest.approx(betting_interval(moved, (-2.0, 2.0)), abs=1e-9)
    assert found["r"].metrics["free"].interval == pytest.approx(bound_paired_mean(values["cue"], values["r"]))
    assert (found["r"].accuracy, found["r"].interval, found["r"].verdict) == (
        plain["r"].accuracy, plain["r"].interval, plain["r"].verdict,
    )  # fmt: skip
    assert [note for note in found.notes if "intervals of free are Student's t, which is approximate" in note]
    loaded = mc.load_result(json.loads(found.to_json()))
    assert loaded == found and isinstance(loaded, mc.Invariance)
    assert loaded.effects["r"].metrics["brier"].effect == found["r"].metrics["brier"].effect


@pytest.mark.parametrize("name", METRICS)
def test_verdicts_on_a_metric(name: str) -> None:
    net = model()
    found = mc.measure_invariance(net, SUITE, 0.6, on=name, metrics=METRICS)
    beside = mc.measure_invariance(net, SUITE, metrics=METRICS)
    for split, effect in found.items():
        assert (effect.effect, effect.interval) == (
            beside[split].metrics[name].effect, beside[split].metrics[name].interval,
        )  # fmt: skip
        assert effect.verdict == "invariant" and effect.adjusted_p_value <= 0.05
    tight = mc.measure_invariance(net, SUITE, 1e-4, on=name, metrics=METRICS)
    assert tight["r"].verdict == "undetermined" and tight["r"].to_settle is not None and tight["r"].to_settle > ROWS


def test_metrics_in_comparisons_maps_audits_and_paths() -> None:
    a, b = model(), model(1)
    compared = mc.compare_mechanisms(a, b, SUITE, 0.6, "brier", metrics=METRICS)
    gap = [(brier(m(X.flip(1)), Y) - brier(m(X), Y)).detach() for m in (a, b)]
    assert compared.differences["r"].effect == pytest.approx(float((gap[1] - gap[0]).mean()), abs=1e-6)
    low, high = compared.differences["r"].interval
    assert low < compared.differences["r"].effect < high
    mapped = mc.mechanism_map({"a": a, "b": b}, SUITE, 0.6, "brier", ts=3, metrics=METRICS)
    assert mapped.distance[0][1] == pytest.approx(max(abs(d.effect) for d in compared.differences.values()))
    audit = mc.audit(a, b, SUITE, on="brier", margin=0.6, ts=3, metrics=METRICS)
    assert audit.verdict == compared.verdict and "of brier" in str(audit)
    assert mc.load_result(audit.to_dict()).to_dict() == audit.to_dict()
    profile = audit.paths["before"]
    assert profile.bounds == {"brier": (0.0, 2.0)}
    assert profile.barrier("cue", "brier").interval is not None
    runs = mc.compare_mechanisms([a, model(2)], [b, model(3)], SUITE, 0.6, "brier", metrics=METRICS)
    assert runs.a.metrics["brier"]["cue"] == pytest.approx(sum(run.metrics["brier"]["cue"] for run in runs.runs_a) / 2)


def test_what_a_metric_must_be() -> None:
    net = model()
    with pytest.raises(
        ValueError, match="on must be one of 'accuracy', 'loss', 'brier', got 'brie'; did you mean 'brier'"
    ):
        mc.measure_invariance(net, SUITE, on="brie", metrics={"brier": brier})
    with pytest.raises(ValueError, match="'loss' is the name of a column already"):
        mc.measure_invariance(net, SUITE, metrics={"loss": brier})
    with pytest.raises(ValueError, match=r"a metric gave values in .* outside its bounds \[0, 0\.1\]"):
        mc.measure_invariance(net, SUITE, metrics={"brier": mc.Metric(brier, bounds=(0.0, 0.1))})
    with pytest.raises(ValueError, match=r"bounds of a metric must be \(low, high\)"):
        mc.Metric(brier, bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"margin must be below 2, the range of the metric 'brier'"):
        mc.measure_invariance(net, SUITE, 2.0, on="brier", metrics=METRICS)
    with pytest.raises(ValueError, match="metric 'mean' must give one value per sample"):
        mc.measure_invariance(net, SUITE, metrics={"mean": lambda z, y: brier(z, y).mean()})
    with pytest.raises(ValueError, match="the metric 'log' is -inf on row"):
        mc.measure_invariance(net, SUITE, on="log", metrics={"log": lambda z, y: torch.where(y == 1, -torch.inf, 0.0)})
