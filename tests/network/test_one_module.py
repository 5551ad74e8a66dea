"""Whether two models are one module with other parameters and statistics; what is said where they are not."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, leaky_relu, relu
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from mechconn.core import isolate_rng
from mechconn.network import (
    check_one_module,
    explain_differences,
    find_power_iterations,
    parameters_of,
    renew_power_iteration,
    with_parameters,
)
from zoo import build, dropout_mlp, mlp, norm_mlp, rows


@pytest.fixture(autouse=True)
def _own_random_numbers() -> Iterator[None]:
    with isolate_rng(0, "one module"):
        yield


NOT_ONE = "A and B are not one module with different parameters and statistics: "


class Reader(nn.Module):
    """An embedding, a head, a counter, and what else a layer may hold."""

    def __init__(self, vocab: int = 64, **held: Any) -> None:
        super().__init__()
        self.e, self.h = nn.Embedding(vocab, 8), nn.Linear(8, 2)
        self.register_buffer("steps", torch.tensor(0))
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, i: Tensor) -> Tensor:
        return self.h(self.e(i).mean(1))


def with_buffer(**buffers: Tensor) -> nn.Module:
    layer = nn.Linear(2, 2)
    for name, buffer in buffers.items():
        layer.register_buffer(name, buffer)
    return nn.Sequential(layer)


def later(model: nn.Module) -> nn.Module:
    result = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*result.parameters(), *result.buffers()):
            tensor.add_(1)
    return result


@dataclass
class Settings:
    act: str = "relu"
    hidden_dropout_prob: float = 0.1
    torch_dtype: str = "float32"
    width: int = 3


class Config:
    """As transformers' configurations."""

    width = 3

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: factor * x


def redefined(slope: float) -> type[nn.Module]:
    """A class of one name whose forward pass depends on the text that was run."""
    space: dict[str, Any] = {"nn": nn, "__name__": "notebook"}
    exec(f"class Own(nn.Linear):\n    def forward(self, x):\n        return {slope} * super().forward(x)", space)
    return space["Own"]


def quantised(kind: torch.dtype) -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 2).to(kind), requires_grad=False)
    return nn.Sequential(layer, nn.Linear(2, 2))


class Keeping(nn.Linear):
    """A constant, and what forward passes leave, each in its own way."""

    def __init__(self, value: float = 1.0, run: int = 0) -> None:
        super().__init__(2, 2)
        self.set_mask(value)
        self.last, self.table, self.seen = None, torch.zeros(2), [torch.zeros(2)]
        self.cache: dict[str, Tensor] = {}
        if run:
            self(torch.full((1, 2), float(run)))

    def set_mask(self, value: float) -> None:
        self.mask = torch.full((2,), value)

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input) * self.mask
        self.last = out.detach()
        self.note(out.detach()[0])
        return out

    def note(self, row: Tensor) -> None:
        cache = self.cache
        cache["row"] = row
        self.seen[0] = row
        self.table.copy_(row)
        self.__dict__["further"] = row
        setattr(self, "more", row)  # noqa: B010


def masked_by(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: mask * x


def viewed() -> nn.Module:
    layer = nn.Linear(2, 2)
    return held_by(layer, first=layer.weight.detach()[0], double=2 * layer.weight)


def held_by(layer: nn.Module, **held: Any) -> nn.Module:
    for name, value in held.items():
        setattr(layer, name, value)
    return layer


def hooked() -> nn.Module:
    layer = nn.utils.spectral_norm(nn.Linear(2, 2))
    with torch.no_grad():
        layer(torch.zeros(1, 2))
    return layer


def noting(run: int) -> nn.Module:
    layer = nn.Linear(2, 2)

    def note(module: Any, args: Any, output: Tensor) -> None:
        module.noted = output.detach()

    layer.register_forward_hook(note)
    layer(torch.full((run, 2), 1.0))
    return layer


def linear(**held: Any) -> nn.Module:
    return held_by(nn.Linear(2, 2), **held)


def lazily(run: bool) -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(2))
    if run:
        model(torch.zeros(1, 3))
    return model


def tied(both: bool) -> nn.Module:
    model = nn.ModuleDict({"words": nn.Linear(3, 3, bias=False), "head": nn.Linear(3, 3, bias=False)})
    if both:
        model["head"].weight = model["words"].weight
    return model


# What the text says of each pair; None where it is empty.
CASES: dict[str, tuple[Callable[[], tuple[nn.Module, nn.Module]], str | None]] = {
    # parameters
    "no parameters": (lambda: (nn.ReLU(), nn.ReLU()), "A has no parameters; B has no parameters"),
    "no parameters in one": (
        lambda: (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Linear(1, 1, bias=False))),
        "A has no parameters; 0.weight: only in B (float32[1, 1]); 0: ReLU and Linear",
    ),
    "bytes": (lambda: (quantised(torch.uint8), quantised(torch.uint8)), "0.weight: quantised (uint8)"),
    "bytes in one": (lambda: (quantised(torch.int8), quantised(torch.float32)), "0.weight: quantised (int8) in A"),
    "whole numbers": (
        lambda: (quantised(torch.int64), quantised(torch.int64)),
        "0.weight: a parameter of whole numbers (int64)",
    ),
    "eight bits, floating": (
        lambda: (quantised(torch.float32), quantised(torch.float8_e4m3fn)),
        "0.weight: quantised (float8_e4m3fn) in B",
    ),
    "lazy": (
        lambda: (lazily(False), lazily(True)),
        "0.weight: not initialised (a lazy module; run the model once on a batch) in A; "
        "0.bias: not initialised (a lazy module; run the model once on a batch) in A",
    ),
    "no values": (
        lambda: (nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False, device="meta")),
        "weight: without values (on the device meta) in B",
    ),
    "names": (
        lambda: (nn.Linear(2, 1), nn.Linear(2, 1, bias=False)),
        "bias: only in A (float32[1])",
    ),
    "tied in one": (
        lambda: (tied(False), tied(True)),
        "head.weight: only in A (float32[3, 3]; shared with words.weight in B)",
    ),
    "shapes": (lambda: (Reader(), Reader(66)), "e.weight: float32[64, 8] and float32[66, 8]"),
    "number types": (
        lambda: (nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False).double()),
        "weight: float32[1, 2] and float64[1, 2]",
    ),
    # buffers
    "a counter": (lambda: (Reader(), later(Reader())), "steps: 0 and 1; ignore=('steps',) leaves it out"),
    "a buffer in one": (
        lambda: (with_buffer(mask=torch.ones(2)), with_buffer()),
        "0.mask: only in A (float32[2])",
    ),
    "a longer buffer": (
        lambda: (with_buffer(places=torch.arange(3)), with_buffer(places=torch.arange(4))),
        "0.places: int64[3] and int64[4]",
    ),
    "a mask": (
        lambda: (with_buffer(mask=torch.ones(3, 3).tril()), with_buffer(mask=torch.ones(3, 3))),
        "0.mask: float32[3, 3], 3 of 9 values differ",
    ),
    "a temperature": (
        lambda: (with_buffer(t=torch.tensor(0.5)), with_buffer(t=torch.tensor(0.25))),
        "0.t: 0.5 and 0.25",
    ),
    "the last bit": (
        lambda: (with_buffer(t=torch.tensor([1.0])), with_buffer(t=torch.tensor([1.0 + 2**-23]))),
        "0.t: [1.0] and [1.0000001192092896]",
    ),
    "NaN": (lambda: (with_buffer(t=torch.tensor(torch.nan)), with_buffer(t=torch.tensor(torch.nan))), None),
    "one of two is NaN": (
        lambda: (with_buffer(t=torch.tensor(torch.nan)), with_buffer(t=torch.tensor(1.0))),
        "0.t: nan and 1",
    ),
    "statistics": (lambda: (build(norm_mlp, 0), later(build(norm_mlp, 1))), None),
    "statistics of no layer": (
        lambda: (with_buffer(running_loss=torch.tensor(1.0)), with_buffer(running_loss=torch.tensor(2.0))),
        "0.running_loss: 1 and 2",
    ),
    "spectral norm": (lambda: (spectral_norm(nn.Linear(4, 4)), spectral_norm(nn.Linear(4, 4))), None),
    "spectral norm, by hooks": (
        lambda: (nn.utils.spectral_norm(nn.Linear(4, 4)), nn.utils.spectral_norm(nn.Linear(4, 4))),
        None,
    ),
    "spectral norm of a product": (
        lambda: (
            with_vectors(spectral_norm(weight_norm(nn.Linear(3, 3))), 0.0),
            with_vectors(spectral_norm(weight_norm(nn.Linear(3, 3))), 1.0),
        ),
        "parametrizations.weight.1._u: [0, 0, 0] and [1, 1, 1]; parametrizations.weight.1._v: [0, 0, 0] and [1, 1, 1]",
    ),
    # layers
    "the same": (lambda: (mlp(), later(mlp())), None),
    "kinds of layers": (
        lambda: (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.GELU())),
        "1: ReLU and GELU",
    ),
    "settings of a layer": (
        lambda: (nn.Sequential(nn.Conv2d(1, 1, 3)), nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))),
        "0.padding: [0, 0] and [1, 1]; 0._reversed_padding_repeated_twice: [0, 0, 0, 0] and [1, 1, 1, 1]",
    ),
    "a layer more": (
        lambda: (nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
        "1: only in B (ReLU)",
    ),
    "a block more": (
        lambda: (
            nn.Sequential(nn.Linear(2, 2)),
            nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.ReLU())),
        ),
        "1: only in B (Sequential)",
    ),
    "dropout": (
        lambda: (
            nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Identity()),
            nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout(0.5), nn.Dropout(0.5), nn.Dropout()),
        ),
        None,
    ),
    "dropout of a recurrent layer": (
        lambda: (nn.LSTM(2, 2, 2, dropout=0.1), nn.LSTM(2, 2, 2, dropout=0.3)),
        None,
    ),
    "modes": (lambda: (build(dropout_mlp).train(), build(dropout_mlp).eval()), None),
    "what training alone uses": (
        lambda: (
            nn.Sequential(nn.BatchNorm1d(2, momentum=0.1), nn.ReLU(inplace=True)),
            nn.Sequential(nn.BatchNorm1d(2, momentum=0.2), nn.ReLU()),
        ),
        None,
    ),
    "one function": (lambda: (linear(act=relu), linear(act=relu)), None),
    "functions": (
        lambda: (linear(act=relu), linear(act=gelu)),
        "act: relu and gelu",
    ),
    "functions of one name": (
        lambda: (linear(act=relu), linear(act=torch.relu)),
        "act: torch.nn.functional.relu and torch._VariableFunctionsClass.relu",
    ),
    "partials": (
        lambda: (
            linear(act=functools.partial(leaky_relu, negative_slope=0.1)),
            linear(act=functools.partial(leaky_relu, negative_slope=0.2)),
        ),
        "act: leaky_relu with negative_slope=0.1 and leaky_relu with negative_slope=0.2",
    ),
    "one partial": (
        lambda: (
            linear(act=functools.partial(leaky_relu, negative_slope=0.1)),
            linear(act=functools.partial(leaky_relu, negative_slope=0.1)),
        ),
        None,
    ),
    "lambdas of one code": (lambda: (linear(act=lambda x: x + 1), linear(act=lambda x: x + 1)), None),
    "lambdas with other closures": (
        lambda: (linear(act=scaled(1.0)), linear(act=scaled(2.0))),
        f"act: the lambda in line {scaled.__code__.co_firstlineno + 1} in both, with different code or settings",
    ),
    "lambdas with one closure": (lambda: (linear(act=scaled(2.0)), linear(act=scaled(2.0))), None),
    "numbers": (lambda: (linear(scale=1.0), linear(scale=2.0)), "scale: 1.0 and 2.0"),
    "numbers that are NaN": (lambda: (linear(scale=torch.nan), linear(scale=torch.nan)), None),
    "texts": (
        lambda: (linear(mode="a"), linear(mode="b")),
        "mode: 'a' and 'b'",
    ),
    "flags": (
        lambda: (linear(residual=True), linear(residual=False)),
        "residual: True and False",
    ),
    "lists": (
        lambda: (linear(acts=[relu, 1]), linear(acts=[relu, 2])),
        "acts: [relu, 1] and [relu, 2]",
    ),
    "classes": (
        lambda: (linear(act=nn.ReLU), linear(act=nn.GELU)),
        "act: ReLU and GELU",
    ),
    "an attribute in one": (
        lambda: (linear(scale=2), linear()),
        "scale: only in A (2)",
    ),
    "dictionaries": (
        lambda: (linear(cfg={"act": {"kind": "a"}}), linear(cfg={"act": {"kind": "b"}})),
        "cfg.act.kind: 'a' and 'b'",
    ),
    "settings": (
        lambda: (linear(cfg=Settings(width=3)), linear(cfg=Settings(width=4))),
        "cfg.width: 3 and 4",
    ),
    "namespaces": (
        lambda: (linear(cfg=SimpleNamespace(width=3)), linear(cfg=SimpleNamespace(width=4))),
        "cfg.width: 3 and 4",
    ),
    "settings that do not count": (
        lambda: (
            linear(config=Config(_name_or_path="a", torch_dtype="x", transformers_version="4", hidden_dropout_prob=0)),
            linear(config=Config(_name_or_path="b", torch_dtype="y", transformers_version="5", hidden_dropout_prob=1)),
        ),
        None,
    ),
    "defaults of the class": (lambda: (linear(config=Config(width=3)), linear(config=Config())), None),
    "private notes in one": (lambda: (linear(_noted=1), linear()), None),
    "private numbers": (lambda: (linear(_k=1), linear(_k=2)), "_k: 1 and 2"),
    "other objects": (lambda: (linear(__x=1, sink=object()), linear(__x=2, sink=object())), None),
    # tensors that are neither parameters nor buffers
    "tensors": (
        lambda: (linear(mask=torch.tensor([1.0, 0.0])), linear(mask=torch.tensor([0.0, 0.5]))),
        "mask: [1, 0] and [0, 0.5]",
    ),
    "equal tensors": (
        lambda: (linear(mask=torch.tensor([torch.nan, 2])), linear(mask=torch.tensor([torch.nan, 2]))),
        None,
    ),
    "large tensors": (
        lambda: (linear(mask=torch.zeros(3, 3)), linear(mask=torch.eye(3))),
        "mask: float32[3, 3], 3 of 9 values differ",
    ),
    "shapes of tensors": (
        lambda: (linear(mask=torch.zeros(2)), linear(mask=torch.zeros(1, 2))),
        "mask: float32[2] and float32[1, 2]",
    ),
    "number types of tensors": (
        lambda: (linear(mask=torch.zeros(2)), linear(mask=torch.zeros(2).long())),
        "mask: float32[2] and int64[2]",
    ),
    "arrays": (
        lambda: (linear(mask=np.array([True, False])), linear(mask=np.array([True, True]))),
        "mask: [True, False] and [True, True]",
    ),
    "arrays of texts": (lambda: (linear(names=np.array(["a"])), linear(names=np.array(["b"]))), None),
    "a tensor in one": (
        lambda: (linear(mask=None), linear(mask=torch.ones(2))),
        "mask: None and float32[2]",
    ),
    "an attribute with a tensor in one": (
        lambda: (linear(mask=torch.ones(2)), linear()),
        "mask: only in A (float32[2])",
    ),
    "tensors in lists": (
        lambda: (linear(masks=[torch.zeros(2)]), linear(masks=[torch.ones(2)])),
        "masks: [float32[2]] in both, with different values",
    ),
    "tensors in dictionaries": (
        lambda: (linear(cfg={"mask": torch.zeros(2)}), linear(cfg={"mask": torch.ones(2)})),
        "cfg.mask: [0, 0] and [1, 1]",
    ),
    "tensors in closures": (
        lambda: (linear(act=masked_by(torch.zeros(2))), linear(act=masked_by(torch.ones(2)))),
        f"act: the lambda in line {masked_by.__code__.co_firstlineno + 1} in both, with different code or settings",
    ),
    "parameters in lists": (
        lambda: (linear(own=[nn.Parameter(torch.zeros(1))]), linear(own=[nn.Parameter(torch.ones(1))])),
        "own: [float32[1]] in both, with different values",
    ),
    "a constant of the class's making": (
        lambda: (Keeping(1.0), Keeping(2.0)),
        "mask: [1, 1] and [2, 2]",
    ),
    "views of weights": (lambda: (viewed(), viewed()), None),
    "weights of recurrent layers": (lambda: (build(lambda: nn.GRU(2, 2), 0), build(lambda: nn.GRU(2, 2), 1)), None),
    "weights that hooks make": (lambda: (hooked(), hooked()), None),
    "values of the last forward pass": (lambda: (Keeping(run=1), Keeping(run=2)), None),
    "values of the last forward pass in one": (lambda: (Keeping(run=1), Keeping()), None),
    "what a hook noted": (lambda: (noting(1), noting(2)), None),
    "a class that was run again": (lambda: (redefined(2.0)(2, 2), redefined(2.0)(2, 2)), None),
    "a class that was changed": (
        lambda: (redefined(2.0)(2, 2), redefined(3.0)(2, 2)),
        "the module: Own in both, with different code or settings",
    ),
    # wrappers
    "averaged": (lambda: (mlp(), AveragedModel(later(mlp()))), None),
    "parallel": (lambda: (nn.DataParallel(mlp()), mlp()), None),
    "compiled": (lambda: (mlp(), compiled(mlp())), None),
}


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # pyright: ignore[reportReturnType]


def with_vectors(layer: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for buffer in layer.buffers():
            buffer.fill_(value)
    return layer


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_said(case: str) -> None:
    make, said = CASES[case]
    a, b = make()
    found = explain_differences(a, b)
    if said is None:
        assert found == ""
        check_one_module(a, b)
        assert explain_differences(b, a) == ""
    else:
        assert found == said
        with pytest.raises(ValueError) as error:
            check_one_module(a, b)
        assert str(error.value) == NOT_ONE + said
        assert explain_differences(b, a) != ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning")
def test_packed_weights_are_quantised() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    packed = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert explain_differences(packed, packed) == "0: quantised (qint8)"
    assert explain_differences(packed, model) == "0: quantised (qint8) in A"


def test_own_names_for_the_two() -> None:
    with pytest.raises(ValueError, match=r"^old and new are not one module .*: bias: only in old \(float32\[1\]\)$"):
        check_one_module(nn.Linear(2, 1), nn.Linear(2, 1, bias=False), names=("old", "new"))


def test_eight_are_named_and_the_others_counted() -> None:
    a, b = (nn.Sequential(*(nn.Linear(n, 1, bias=False) for _ in range(11))) for n in (2, 3))
    named = "; ".join(f"{i}.weight: float32[1, 2] and float32[1, 3]" for i in range(8))
    assert explain_differences(a, b) == f"{named}; and 3 more"
    assert explain_differences(a[:8], b[:8]) == named  # pyright: ignore[reportIndexIssue]


# ---------------------------------------------------------------- ignore


@pytest.mark.parametrize("name", ["steps", "0.steps"])
def test_a_buffer_is_left_out(name: str) -> None:
    a = nn.Sequential(Reader())
    assert explain_differences(a, later(a), ignore=(name,)) == ""


@pytest.mark.parametrize("name", ["0.cfg.act", "act", "0.cfg", "cfg"])
def test_an_attribute_is_left_out(name: str) -> None:
    a, b = (nn.Sequential(linear(cfg={"act": value})) for value in (1, 2))
    assert explain_differences(a, b, ignore=[name]) == ""


def test_others_are_still_seen() -> None:
    a, b = Reader(act=relu), later(Reader(act=gelu))
    assert explain_differences(a, b, ignore=("steps",)) == "act: relu and gelu"
    assert explain_differences(a, b) == "steps: 0 and 1; act: relu and gelu"


def test_a_last_part_that_two_share_is_given_in_full() -> None:
    a = nn.Sequential(Reader(), Reader())
    assert explain_differences(a, later(a)).endswith("ignore=('0.steps', '1.steps') leaves them out")


@pytest.mark.parametrize("name", ["mask", "0.mask"])
def test_a_tensor_that_is_no_buffer_is_left_out(name: str) -> None:
    a, b = (nn.Sequential(linear(mask=torch.tensor(value))) for value in (1.0, 2.0))
    assert explain_differences(a, b) == "0.mask: 1 and 2"
    assert explain_differences(a, b, ignore=(name,)) == ""


def test_only_values_can_be_left_out() -> None:
    a, b = with_buffer(places=torch.arange(3)), with_buffer(places=torch.arange(4))
    assert explain_differences(a, b, ignore=("places",)) == "0.places: int64[3] and int64[4]"


def test_an_unknown_name_is_refused() -> None:
    a = Reader(act=relu)
    with pytest.raises(ValueError, match=r"^ignore: 'step' is no buffer and no attribute of .*; near names: steps"):
        explain_differences(a, a, ignore=("step",))
    with pytest.raises(ValueError, match=r"^ignore: 'e.weight' is no buffer and no attribute"):
        check_one_module(a, a, ignore=("e.weight",))
    with pytest.raises(TypeError, match="ignore must be a tuple or a list, got 'steps'"):
        explain_differences(a, a, ignore="steps")


# ---------------------------------------------------------------- outputs


def outputs_of(a: nn.Module, b: nn.Module) -> Callable[[], tuple[Tensor, Tensor]]:
    x = rows(8)[0]
    return lambda: (with_parameters(a, parameters_of(b))(x).detach(), b(x).detach())


class Elu(nn.Module):
    """A layer of the user's that computes what torch's does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.exp() - 1)


def test_outputs_decide() -> None:
    def around(layer: nn.Module) -> nn.Module:
        return build(lambda: nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 3)), 0)

    a, same, other = around(nn.ELU()), around(Elu()), around(nn.Tanh())
    assert explain_differences(a, same) == "1: ELU and Elu"
    assert explain_differences(a, same, outputs=outputs_of(a, same)) == ""
    found = explain_differences(a, other, outputs=outputs_of(a, other))
    error = largest_deviation(*outputs_of(a, other)())
    assert found == f"outputs on an example: relative error {error:.2g}, at most 0.001 is rounding; 1: ELU and Tanh"


def largest_deviation(filled: Tensor, own: Tensor) -> float:
    return float((filled - own).abs().max() / own.abs().max())


@pytest.mark.parametrize(
    ("filled", "own", "said"),
    [
        ([1.0], [1.0009], ""),
        ([1.0], [1.0011], "relative error 0.0011"),
        ([0.0], [0.0], ""),
        ([1.0], [0.0], "relative error 1"),
        ([float("nan"), 1.0], [float("nan"), 1.0], ""),
        ([0.0, 1.0], [float("nan"), 1.0], "relative error 0"),
        ([float("nan"), 1.0], [0.0, 1.0], "relative error nan"),
        ([1.0, 2.0], [1.0], r"float32\[2\] and float32\[1\]"),
        ([], [], ""),
    ],
)
def test_outputs_are_compared_as_numbers(filled: list[float], own: list[float], said: str) -> None:
    found = explain_differences(
        nn.Linear(1, 1), nn.Linear(1, 1), outputs=lambda: (torch.tensor(filled), torch.tensor(own))
    )
    assert (found == "") == (said == "")
    assert re.search(said, found)


def test_outputs_that_nothing_explains() -> None:
    found = explain_differences(mlp(), mlp(), outputs=lambda: (torch.zeros(1), torch.ones(1)))
    assert found.endswith("; layers and what they hold are alike, so the code or values kept elsewhere differ")


def test_outputs_are_not_asked_for_where_nothing_can_be_filled_in() -> None:
    def refuse() -> tuple[Tensor, Tensor]:
        raise AssertionError

    assert explain_differences(Reader(), Reader(66, act=relu), outputs=refuse) == (
        "e.weight: float32[64, 8] and float32[66, 8]"
    )


def test_nothing_of_the_models_is_changed() -> None:
    a, b = build(norm_mlp, 0), build(norm_mlp, 1)
    before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in (a, b)]
    explain_differences(a, b)
    for model, held in zip((a, b), before, strict=True):
        assert all(torch.equal(held[name], tensor) for name, tensor in model.state_dict().items())
        assert model.training


# ---------------------------------------------------------------- spectral norm


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    return weight.transpose(0, dim).flatten(1) if weight.dim() == 2 else weight.movedim(dim, 0).flatten(1)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "dim"), [((7, 4), 0), ((4, 7), 0), ((4, 7), 1), ((3, 5, 2, 2), 0), ((3, 5, 2, 2), 1)]
)
def test_the_limit_of_power_iteration(shape: tuple[int, ...], dim: int, kind: torch.dtype) -> None:
    weight = draw(*shape).to(kind)
    u, v = renew_power_iteration(weight, dim, 1e-12)
    matrix = as_matrix(weight, dim)
    left, values, right = torch.linalg.svd(matrix.double())
    assert (u.dtype, v.dtype) == (kind, kind)
    assert float(u @ matrix @ v) == pytest.approx(float(values[0]), rel=1e-6)
    sign = (u.double() @ left[:, 0]).sign()
    torch.testing.assert_close(u.double(), sign * left[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(v.double(), sign * right[0], rtol=0, atol=1e-6)
    for again, first in zip(renew_power_iteration(weight.clone(), dim, 1e-12), (u, v), strict=True):
        assert torch.equal(again, first)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    weight = draw(4, 6) * scale
    u, v = renew_power_iteration(weight, 0, 0.0)
    assert float(u @ weight @ v) == pytest.approx(float(torch.linalg.matrix_norm(weight.double(), 2)), rel=1e-6)


def test_weights_without_a_norm() -> None:
    u, v = renew_power_iteration(torch.zeros(3, 2), 0, 1e-12)
    assert not u.any() and float(v.norm()) == 1.0
    u, v = renew_power_iteration(torch.tensor([[1.0, torch.inf]]), 0, 1e-12)
    assert u.isnan().all() and v.isnan().all() and (len(u), len(v)) == (1, 2)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: spectral_norm(nn.Linear(6, 4)),
    "convolution": lambda: spectral_norm(nn.Conv2d(3, 5, 3)),
    "transposed": lambda: spectral_norm(nn.ConvTranspose2d(3, 5, 3)),
    "hook": lambda: nn.utils.spectral_norm(nn.Linear(6, 4)),
    "hook, transposed": lambda: nn.utils.spectral_norm(nn.ConvTranspose2d(3, 5, 3)),
    "then another": lambda: weight_norm_after(spectral_norm(nn.Linear(6, 4))),
}


def weight_norm_after(layer: nn.Module) -> nn.Module:
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Identity())
    return layer


@pytest.mark.parametrize("kind", LAYERS)
def test_a_renewed_layer_has_norm_one(kind: str) -> None:
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": LAYERS[kind]()}).eval()
    (rule,) = find_power_iterations(model)
    assert rule.eps == 1e-12
    buffers, parameters = dict(model.named_buffers()), dict(model.named_parameters())
    weight = parameters[rule.weight].detach()
    with torch.no_grad():
        for name, value in zip((rule.u, rule.v), renew_power_iteration(weight, rule.dim, rule.eps), strict=True):
            assert buffers[name].shape == value.shape
            buffers[name].copy_(value)
        layer: Any = model["b"]
        for hook in layer._forward_pre_hooks.values():
            hook(layer, None)
        norm = torch.linalg.matrix_norm(as_matrix(weight, rule.dim), 2)
        torch.testing.assert_close(layer.weight, weight / norm, rtol=1e-6, atol=1e-7)


def test_many_steps_of_torch_tend_to_the_same() -> None:
    layer: Any = spectral_norm(nn.Linear(6, 4), n_power_iterations=500).double()
    assert layer.training
    _ = layer.weight  # torch's steps
    first = layer.parametrizations.weight[0]
    u, v = renew_power_iteration(layer.parametrizations.weight.original, first.dim, first.eps)
    sign = (u @ first._u).sign()
    torch.testing.assert_close(sign * u, first._u)
    torch.testing.assert_close(sign * v, first._v)


def test_only_what_can_be_renewed_is_found() -> None:
    assert find_power_iterations(spectral_norm(weight_norm(nn.Linear(3, 3)))) == ()
    assert find_power_iterations(spectral_norm(nn.LayerNorm(3))) == ()  # one dimension needs no vectors
    assert find_power_iterations(norm_mlp()) == ()
    pruned = prune.identity(nn.utils.spectral_norm(nn.Linear(3, 3)), "weight_orig")
    assert find_power_iterations(pruned) == ()


def test_names_are_those_without_wrappers_and_of_shared_layers_the_first() -> None:
    layer = spectral_norm(nn.Linear(3, 3))
    model = nn.DataParallel(nn.ModuleDict({"first": layer, "second": layer}))
    (found,) = find_power_iterations(model)
    prefix = "first.parametrizations.weight"
    assert (found.weight, found.u, found.v) == (f"{prefix}.original", f"{prefix}.0._u", f"{prefix}.0._v")
