"""Folding the gains of norms into the linear maps that read them, so that the residual stream can be rotated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mechconn.core import Inputs, check_is, log_warnings, move_inputs
from mechconn.network import copy_module, resolve_device, set_mode, unwrap_module
from mechconn.symmetry._action import Action, Member
from mechconn.symmetry._find import symmetry_of
from mechconn.symmetry._folded import Folded
from mechconn.symmetry._norm_modules import NormModule, recognise_norm
from mechconn.symmetry._other_answers import list_other_paths
from mechconn.symmetry._pattern import list_groups
from mechconn.symmetry._probe import Probe, UnrunnableError
from mechconn.symmetry._recorded_runs import take_first_line
from mechconn.symmetry._sizes import make_other_sizes
from mechconn.symmetry._symmetry import Symmetry
from mechconn.symmetry._verify import relative_error

BOUND = 1e-5
"""Largest relative change of the outputs: many norms compute in float32."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
POST_NORM = (
    "linear maps alone do not read what it returns (the stream of a post-norm network is what its norms return; "
    "queries and keys meet behind theirs)"
)


def fold(model: nn.Module, example_input: Inputs, *, untie: bool = False, seed: int = 0) -> Folded:
    """A copy of a network with the same function whose norms have no gain, so that its residual stream can be rotated.

    A norm with a gain g and a bias b that linear maps alone read, W (g n(x) + b) + c, is W' n(x) + c' with W' = W g
    and c' = c + W b. LayerNorm is RMSNorm of the centred stream: with C = 1 - 1 1' / d, n(x) = RMSNorm(C x), and C is
    taken into all weights that write the stream. A gain behind a linear map (LayerScale) goes into the map. What is
    left, x / sqrt(mean of squares + eps), passes every rotation of the stream: `symmetry_of` finds the kind
    "orthogonal" in the copy and in no network with gains.

    Norms are told by what they compute. Where they stand is read off the operations and proved (`Symmetry.verify`); the
    copy is run against the network. Its norm modules are torch's own, without parameters, so that its state does not
    fit the class that the network came from.

    Args:
        model: pre-norm; it stays as it is.
        example_input: one batch that the model accepts.
        untie: give a weight that is used twice (the head and the embedding of a language model) a copy for each use;
            where they are tied, the last norm's gain cannot go into the head.
        seed: of the proof.

    Raises:
        ValueError: no norm's gain can be folded: it is added to the stream again (post-norm), or a tied weight reads
            it; or the copy computes something else.

    Example:
        >>> block = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()
        >>> with torch.no_grad():
        ...     _ = block[1].weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        >>> x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> folded = fold(block, x)
        >>> torch.allclose(folded.model(x), block(x)), list(folded.model[1].parameters())
        (True, [])
        >>> [action.kind for action in symmetry_of(folded.model, x).actions]
        ['orthogonal']

    Source: Theus et al. 2025, "Generalized linear mode connectivity for transformers"; Ashkboos et al. 2024, SliceGPT.
    """
    check_is("untie", untie, bool, "; pass untie=True or untie=False")
    model = unwrap_module(model)
    example = move_inputs(example_input, resolve_device(model, None))
    result = copy_module(model)
    types = {name: p.dtype for name, p in result.named_parameters(remove_duplicate=False)}
    set_mode(result.double(), False)
    if untie:
        _untie(result)
    norms = _replace_norms(result)
    probe, expected = _run(model, example, seed)
    result.to(probe.dtype)
    symmetry = _find(result, example, seed)
    plans, left = _choose(result, norms, symmetry)
    for plan in plans:
        _absorb(result, plan, symmetry)
    centred = _centre(result, example, plans)
    _check_same(_measure(expected, result, example, seed, probe.dtype), model)
    _check_elsewhere(model, probe, result, example, seed)
    for name, parameter in result.named_parameters():
        parameter.data = parameter.data.to(types.get(name) or types[f"{name.removesuffix('bias')}weight"])
    for name, buffer in model.named_buffers():
        if name in dict(result.named_buffers()):
            result.get_buffer(name).data = buffer.detach().clone()
    notes = tuple(f"{name} keeps its gain: {reason}" for name, reason in left.items())
    log_warnings("fold", notes)
    return Folded(
        norms={plan.name: plan.weights for plan in plans},
        centred=centred,
        left=left,
        error=_measure(expected, result, example, seed, probe.dtype),
        settings={"untie": untie, "seed": seed},
        notes=notes,
        model=result,
    )


@dataclass(frozen=True)
class _Plan:
    """A norm whose gain goes into weights.

    Attributes:
        name, norm: the module.
        action: the scale that its gain has with them; None of a norm without a gain.
        readers: the members that take the gain.
    """

    name: str
    norm: NormModule
    action: Action | None
    readers: tuple[Member, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights."""
        return tuple(dict.fromkeys(member.tensor for member in self.readers))


def _untie(model: nn.Module) -> None:
    """Give each use of a parameter one of its own."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if first[id(parameter)] != name:
            _set_parameter(model, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))


def _set_parameter(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    place, _, own = name.rpartition(".")
    setattr(model.get_submodule(place), own, parameter)


def _replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another, under all of its names."""
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        for own, child in list(vars(parent)["_modules"].items()):  # named_children gives one of two names
            if child is old:
                setattr(parent, own, module)


def _replace_norms(model: nn.Module) -> dict[str, NormModule]:
    """Make every norm torch's own of the same function; name -> what it is."""
    found = {name: norm for name, module in model.named_modules() if (norm := recognise_norm(module)) and name}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no module that normalises its last axis or multiplies it by a gain, so that "
            "there is nothing to fold; use symmetry_of(model, example_input) as it is"
        )
    for name, norm in found.items():
        if hooked := [f"{name}.{own}" for own in HOOKS if getattr(model.get_submodule(name), own)]:
            raise ValueError(
                f"the norm {name} of {type(model).__name__} has hooks, which the norm in its place would not have: "
                f"clear them, model.{hooked[0]}.clear(), and register them on the folded copy"
            )
        _replace_module(model, name, norm.build())
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # its fast path reads the norms' weights
    return found


def _find(model: nn.Module, example: Inputs, seed: int) -> Symmetry:
    """The symmetry, proved."""
    try:
        symmetry = symmetry_of(model, example)
    except ValueError as error:
        raise ValueError(f"folding needs the symmetry of {type(model).__name__}: {take_first_line(error)}") from error
    symmetry.verify(model, seed=seed)
    return symmetry


# ---------------------------------------------------------------- which gains


def _choose(
    model: nn.Module, norms: Mapping[str, NormModule], symmetry: Symmetry
) -> tuple[list[_Plan], dict[str, str]]:
    """What to fold, stream by stream: every norm of a stream, or none; and why the rest keeps its gain."""
    streams: dict[tuple[str, ...], list[_Plan | str]] = {}
    names: dict[tuple[str, ...], list[str]] = {}
    for name, norm in norms.items():
        units = () if norm.gain is None else tuple(list_groups(symmetry.axes[f"{name}.weight"][0]))
        streams.setdefault(units, []).append(_plan(name, norm, norms, symmetry))
        names.setdefault(units, []).append(name)
    plans: list[_Plan] = []
    left: dict[str, str] = {}
    for units, found in streams.items():
        reasons = [one for one in found if isinstance(one, str)]
        if reasons and units:
            left |= {
                name: one if isinstance(one, str) else reasons[0] for name, one in zip(names[units], found, strict=True)
            }
        else:
            plans += [one for one in found if not isinstance(one, str)]
            left |= {name: one for name, one in zip(names[units], found, strict=True) if isinstance(one, str)}
    if not any(plan.norm.kind != "gain" for plan in plans):
        name, why = next(iter(left.items()), ("", "it has only gains"))
        raise ValueError(f"cannot fold the norms of {type(model).__name__}: {name} keeps its gain, since {why}")
    return plans, left


def _plan(name: str, norm: NormModule, norms: Mapping[str, NormModule], symmetry: Symmetry) -> _Plan | str:
    """Where a gain goes; or why it stays."""
    if norm.gain is None:
        return _Plan(name, norm, None, ())
    gain, bias = f"{name}.weight", f"{name}.bias"
    own = {f"{other}.{part}" for other in norms for part in ("weight", "bias")} - {gain, bias}
    units = set(list_groups(symmetry.axes[gain][0]))
    if not units:
        return symmetry.frozen[gain, 0]
    why = POST_NORM
    for action in symmetry.actions:
        exponents = {member.exponent for member in action.members if member.tensor == gain}
        if action.kind != "scale" or len(exponents) != 1:
            continue
        readers = tuple(member for member in action.members if member.tensor not in (gain, bias))
        if {member.exponent for member in readers} == {-next(iter(exponents))}:
            if not any(member.tensor in own for member in readers):
                return _Plan(name, norm, action, readers)
            why = "what reads it has a gain of its own"
    tied = [
        (alias, first)
        for alias, first in symmetry.aliases.items()
        if alias != first and units & {group for pattern in symmetry.axes[first] for group in list_groups(pattern)}
    ]
    if tied:
        alias, first = tied[0]
        return f"{alias} is tied to {first}, which cannot take a gain for one use alone; pass untie=True"
    return why


# ---------------------------------------------------------------- folding


@torch.no_grad()
def _absorb(model: nn.Module, plan: _Plan, symmetry: Symmetry) -> None:
    """Take a norm's bias and gain into the weights that read it, and the module's place by one without parameters."""
    if plan.action is not None and plan.norm.gain is not None:
        if plan.norm.bias is not None and bool(plan.norm.bias.any()):
            for weight in plan.weights:
                _add_bias(model, plan, weight, plan.norm.bias, symmetry)
        for member in plan.readers:
            parameter = model.get_parameter(member.tensor)
            numbers = plan.action.locate(member, symmetry.sizes)
            values = torch.cat([torch.ones(1), plan.norm.gain.cpu()]).double()[numbers + 1]
            parameter.mul_(values.to(parameter.device))
    _replace_module(model, plan.name, plan.norm.build_bare())


def _add_bias(model: nn.Module, plan: _Plan, weight: str, bias: Tensor, symmetry: Symmetry) -> None:
    """c + W b, along the axis of the weight that reads the norm."""
    assert plan.action is not None
    parameter = model.get_parameter(weight)
    added: dict[int, Tensor] = {}
    for member in (member for member in plan.readers if member.tensor == weight):
        axis = plan.action.find_axis(member)
        numbers = plan.action.locate(member, symmetry.sizes).flatten()
        values = torch.cat([torch.zeros(1).double(), bias.cpu()])[numbers + 1].to(parameter)
        added[axis] = added.get(axis, torch.zeros(())) + torch.tensordot(parameter.movedim(axis, -1), values, 1)
    total = next(iter(added.values()))
    name = weight.removesuffix("weight") + "bias"
    module = model.get_submodule(weight.rpartition(".")[0])
    held = getattr(module, name.rpartition(".")[2], None)
    if not weight.endswith("weight") or len(added) > 1 or total.dim() != 1:
        raise ValueError(
            f"cannot fold the bias of {plan.name} into {weight}, which is no matrix with a bias of its own"
        )
    if isinstance(held, nn.Parameter):
        held.add_(total)
    elif isinstance(module, nn.Linear):
        module.bias = nn.Parameter(total.clone(), parameter.requires_grad)
    else:
        raise ValueError(
            f"cannot fold the bias of {plan.name}: {weight} has no bias to take it; give its layer one of zeros"
        )


@torch.no_grad()
def _centre(model: nn.Module, example: Inputs, plans: Sequence[_Plan]) -> tuple[str, ...]:
    """Take the mean of streams that LayerNorm read out of all that writes them; which groups these are."""
    symmetry = symmetry_of(model, example)
    rotations = [action for action in symmetry.actions if action.kind == "orthogonal"]
    centred: list[str] = []
    for action in rotations:
        kinds = set(_list_kinds(action, plans))
        if "layer_norm" not in kinds or len(action.units) != 1:
            continue
        if "rms_norm" in kinds:
            raise ValueError(f"cannot fold the norms that read {action.units[0]}: some are centred and others are not")
        size = symmetry.sizes[action.units[0]]
        centring = torch.eye(size, dtype=torch.float64) - 1 / size
        for name in dict.fromkeys(member.tensor for member in action.members):
            parameter = model.get_parameter(name)
            parameter.copy_(action.multiply(name, parameter.detach(), symmetry.sizes, centring))
        centred += action.units
    return tuple(centred)


def _list_kinds(action: Action, plans: Sequence[_Plan]) -> Iterator[str]:
    """The kinds of the norms that read units which can be rotated."""
    touched = {(member.tensor, action.find_axis(member)) for member in action.members}
    for plan in plans:
        read = set() if plan.action is None else {(m.tensor, plan.action.find_axis(m)) for m in plan.readers}
        if plan.norm.kind != "gain" and (plan.action is None or read & touched):
            yield plan.norm.kind


def _run(model: nn.Module, example: Inputs, seed: int) -> tuple[Probe, list[Tensor]]:
    """The network and its outputs in float64; in float32 where it refuses it, as grouped products of experts do."""
    probe = Probe(model, example, seed, disturbed=False)
    try:
        return probe, probe.outputs(False)[0]
    except UnrunnableError:
        probe = Probe(model, example, seed, disturbed=False, dtype=torch.float32)
    return probe, probe.outputs(False)[0]


def _measure(expected: list[Tensor], result: nn.Module, example: Inputs, seed: int, dtype: torch.dtype) -> float:
    """The relative change of the outputs, computed in a type."""
    return relative_error(expected, Probe(result, example, seed, disturbed=False, dtype=dtype).outputs(False)[0])


def _check_elsewhere(model: nn.Module, probe: Probe, result: nn.Module, example: Inputs, seed: int) -> None:
    """Raise where the outputs change at other sizes of the example, or where looks at its values get other answers."""
    folded = Probe(result, example, seed, disturbed=False, dtype=probe.dtype)
    pairs = [(probe.on(inputs), folded.on(inputs)) for inputs in make_other_sizes(model, example)]
    pairs += [(probe.answering(a), folded.answering(a)) for a in list_other_paths(model, example)]
    for before, after in pairs:
        with suppress(UnrunnableError):
            expected = before.outputs(False)[0]
            if not any(bool(t.isnan().any()) for t in expected):
                _check_same(relative_error(expected, after.outputs(False)[0]), model, before.where)


def _check_same(error: float, model: nn.Module, where: str = "") -> None:
    """Raise where outputs change by more than rounding."""
    if not error <= BOUND:
        raise ValueError(
            f"the folded copy of {type(model).__name__} changes its outputs{where} by a relative {error:.1e}, more "
            f"than {BOUND:g}: something else than linear maps reads a norm, or the stream; use the network as it is"
        )
