"""Aligning two networks: moving one onto the other by permutations that leave its function as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.alignment._activations import ActivationMatching
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.core import Compute, Inputs, Params, Progress, check_is, move_inputs, resolve_compute
from mechconn.network import (
    Network,
    check_one_module,
    compute_outputs,
    copy_with_state,
    fix_device,
    parameters_of,
    point_of,
    resolve_device,
    set_mode,
    unwrap_module,
)
from mechconn.symmetry import Symmetry, symmetry_of


@dataclass(frozen=True, eq=False)
class Alignment:
    """B moved onto A.

    Attributes:
        params: B's parameters with their units permuted.
        model: B as a module with these parameters, its norms' buffers moved along; the same function as B.
        permutations: group -> int64 of shape [size]: entry i is the place in B of the unit that goes to place i.
        coverage: share of the parameters with at least one axis that may be permuted, in [0, 1].
        similarity_before, similarity_after: group -> similarity of the units of A and B (mean correlation, or cosine
            of the weights), before and after.
        distance_before, distance_after: |theta_A - theta_B| over all parameters, before and after.
        dead: group -> units that are constant on the data, which nothing can tell apart; empty for weight matching.
        unseen: groups that could not be compared, and stay.
        notes: what the reader must know: that nothing moved, or that the weights ended farther apart; mostly empty.
        symmetry: what the permutations come from.
        settings: the method and everything needed to repeat it.
    """

    params: Params
    model: nn.Module
    permutations: Mapping[str, Tensor]
    coverage: float
    similarity_before: Mapping[str, float]
    similarity_after: Mapping[str, float]
    distance_before: float
    distance_after: float
    dead: Mapping[str, int]
    unseen: tuple[str, ...]
    symmetry: Symmetry = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON; the permutations as lists, without the weights."""
        return {
            "permutations": {group: permutation.tolist() for group, permutation in self.permutations.items()},
            "coverage": self.coverage,
            "similarity_before": dict(self.similarity_before),
            "similarity_after": dict(self.similarity_after),
            "distance_before": self.distance_before,
            "distance_after": self.distance_after,
            "dead": dict(self.dead),
            "unseen": list(self.unseen),
            "notes": list(self.notes),
            "frozen": sorted({reason for reason in self.symmetry.frozen.values()}),
            "settings": dict(self.settings),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.settings['method']}: distance {self.distance_before:.4g} -> {self.distance_after:.4g}, "
            f"coverage {100 * self.coverage:.1f} %"
        ]
        for group, after in self.similarity_after.items():
            dead = f", {self.dead[group]} dead" if self.dead.get(group) else ""
            lines.append(
                f"  {group} ({len(self.permutations[group])} units): similarity "
                f"{self.similarity_before[group]:.3f} -> {after:.3f}{dead}"
            )
        if self.unseen:
            lines.append(f"  not compared: {', '.join(self.unseen)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


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
    """Permute B's units so that they lie where A's like units lie; B's function stays as it is.

    The symmetry is first proved on B by running it (`Symmetry.verify`).

    Args:
        model_a: the network that stays; neither module is changed.
        model_b: the network that is moved: one module with A, with other parameters and statistics.
        method: ActivationMatching(data) or WeightMatching().
        symmetry: what may be permuted; default with ActivationMatching: `symmetry_of` model_b on the first two rows
            of the data.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of the proof's permutations and of restarts.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where model_a is.
        progress: short for `Compute(progress=...)`; counts steps.

    Raises:
        ValueError: the models are not one module with other parameters and statistics (the first eight differences are
            named), the symmetry does not hold, or none was given with a method that has no data.

    Example:
        Two networks that are the same but for the order of their units.

        >>> from mechconn.alignment import WeightMatching
        >>> a = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> symmetry = symmetry_of(a, torch.ones(2, 1))
        >>> import copy
        >>> b = copy.deepcopy(a)
        >>> _ = b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(seed=1)))
        >>> align(a, b, WeightMatching(), symmetry).distance_after
        0.0

    Source: Lubana et al. 2023, section 3; Entezari et al. 2022 (barriers up to permutation).
    """
    compute = resolve_compute(compute, device, progress)
    model_a, model_b = unwrap_module(model_a, "model_a"), unwrap_module(model_b, "model_b")
    check_is("method", method, AlignmentMethod, "; pass ActivationMatching(data) or WeightMatching()")
    example = _find_example(model_b, method, symmetry)
    outputs = None if example is None else partial(_compute_filled_and_own, model_a, model_b, example, compute)
    check_one_module(model_a, model_b, ignore=ignore, outputs=outputs, names=("model_a", "model_b"))
    return prove_and_match(model_a, model_b, method, symmetry, seed, compute)


def _find_example(model: nn.Module, method: AlignmentMethod, symmetry: Symmetry | None) -> Inputs | None:
    """What the symmetry was found on, or will be; None where nothing is known."""
    if symmetry is not None:
        check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
        return symmetry.example_input
    return method.example(resolve_device(model, None), model) if isinstance(method, ActivationMatching) else None


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
    symmetry = _resolve_symmetry(model_b, method, symmetry)
    verify_symmetry(symmetry, model_b, seed)
    return match_units(model_a, model_b, method, symmetry, seed, compute)


def verify_symmetry(symmetry: Symmetry, model: nn.Module, seed: int) -> None:
    """`Symmetry.verify` on the example that the symmetry was found on, wherever the model is."""
    example = symmetry.example_input
    symmetry.verify(model, None if example is None else move_inputs(example, resolve_device(model, None)), seed=seed)


def match_units(
    model_a: nn.Module,
    model_b: nn.Module,
    method: AlignmentMethod,
    symmetry: Symmetry,
    seed: int,
    compute: Compute,
) -> Alignment:
    """B moved onto A by a symmetry that is verified; as `align`, for networks of one architecture without wrappers."""
    where = resolve_device(model_a, compute.device)
    own_a, own_b = parameters_of(model_a), parameters_of(model_b)
    models = [_rest_at(model, where) for model in (model_a, model_b)]
    params_a, params_b = ({name: t.to(where) for name, t in own.items()} for own in (own_a, own_b))
    pair = NetworkPair(models[0], models[1], params_a, params_b, symmetry, seed, where, compute)
    matched = method.match(pair)
    moved = symmetry.apply(own_b, matched.permutations)
    model = copy_with_state(model_b, symmetry.apply(model_b.state_dict(), matched.permutations))
    before, after = compute_distance(own_a, own_b), compute_distance(own_a, moved)
    return Alignment(
        params=moved,
        model=model,
        permutations=matched.permutations,
        coverage=symmetry.coverage,
        similarity_before=matched.before,
        similarity_after=matched.after,
        distance_before=before,
        distance_after=after,
        dead=matched.dead,
        unseen=matched.unseen,
        symmetry=symmetry,
        settings={**pair.computed, **method.describe(), "seed": seed},
        notes=tuple(_collect_notes(symmetry, matched, before, after)),
    )


def _rest_at(model: nn.Module, device: torch.device) -> nn.Module:
    """The model in evaluation mode on a device; a copy where it is not."""
    if not any(part.training for part in model.modules()) and resolve_device(model, None) == device:
        return model
    copied = copy_with_state(model, {}).to(device)
    set_mode(copied, False)
    return copied


def _collect_notes(symmetry: Symmetry, matched: Matching, before: float, after: float) -> Iterator[str]:
    """That nothing moved, and why; that the weights moved apart."""
    if not symmetry.sizes:
        yield "the symmetry holds no units that may be permuted: B was not changed"
    elif all(torch.equal(p.cpu(), torch.arange(len(p))) for p in matched.permutations.values()):
        yield "matching found no better order than the present one: B was not changed"
    elif after > before * (1 + 1e-6):
        yield (
            f"matching moved the weights farther apart, from a distance of {before:.4g} to {after:.4g}: "
            f"it compares activations, not weights; WeightMatching() moves them together"
        )


def compute_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Euclidean distance of two points of weight space."""
    return float(sum((a[name].double() - b[name].to(a[name].device).double()).square().sum() for name in a) ** 0.5)


def _resolve_symmetry(model: nn.Module, method: AlignmentMethod, symmetry: Symmetry | None) -> Symmetry:
    if symmetry is not None:
        check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
        return symmetry
    if not isinstance(method, ActivationMatching):
        raise ValueError(
            f"{type(method).__name__} needs to know what may be permuted, got symmetry=None; pass "
            "symmetry=symmetry_of(model, example_input)"
        )
    return symmetry_of(model, method.example(resolve_device(model, None), model))
