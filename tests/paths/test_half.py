"""Paths between networks of bfloat16 and float16: mixed in float32, exact at the ends."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import build


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_of_half_width_are_mixed_in_float32_and_rounded_once(kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    points = [{"w": torch.randn(500, generator=generator).to(kind)} for _ in range(3)]
    a, bend, b = points
    line, curve = mc.LinearPath(a, b), mc.BezierPath(a, b, [bend])
    for path in (line, curve):
        for t, end in ((0.0, a), (1.0, b)):
            assert torch.equal(path.at(t)["w"], end["w"])
    for path, weights in ((line, (0.7, 0.0, 0.3)), (curve, (0.49, 0.42, 0.09))):
        exact = sum(weight * point["w"].double() for weight, point in zip(weights, points, strict=True))
        assert isinstance(exact, torch.Tensor)
        # one rounding to the type, of a mean in float32: of 500 numbers some lie so near a tie that they fall otherwise
        assert (path.at(0.3)["w"] != exact.to(kind)).sum() <= 2


def test_the_types_are_said() -> None:
    x, y = torch.ones(4, 2), torch.tensor([0, 1, 1, 0])
    suite = mc.Suite({"cue": (x, y)}, reference="cue")
    plain = build(lambda: nn.Linear(2, 2), dtype=torch.float32)
    networks = [build(lambda: nn.Linear(2, 2), seed, dtype=torch.bfloat16) for seed in range(2)]
    found = mc.evaluate_path(networks[0], mc.LinearPath.between(*networks), suite, 3)
    assert found.settings["mixed_in"] == "float32"
    assert str(found).startswith("linear path, 3 points in bfloat16, weights mixed in float32; barrier")
    single = mc.evaluate_path(plain, mc.LinearPath.between(plain, plain), suite, 3)
    assert "mixed_in" not in single.settings and str(single).startswith("linear path, 3 points in float32; barrier")
