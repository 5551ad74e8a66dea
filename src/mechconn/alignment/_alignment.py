"""Aligning two networks: moving one onto the other by a symmetry that leaves its function as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mechconn.alignment._alignment_result import Alignment
from mechconn.alignment._distances import compute_distance, join_kinds, list_parting, measure_by_kind, note_large_kinds
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.core import (
    Compute,
    Inputs,
    Progress,
    check_choice,
    check_is,
    check_same_keys,
    log_warnings,
    move_inputs,
    resolve_compute,
)
from mechconn.network import (
    Network,
    check_one_module,
    compute_outputs,
    copy_with_state,
    fix_device,
    has_adapters,
    has_mode_or_loading_rules,
    point_of,
    resolve_device,
    set_mode,
    unwrap_module,
)
from mechconn.symmetry import Proof, Symmetry, symmetry_of


def align(
    model_a: nn.Module,
    model_b: nn.Module,
    method: AlignmentMethod,
    symmetry: Symmetry | None = None,
    *,
    ignore: Sequence[str] = (),
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Alignment:
    """Move B's units so that they lie where A's like units lie, as A is saved; B's function stays as it is.

    Units are permuted, and get A's signs, scales and linear maps where the symmetry has them. A never changes. The
    symmetry is first proved on B by running it (`Symmetry.verify`).

    Args:
        model_a: the network that stays; neither module is changed.
        model_b: the network that is moved: one module with A, with other parameters and statistics.
        method: `ActivationMatching(data)`, `WeightMatching()`, or an `AlignmentMethod` of your own.
        symmetry: what may be moved; default, of a method that reads data: `symmetry_of` model_b on their first two
            rows.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of the proof's permutations and of restarts.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where model_a is.
        progress: short for `Compute(progress=...)`; counts steps.

    Raises:
        ValueError: the models are not one module with other parameters and statistics (the first eight differences are
            named), the symmetry does not hold, or none was given with a method that has no data.

    Example:
        Two networks that are the same but for the order and the scales of their units.

        >>> from mechconn.alignment import WeightMatching
        >>> a = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> symmetry = symmetry_of(a, torch.ones(2, 1))
        >>> import copy
        >>> b = copy.deepcopy(a)
        >>> _ = b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(seed=1)))
        >>> found = align(a, b, WeightMatching(), symmetry)
        >>> found.distance_before > 0.1, found.distance_after < 1e-6
        (True, True)

    Source: Lubana et al. 2023, section 3; Entezari et al. 2022 (barriers up to permutation).
    """
    compute = resolve_compute(compute, device, progress)
    model_a, model_b = unwrap_module(model_a, "model_a"), unwrap_module(model_b, "model_b")
    check_method(method)
    check_no_adapters(model_b)
    check_finite_weights("model_a", model_a)
    check_finite_weights("model_b", model_b)
    example = _find_example(model_b, method, symmetry)
    check_outputs_alike(model_a, model_b, example, ignore, compute, ("model_a", "model_b"))
    return prove_and_match(model_a, model_b, method, symmetry, seed, compute)


def _find_example(model: nn.Module, method: AlignmentMethod, symmetry: Symmetry | None) -> Inputs | None:
    """What the symmetry was found on, or will be; None where nothing is known."""
    if symmetry is not None:
        check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
        return symmetry.example_input
    return method.example(resolve_device(model, None), model)


def check_method(method: AlignmentMethod, name: str = "method") -> None:
    """Raise TypeError unless it is an alignment method; `name` is the argument's."""
    check_is(name, method, AlignmentMethod, "; pass ActivationMatching(data) or WeightMatching()")


def check_no_adapters(model: nn.Module) -> None:
    """Raise ValueError where a network carries low-rank adapters, whose hidden units are those of its base."""
    if has_adapters(model):
        raise ValueError(
            "networks with low-rank adapters are not aligned: adapters on one base share its hidden units; "
            "leave the alignment out, or merge each adapter into its base (merge_and_unload) first"
        )


def check_outputs_alike(
    model_a: nn.Module,
    model_b: nn.Module,
    example: Inputs | None,
    ignore: Sequence[str],
    compute: Compute,
    names: tuple[str, str],
) -> None:
    """Raise ValueError unless B is A's module with other parameters and statistics; on an example, if there is one."""
    outputs = None if example is None else partial(_compute_filled_and_own, model_a, model_b, example, compute)
    check_one_module(model_a, model_b, ignore=ignore, outputs=outputs, names=names)


def _compute_filled_and_own(
    model_a: nn.Module, model_b: nn.Module, example: Inputs, compute: Compute
) -> tuple[Tensor, Tensor]:
    """Outputs of A's module with B's tensors, and of B."""
    end, where = point_of(model_b), fix_device(compute, model_a)
    filled, own = (compute_outputs(Network(model, where), end, example) for model in (model_a, model_b))
    return filled, own


def prove_and_match(
    model_a: nn.Module,
    model_b: nn.Module,
    method: AlignmentMethod,
    symmetry: Symmetry | None,
    seed: int,
    compute: Compute,
) -> Alignment:
    """B moved onto A by a symmetry, proved here; as `align`, for two that are known to be one module."""
    symmetry = resolve_symmetry(model_b, method, symmetry)
    proof = verify_symmetry(symmetry, model_b, seed)
    return match_units(model_a, model_b, method, symmetry, seed, compute, proof)


def check_finite_weights(what: str, model: nn.Module) -> None:
    """Raise ValueError where a parameter holds NaN or infinity: its units have no best order."""
    for name, parameter in model.named_parameters():
        wrong = int((~parameter.detach().isfinite()).sum())
        if wrong:
            raise ValueError(
                f"{what} must have finite weights to be aligned, got {wrong} of {parameter.numel()} in {name} that are "
                "NaN or infinite; leave it out, or take an earlier checkpoint"
            )


def verify_symmetry(symmetry: Symmetry, model: nn.Module, seed: int) -> Proof:
    """`Symmetry.verify` on the example that the symmetry was found on, wherever the model is."""
    example = symmetry.example_input
    example = None if example is None else move_inputs(example, resolve_device(model, None))
    return symmetry.verify(model, example, seed=seed)


def match_units(
    model_a: nn.Module,
    model_b: nn.Module,
    method: AlignmentMethod,
    symmetry: Symmetry,
    seed: int,
    compute: Compute,
    proof: Proof | None = None,
) -> Alignment:
    """B moved onto A by a symmetry that is verified; as `align`, for networks of one architecture without wrappers."""
    own_a, own_b = ({name: p.detach() for name, p in m.named_parameters()} for m in (model_a, model_b))
    pair = make_pair(model_a, model_b, symmetry, seed, compute)
    matched = _check_matching(method, method.match(pair), symmetry)
    state = symmetry.apply(model_b.state_dict(), matched.element)
    model = copy_with_state(model_b, state)
    moved = {name: _own(state[name], own) for name, own in own_b.items()}
    before, after = compute_distance(own_a, own_b), compute_distance(own_a, moved)
    by_kind = measure_by_kind(symmetry, own_a, own_b, matched.element)
    notes = (
        *note_type(proof),
        *_collect_notes(symmetry, matched, [before, after], list_parting(before, by_kind), method),
        *note_large_kinds(before, by_kind),
        *matched.notes,
    )
    log_warnings("alignment", notes)
    return Alignment(
        permutations=matched.permutations,
        coverage=symmetry.coverage,
        similarity_before=matched.before,
        similarity_after=matched.after,
        distance_before=before,
        distance_after=after,
        dead=matched.dead,
        unseen=matched.unseen,
        symmetry=symmetry,
        settings={**pair.computed, "method": method.registered_name, **method.describe(), "seed": seed},
        notes=notes,
        params=moved,
        model=model,
        factors=matched.factors,
        distance_by_kind=by_kind,
        rows_of=method.optimised_on() or getattr(method, "data", None),
    )


def make_pair(model_a: nn.Module, model_b: nn.Module, symmetry: Symmetry, seed: int, compute: Compute) -> NetworkPair:
    """What a method of two networks gets."""
    where = resolve_device(model_a, compute.device)
    params_a, params_b = (
        {name: p.detach().to(where) for name, p in model.named_parameters()} for model in (model_a, model_b)
    )
    rested = _rest_at(model_a, where), _rest_at(model_b, where)
    return NetworkPair(*rested, params_a, params_b, symmetry, seed, where, compute)


def _own(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor, or a copy where it lies in the memory of another."""
    return tensor.clone() if tensor.data_ptr() == other.data_ptr() else tensor


def _check_matching(method: AlignmentMethod, matched: Matching, symmetry: Symmetry) -> Matching:
    """What a method returned, once its similarities are of groups of the symmetry; `apply` checks the permutations."""
    name = f"{type(method).__name__}.match"
    check_is(f"what {name} returns", matched, Matching, "; return mechconn.alignment.Matching(permutations)")
    for group, order in matched.permutations.items():
        check_is(f"the permutation of {group!r} in what {name} returns", order, Tensor, "; return torch.tensor(order)")
    for action, factors in matched.factors.items():
        check_is(f"the element of {action!r} in what {name} returns", factors, Tensor, "; return torch.tensor(factors)")
    for group in matched.before:
        check_choice(f"a group in what {name} returns", group, tuple(symmetry.sizes))
    check_same_keys(f"groups before and after in what {name} returns", matched.before, matched.after)
    return matched


def _rest_at(model: nn.Module, device: torch.device) -> nn.Module:
    """The model in evaluation mode on a device; else a copy, over the same weights where nothing writes into them."""
    if not any(part.training for part in model.modules()) and resolve_device(model, None) == device:
        return model
    own = {} if has_mode_or_loading_rules(model) else dict(model.named_parameters())  # a mode may write into weights
    copied = copy_with_state(model, own, shared=own.values()).to(device)
    set_mode(copied, False)
    return copied


def note_type(proof: Proof | None) -> Iterator[str]:
    """That the symmetry was proved in another type than float64."""
    if proof is not None and proof.dtype != "float64":
        yield (
            f"the symmetry was proved in {proof.dtype}, since the network does not run in float64: the outputs change "
            f"by a relative {proof.error:.1e} at most"
        )


def _collect_notes(
    symmetry: Symmetry, matched: Matching, distances: Sequence[float], apart: Sequence[str], method: AlignmentMethod
) -> Iterator[str]:
    """That nothing moved, and why; that the weights moved apart, and by which kinds."""
    before, after = distances
    said = f"from a distance of {before:.4g} to {after:.4g}"
    if not symmetry.sizes:
        yield "the symmetry holds no units that may be permuted: B was not changed"
    elif not matched.factors and all(torch.equal(p.cpu(), torch.arange(len(p))) for p in matched.permutations.values()):
        yield "matching found no better order than the present one: B was not changed"
    elif after <= before * (1 + 1e-6):
        return
    elif method.optimised_on() is not None:
        yield f"matching moved the weights farther apart, {said}: the method optimises a loss, not the distance"
    elif apart:
        yield (
            f"B's units got A's {join_kinds(apart)}, which puts the weights farther apart, {said}: "
            "units are matched by the method's own measure, which does not depend on them"
        )
    else:
        yield (
            f"matching moved the weights farther apart, {said}: "
            "the method does not compare weights; WeightMatching() moves them together"
        )


def resolve_symmetry(model: nn.Module, method: AlignmentMethod, symmetry: Symmetry | None) -> Symmetry:
    if symmetry is not None:
        check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
        return symmetry
    example = method.example(resolve_device(model, None), model)
    if example is None:
        raise ValueError(
            f"{type(method).__name__} needs to know what may be permuted, got symmetry=None; pass "
            "symmetry=symmetry_of(model, example_input)"
        )
    return symmetry_of(model, example)
