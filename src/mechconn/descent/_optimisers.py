"""Optimisers: how a gradient becomes a step, and how settings and configuration files name it."""

from __future__ import annotations

import abc
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

import torch
from pydantic import PlainValidator, WithJsonSchema
from torch import Tensor

from mechconn.core import (
    DescribedSetting,
    check_listed,
    check_positive,
    construct,
    find_kind,
    list_kinds,
    read_named,
    show_value,
)

Groups: TypeAlias = list[dict[str, Any]]
"""Parameter groups as torch's optimisers take them: {"params": tensors, "weight_decay": number}."""
Settings = TypeVar("Settings")
Factory: TypeAlias = Callable[[Groups, float], torch.optim.Optimizer]
"""Makes an optimiser of parameter groups and a learning rate, as the classes of `torch.optim` do."""
FUSED = (torch.float32, torch.float64)
"""Types in which the fused kernel of SGD on processors has the bits of the plain one, see `WHOLE`."""
WHOLE = 64
"""Bytes of which a weight must be a multiple for that: of a rest the kernel rounds otherwise (torch 2.13.0)."""
FIXED = ("params", "lr", "weight_decay")
"""What an optimiser gets from the method's own settings."""


class Optimiser(DescribedSetting):
    """How a gradient becomes a step."""

    @property
    @abc.abstractmethod
    def own_rate(self) -> float | None:
        """The learning rate where none is given; None where none is known."""

    @abc.abstractmethod
    def make(self, groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups."""


@dataclass(frozen=True)
class SGD(Optimiser, name="sgd"):
    """Stochastic gradient descent with momentum, which is a setting of the method."""

    @property
    def own_rate(self) -> float | None:
        """None: a method's own default is a rate of SGD."""
        return None

    def make(self, groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups; on processors one pass over memory, with the same bits."""
        parted = [
            {**group, "params": own, "fused": fused}
            for group in groups
            for fused in (True, False)
            if (own := [weight for weight in group["params"] if _can_be_fused(weight) is fused])
        ]
        if not any(group["fused"] for group in parted):
            return torch.optim.SGD(groups, lr=lr, momentum=momentum)
        made = torch.optim.SGD(parted, lr=lr, momentum=momentum)
        made.register_step_pre_hook(_step_apart)
        return made

    def describe(self) -> str:
        """The name."""
        return self.registered_name


def _can_be_fused(weight: Tensor) -> bool:
    strided = weight.device.type == "cpu" and weight.layout == torch.strided
    return strided and weight.dtype in FUSED and weight.nbytes % WHOLE == 0


def _step_apart(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    """Before a step: leave the fused kernel where a gradient or a momentum is not in its weight's layout, or sparse."""
    for group in optimiser.param_groups:
        held = [weight for weight in group["params"] if weight.grad is not None]
        group["fused"] = all(
            _can_be_fused(weight) and _is_laid_out_alike(weight, optimiser.state.get(weight, {})) for weight in held
        )


def _is_laid_out_alike(weight: Tensor, state: Mapping[str, Any]) -> bool:
    """Whether a weight without gaps, its gradient and its momentum lie in memory in one order."""
    beside = [weight.grad, state.get("momentum_buffer")]
    alike = all(t is None or (t.layout == torch.strided and t.stride() == weight.stride()) for t in beside)
    return alike and (weight.is_contiguous() or torch.empty_like(weight, device="meta").stride() == weight.stride())


@dataclass(frozen=True)
class Adam(Optimiser, name="adam"):
    r"""Adam: steps along running means of the gradient, each weight's scaled by the root of its squares' mean.

    With g the gradient, and weight decay w added to it as w theta,

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,
        theta <- theta - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)   at step k = 1, 2, ...

    A step moves each weight by about lr whatever the scale of its gradient, so that rates of SGD are too large: where
    `lr` is not given it is 0.001.

    Attributes:
        betas: (b1, b2), each from 0 to below 1.
        eps: what is added to the root.

    Raises:
        ValueError: betas outside [0, 1), or eps of zero or less.

    Example:
        >>> Adam(betas=(0.9, 0.98)).describe()
        {'name': 'adam', 'betas': [0.9, 0.98], 'eps': 1e-08}

    Source: Kingma & Ba 2015, algorithm 1.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_listed("betas", self.betas)
        betas = tuple(self.betas)
        if len(betas) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"betas must be two numbers from 0 to below 1, got {show_value(self.betas)}; write (0.9, 0.999)"
            )
        object.__setattr__(self, "betas", betas)
        check_positive("eps", self.eps)

    @property
    def own_rate(self) -> float:
        """0.001, the source's."""
        return 0.001

    def make(self, groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups."""
        return torch.optim.Adam(groups, lr=lr, betas=self.betas, eps=self.eps)

    def describe(self) -> str | dict[str, Any]:
        """The name, or a table where an option is not the default."""
        if self == type(self)():
            return self.registered_name
        return {"name": self.registered_name, **asdict(self), "betas": list(self.betas)}


@dataclass(frozen=True)
class AdamW(Adam, name="adamw"):
    r"""AdamW: Adam whose weight decay w is no part of the gradient: theta <- (1 - lr w) theta before each step.

    The methods' `weight_decay` is SGD's 1e-4; AdamW is used with 0.01 to 0.1, since it is multiplied by a small rate.

    Attributes:
        betas: (b1, b2) of `Adam`, each from 0 to below 1.
        eps: what is added to the root.

    Example:
        >>> AdamW().describe(), AdamW().own_rate
        ('adamw', 0.001)

    Source: Loshchilov & Hutter 2019, algorithm 2, with the learning rate in front of the decay.
    """

    def make(self, groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups."""
        return torch.optim.AdamW(groups, lr=lr, betas=self.betas, eps=self.eps)


@dataclass(frozen=True)
class OwnOptimiser(Optimiser, name="_own"):
    """An optimiser of the user's: a factory with options, such as a class of `torch.optim`."""

    factory: Callable[..., torch.optim.Optimizer]
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def own_rate(self) -> float | None:
        """What its signature gives as the default of `lr`."""
        try:
            lr = inspect.signature(self.factory).parameters["lr"].default
        except (KeyError, TypeError, ValueError):
            return None
        return float(lr) if isinstance(lr, int | float) else None

    @property
    def name(self) -> str | None:
        """The factory as "package.module:name"; None where it cannot be imported by one."""
        module, name = (getattr(self.factory, part, None) for part in ("__module__", "__qualname__"))
        if module in (None, "__main__") or not isinstance(name, str):
            return None
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return f"{module}:{name}" if found is self.factory else None

    def make(self, groups: Groups, lr: float, momentum: float) -> torch.optim.Optimizer:
        """What the factory gives.

        Raises:
            ValueError: it refuses the groups or its options.
        """
        try:
            return self.factory(groups, lr, **dict(self.options))
        except (TypeError, ValueError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{self} cannot be made of this model's weights: {text}") from error

    def describe(self) -> str | dict[str, Any]:
        """The name, or a table of it and the options; of what has none a description."""
        named = self.name or f"a local function, {getattr(self.factory, '__qualname__', type(self.factory).__name__)}"
        return {"name": named, **dict(self.options)} if self.options else named

    def __str__(self) -> str:
        return f"optimizer {self.describe()!r}"


OptimizerLike: TypeAlias = str | Mapping[str, Any] | Optimiser | Factory
"""A name, a table {name = "...", <options>}, one of this module, or a factory."""


def read_optimiser(value: Any) -> str | Optimiser:
    """An optimiser as settings hold it, of any `OptimizerLike`: the name of one with its defaults, else an instance.

    Raises:
        ValueError: no such name or option.
        TypeError: none of the forms of `OptimizerLike`.

    Example:
        >>> read_optimiser({"name": "adamw", "betas": [0.9, 0.98]})
        AdamW(betas=(0.9, 0.98), eps=1e-08)
    """
    if isinstance(value, Optimiser):
        return value
    if isinstance(value, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must make its own for the copy that is trained, got {type(value).__name__} over other weights; "
            f"pass the class, torch.optim.{type(value).__name__}"
        )
    if callable(value) and not (isinstance(value, type) and issubclass(value, Optimiser)):
        return _read_factory(value)
    named: Any = value
    found, options = read_named("optimizer", Optimiser, named)
    if isinstance(found, Optimiser):
        return found
    if isinstance(found, type) and issubclass(found, Optimiser):
        return construct("optimizer", found, options) if options else found.registered_name
    if fixed := [name for name in options if name in FIXED]:
        raise ValueError(f"optimizer has no option {fixed[0]!r}, which is a setting of the method; set it there")
    return OwnOptimiser(found, tuple(options.items()))


def _read_factory(value: Any) -> OwnOptimiser:
    """A factory; of a partial call by keywords the function with its options."""
    if isinstance(value, functools.partial) and not value.args and not set(value.keywords) & set(FIXED):
        return OwnOptimiser(value.func, tuple(value.keywords.items()))
    return OwnOptimiser(value)


def as_optimiser(value: str | Optimiser) -> Optimiser:
    """The instance behind what `read_optimiser` gives."""
    if isinstance(value, Optimiser):
        return value
    kind: Any = find_kind("optimizer", Optimiser, value)
    return kind()


def describe_optimiser(value: OptimizerLike) -> str | dict[str, Any]:
    """An optimiser as records and configuration files hold it."""
    found = read_optimiser(value)
    return found if isinstance(found, str) else found.describe()


def _read_any_optimiser(value: Any) -> str | Optimiser:
    try:
        found = read_optimiser(value)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return check_nameable(found)


AnyOptimizer = Annotated[
    OptimizerLike,
    PlainValidator(_read_any_optimiser),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(list_kinds(Optimiser, built_in=True))},
                {"type": "string", "pattern": ":"},
                {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            ]
        }
    ),
]
"""An optimiser as a field of settings, as `read_optimiser` reads it."""


def check_nameable(value: Settings) -> Settings:
    """The settings, unless an optimiser in them is a function without a name by which files could call it.

    Raises:
        ValueError: a lambda, or a function of another function or of a notebook.
    """
    if isinstance(value, OwnOptimiser) and value.name is None:
        raise ValueError(
            f"{value} has no name by which a file or a store could call it; define it in a module, and name it "
            "'package.module:function'"
        )
    if is_dataclass(value) and not isinstance(value, OwnOptimiser | type):
        for known in fields(value):
            check_nameable(getattr(value, known.name))
    return value


def make_optimiser(
    optimiser: Optimiser, weights: Sequence[Tensor], lr: float, momentum: float, weight_decay: float, matrices: bool
) -> torch.optim.Optimizer:
    """The optimiser of these weights, after refusing one that does not take the steps that are asked for.

    With `matrices` the weight decay is that of parameters of two axes or more, and zero of the others.

    Raises:
        ValueError: its step needs a closure, or it holds other weights, or another weight decay.
        TypeError: a factory gives something else.
    """
    kinds = [[w for w in weights if not matrices or w.dim() > 1], [w for w in weights if matrices and w.dim() < 2]]
    wanted = [weight_decay, 0.0]
    groups = [{"params": own, "weight_decay": w} for own, w in zip(kinds, wanted, strict=True) if own]
    made = optimiser.make(groups, lr, momentum)
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"{optimiser} must give a torch.optim.Optimizer, got {show_value(made)}")
    closure = inspect.signature(type(made).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{optimiser} evaluates the loss several times in a step (step needs a closure), and a step of a method is "
            "that of one gradient; use one that steps without, such as optimizer='adamw'"
        )
    decays = {id(w): _read_decay(made, group) for group in made.param_groups for w in group["params"]}
    if decays.keys() != {id(w) for w in weights}:
        raise ValueError(f"{optimiser} must hold each of the weights that it is given; pass the groups on as they are")
    decayed = {id(w): decay for own, decay in zip(kinds, wanted, strict=True) for w in own}
    if decays != decayed:
        got = max(decay for key, decay in decays.items() if decay != decayed[key])
        raise ValueError(
            f"{optimiser} decays weights by {got:g}, and weight_decay is {weight_decay:g}; pass the groups on as they "
            "are, or, where it has no weight decay, set weight_decay=0.0"
        )
    return made


def _read_decay(made: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """The weight decay of a group; zero where the optimiser knows none."""
    return float(group["weight_decay"]) if "weight_decay" in made.defaults else 0.0
