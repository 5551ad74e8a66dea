"""Looks at values of the input: other answers lead nowhere else, are read as well, or are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.check import built, largest_change
from symmetry.export_nets import Function, Net, X

LOW = -X
"""An example at which nothing is above 0."""


def net(function: Function) -> nn.Module:
    return built(lambda: Net(function))


def turn(net: Net, x: Tensor, ordered: Any) -> Tensor:
    """The units, read in their order where that is said."""
    h = net.units(x)
    return net.b(h.cumsum(-1) if ordered else h)


def on_one_line(net: Net, x: Tensor) -> Tensor:
    return turn(net, x, bool(x[0, 0] > 0) and bool(x[0, 1] > 0) and bool(x[0, 2] > 0))


def computed_first(net: Net, x: Tensor) -> Tensor:
    a, b = bool(x[0, 0] > 0), bool(x[0, 1] > 0)
    return turn(net, x, a and b)


def in_a_loop(net: Net, x: Tensor) -> Tensor:
    flag = True
    for i in range(3):
        flag &= bool(x[0, i] > 0)
    return turn(net, x, flag)


def one_of_them_not(net: Net, x: Tensor) -> Tensor:
    a, b, c = bool(x[0, 0] > 0), bool(x[0, 1] > 0), bool(x[0, 2] > 0)
    return turn(net, x, (a, b, c) == (True, False, True))


def an_odd_number(net: Net, x: Tensor) -> Tensor:
    flag = False
    for i in range(2):
        flag ^= bool(x[0, i] > 0)
    return turn(net, x, flag)


def raises_alone(net: Net, x: Tensor) -> Tensor:
    a, b = bool(x[0, 0] > 0), bool(x[0, 1] > 0)
    if a and not b:
        raise ValueError("neither or both")
    return turn(net, x, a)


def another_tensor(net: Net, x: Tensor) -> Tensor:
    """The same operations, of hidden units or of the input."""
    units, other = net.units(x), torch.relu(x[:, :1].repeat(1, 6))
    return net.b((other if bool(x[0, 0] <= 0) else units).cumsum(-1)) + net.b(units)


def turns(net: Net, x: Tensor, number: int, ordered: bool) -> Tensor:
    h = net.units(x)
    for _ in range(number):
        h = h.cumsum(-1) if ordered else h
    return net.b(h)


def count(x: Tensor) -> Any:
    return (x[:, 0] > 0).sum()


FOUND: dict[str, Function] = {
    "on one line": on_one_line,
    "computed first": computed_first,
    "in a loop": in_a_loop,
    "one of them not": one_of_them_not,
    "an odd number": an_odd_number,
    "raises alone": raises_alone,
    "another tensor": another_tensor,
    "a flag in as many turns": lambda net, x: turns(net, x, count(x).item(), bool(x[0, 1] > 0)),
    "a number": lambda net, x: turn(net, x, count(x).item() == 3),
    "what is computed of a number": lambda net, x: turn(net, x, 2 * (count(x).item() + 1) // 2 - 1 == 3),
    "a fraction": lambda net, x: turn(net, x, count(x).item() / 4 == 0.75),
    "a truth value as a number": lambda net, x: turn(net, x, int((x > 0).all()) == 1),
}
"""The units are read in their order for some inputs, of which the example is none."""

HIDDEN: dict[str, tuple[Function, str]] = {
    "int": (lambda net, x: turn(net, x, int(count(x)) == 3), r"int\(\) in test_looks"),
    "float": (lambda net, x: turn(net, x, float(count(x)) == 3.0), r"float\(\) in test_looks"),
    "int of a number": (lambda net, x: turn(net, x, int(count(x).item()) == 3), r"int\(\) in test_looks"),
    "a lookup": (lambda net, x: turn(net, x, {3: True}.get(count(x).item())), "a lookup of a number in test_looks"),
    "a set": (lambda net, x: turn(net, x, count(x).item() in {3, 30}), "a lookup of a number in test_looks"),
    "a text": (lambda net, x: turn(net, x, f"{count(x).item()}" == "3"), r"format\(\) in test_looks"),
    "eight looks": (lambda net, x: turn(net, x, sum([bool(v) for v in x.flatten()[:8] > 0]) == 5), "not every other"),
}
"""What leads to that is hidden, or too much."""


@pytest.mark.parametrize("name", FOUND)
def test_what_other_answers_lead_to_is_found_out(name: str) -> None:
    symmetry = mc.symmetry_of(net(FOUND[name]), LOW)
    assert symmetry.sizes == {} and symmetry.assumed


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_not_tried_is_refused_or_assumed(name: str) -> None:
    function, why = HIDDEN[name]
    model = net(function)
    with pytest.raises(ValueError, match=why) as caught:
        mc.symmetry_of(model, LOW)
    assert "\n" not in str(caught.value) and "write .item() in place of int()" in str(caught.value)
    symmetry = mc.symmetry_of(model, LOW, assume=True)
    assert symmetry.sizes == {"a": 6} and any("assumed to be as on the example" in text for text in symmetry.assumed)
    symmetry.verify(model)
    assert largest_change(model, LOW, symmetry) <= 1e-9


def test_item_in_place_of_int_is_read() -> None:
    """The remedy that the refusal names; units that no answer reads in their order are found."""
    with pytest.raises(ValueError, match=r"write \.item\(\) in place of int"):
        mc.symmetry_of(net(lambda net, x: net.b(net.units(x if int(count(x)) == 3 else 2 * x))), LOW)
    model = net(lambda net, x: net.b(net.units(x if count(x).item() == 3 else 2 * x)))
    symmetry = mc.symmetry_of(model, LOW)
    assert symmetry.sizes == {"a": 6}
    symmetry.verify(model)
    three = X * torch.tensor([1.0, -1.0, 1.0, 1.0])[:, None]
    assert largest_change(model, three, symmetry) <= 1e-9


def test_layers_that_ask_the_same_question_get_one_answer() -> None:
    """Twelve looks, each at a mask that is made anew of the same input."""

    def layered(net: Net, x: Tensor) -> Tensor:
        h = net.units(x)
        for _ in range(12):
            if not (x > -1e9).all():
                h = h * (x[:, :1] > -1e9)
        return net.b(h)

    model = net(layered)
    symmetry = mc.symmetry_of(model, LOW)
    assert symmetry.sizes == {"a": 6} and len(symmetry.assumed) == 1
    symmetry.verify(model)


def test_a_mask_that_is_written_into_is_another_question() -> None:
    def written(net: Net, x: Tensor) -> Tensor:
        mask = x[:, 0] > 0
        first = bool(mask.any())
        mask[0] = x[0, 1] > 0
        return turn(net, x, bool(mask.any()) and not first)

    assert mc.symmetry_of(net(written), LOW).sizes == {}


class Swapped(nn.Module):
    """Two layers of one shape, one of which is read in its order: the second one for some inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.one, self.two = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.b, self.a) if bool(x[0, 0] > 0) else (self.a, self.b)
        return self.one(first(x).relu().cumsum(1)) + self.two(second(x).relu())


def test_another_layer_of_the_same_shape_is_another_path() -> None:
    symmetry = mc.symmetry_of(built(Swapped), LOW)
    assert "was read as well" in symmetry.assumed[0] and symmetry.sizes == {}
