"""ResNet-18: its size by counting, its order by watching it run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.models import BasicBlock

STAGES = (64, 128, 256, 512)


def convolution_and_norm(a: int, b: int, side: int) -> int:
    return side * side * a * b + 2 * b


@pytest.mark.parametrize("classes", [10, 100])
def test_number_of_parameters(classes: int) -> None:
    expected = convolution_and_norm(3, 64, 3) + (512 + 1) * classes
    before = 64
    for width in STAGES:
        expected += convolution_and_norm(before, width, 3) + 3 * convolution_and_norm(width, width, 3)
        expected += convolution_and_norm(before, width, 1) if before != width else 0
        before = width
    count = sum(parameter.numel() for parameter in mc.models.resnet18(classes, seed=0).parameters())
    assert count == expected
    assert classes != 10 or count == 11_173_962


@pytest.mark.parametrize("factory", [mc.models.vgg13, mc.models.resnet18, mc.models.small_convnet])
def test_parameters_stand_in_forward_order(factory: object) -> None:
    model: nn.Module = factory(seed=0).eval()  # type: ignore[operator]
    names = {module: name for name, module in model.named_modules()}
    called: list[str] = []
    for module in model.modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda layer, args, output: called.append(names[layer]))
    model(torch.zeros(1, 3, 32, 32))
    listed = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))
    assert called == listed


def test_only_a_change_of_shape_has_a_shortcut_convolution() -> None:
    blocks = [m for m in mc.models.resnet18(seed=0).modules() if isinstance(m, BasicBlock)]
    assert [len(block.shortcut) for block in blocks] == [0, 0, 2, 0, 2, 0, 2, 0]


def test_a_block_whose_branch_is_zero_is_its_shortcut() -> None:
    with isolate_rng(0, "block"):
        block = BasicBlock(4, 4, 1).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.linspace(-1, 1, 4 * 25).view(1, 4, 5, 5)
    assert torch.equal(block(x), x.relu())


def test_side_halves_three_times() -> None:
    model, shapes = mc.models.resnet18(seed=0).eval(), []
    for module in model.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda layer, args, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(64, 32, 32)] * 2 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2
