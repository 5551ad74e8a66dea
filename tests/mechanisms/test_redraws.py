"""Suites with several draws of a split: how they are drawn, and what they refuse."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from lookup import Copier, outcomes, right
from mechconn.datasets import Planted, PlantedCue
from mechconn.datasets._suite import make_cue_suite, make_cued_set


def test_a_cue_suite_draws_anew() -> None:
    spec = Planted()
    scenes = make_cued_set(spec.sample(200, seed=0), PlantedCue(spec))
    once, often, again = (make_cue_suite(scenes, 3, draws) for draws in (1, 4, 4))
    assert once.redraws == {"rand_cue": (), "rand_image": ()}
    for name, values in (("rand_cue", "cue_values"), ("rand_image", "content_rows")):
        drawn, repeated = ([getattr(d, values) for d in (s[name], *s.redraws[name])] for s in (often, again))
        assert torch.equal(drawn[0], getattr(once[name], values))  # more draws change no split
        assert all(torch.equal(a, b) for a, b in zip(drawn, repeated, strict=True))
        assert len(drawn) == 4
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
        assert all(torch.equal(d.y, once["cue"].y) for d in often.redraws[name])  # pyright: ignore


def test_functions_are_drawn_anew() -> None:
    data = torch.zeros(50, 1), torch.zeros(50, dtype=torch.int64)
    functions: dict[str, Any] = {
        "noisy": lambda x, draws: x + draws.uniform("noise")[:, None],
        "no_cue": lambda x, _: x,
    }
    suite, once = (mc.intervened(data, functions, seed=3, draws=draws) for draws in (3, 1))
    index = torch.arange(50)
    seen = [source.inputs(index) for source in (suite["noisy"], *suite.redraws["noisy"])]  # pyright: ignore
    assert len(seen) == 3 and set(suite.redraws) == {"noisy"} and not once.redraws["noisy"]
    assert torch.equal(seen[0], once["noisy"].inputs(index))  # pyright: ignore
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize(
    ("counts", "labels", "text"),
    [
        ((3, 2), [0, 0], "draw 2 of split 'rand_cue' has 2 rows and the split 3"),
        ((3, 3), [0, 0, 1], "draw 2 of split 'rand_cue' has 3 rows and the split 3, or labels in another"),
    ],
)
def test_draws_of_other_rows(counts: tuple[int, int], labels: list[int], text: str) -> None:
    data, (x, _) = outcomes(right(2, counts[0])), outcomes(right(2, counts[1]))
    suite = mc.Suite({"cue": data, "rand_cue": data}, redraws={"rand_cue": [(x, torch.tensor(labels))]})
    with pytest.raises(ValueError, match=text):
        mc.measure_invariance(Copier(), suite)


def test_what_is_wrong_with_a_draw_names_it() -> None:
    class Reader(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.expand(-1, 3)

    good, bad = (torch.full((2, 1), value) for value in (0.0, 3e38))
    y = torch.zeros(2, dtype=torch.int64)
    suite = mc.Suite({"cue": (good, y), "rand_cue": (good, y)}, redraws={"rand_cue": [(good, y), (bad * 10, y)]})
    with pytest.raises(ValueError, match="draw 3 of split 'rand_cue'"):
        mc.measure_invariance(Reader(), suite)


@pytest.mark.parametrize(
    ("redraws", "error", "text"),
    [
        ({"cue": []}, ValueError, "redraws"),
        ({"no_cue": []}, ValueError, "redraws"),
        ({"rand_cue": [iter([])]}, TypeError, "draw 2 of split 'rand_cue'"),
        ([], TypeError, "redraws"),
        ({"rand_cue": None}, TypeError, "redraws"),
        ({"rand_cue": outcomes(right(3, 5))}, TypeError, "each element of a list is one whole draw"),
    ],
)
def test_draws_that_cannot_be(redraws: Any, error: type[Exception], text: str) -> None:
    data = outcomes(right(3, 5))
    with pytest.raises(error, match=text):
        mc.Suite({"cue": data, "no_cue": data, "rand_cue": data}, redraws=redraws)


def test_draws_of_a_suite_without_interventions() -> None:
    with pytest.raises(ValueError, match="redraws needs interventions"):
        mc.Suite({"cue": outcomes(right(3, 5))}, redraws={"rand_cue": []})


def test_no_draw_at_all() -> None:
    with pytest.raises(ValueError, match="draws"):
        mc.datasets.cue_task("planted", rows=40, test_rows=40, draws=0)
