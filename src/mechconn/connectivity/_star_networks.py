"""The networks around a star: by name, without wrappers, each known by the hash of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from mechconn.alignment import verify_symmetry
from mechconn.core import Inputs, check_is, hash_content, hash_values, to_plain
from mechconn.network import has_adapters, unwrap_module
from mechconn.symmetry import Symmetry, symmetry_of

STAR = "star"
"""What stands for the star at the end of a line."""


def list_networks(what: str, one: str, given: Mapping[str, nn.Module] | Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Networks by name without wrappers; those in a row are called by `one` and their number.

    Raises:
        TypeError: no table or row of networks.
        ValueError: a network called "star", or with low-rank adapters, whose factors are not mixed.
    """
    if isinstance(given, nn.Module) or not isinstance(given, Mapping | Sequence):
        raise TypeError(f"{what} must be networks, {{name: model, ...}} or [model, ...], got {type(given).__name__}")
    named = given if isinstance(given, Mapping) else {f"{one} {number}": model for number, model in enumerate(given)}
    found = {}
    for name, model in named.items():
        check_is(f"a name in {what}", name, str, "; write {name: model, ...}")
        if name == STAR:
            raise ValueError(f"{what} hold a network called {STAR!r}, which is the name of the star itself; rename it")
        check_is(f"{what}[{name!r}]", model, nn.Module)
        if has_adapters(model):
            raise ValueError(
                f"{what}[{name!r}] carries low-rank adapters, and points between factors are not points between the "
                "networks; merge each adapter into its base (merge_and_unload) first"
            )
        found[name] = unwrap_module(model, f"{what}[{name!r}]")
    return found


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of a network's parameters, by name, type, shape and bytes."""
    parts = ((name, tensor) for name, tensor in sorted(model.named_parameters()))
    return hash_content(part for pair in parts for part in pair)


def name_sources(
    given: Mapping[str, nn.Module] | Sequence[nn.Module], known: Mapping[str, str]
) -> dict[str, nn.Module]:
    """Sources of a fit by name, those in a row by their names in the fit; `known` is name -> hash of each of the fit's.

    Raises:
        ValueError: a network that is none of the fit's sources, has the name of another one, or stands there twice.
    """
    by_hash = {weights: name for name, weights in known.items()}
    found: dict[str, nn.Module] = {}
    for name, model in list_networks("sources", "source", given).items():
        own = by_hash.get(hash_weights(model))
        if own is None:
            raise ValueError(f"the source {name!r} is none of the networks that the star was fitted on; leave it out")
        if isinstance(given, Mapping) and name in known and name != own:
            raise ValueError(f"the source {name!r} is {own!r} of the fit, which has another {name!r}; call it {own!r}")
        label = name if isinstance(given, Mapping) else own
        if label in found:
            raise ValueError(f"the source {label!r} stands there twice; leave one out")
        found[label] = model
    return found


def prove_star_symmetry(model: nn.Module, symmetry: Symmetry | None, example: Inputs, seed: int) -> Symmetry:
    """What may be moved around a star, proved on a network; by default permutations and signs of units.

    Scales and linear maps are left out of the default: moved onto fresh weights, a network gets the scales of these.

    Raises:
        ValueError: it does not hold.
    """
    if symmetry is None:
        found = symmetry_of(model, example)
        symmetry = replace(found, actions=tuple(action for action in found.actions if action.kind == "sign"))
    check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
    if symmetry.example_input is None:  # read from a file
        symmetry = replace(symmetry, example_input=example)
    verify_symmetry(symmetry, model, seed)
    return symmetry


def describe_symmetry(symmetry: Symmetry) -> dict[str, Any]:
    """Which kinds of moves there are, of which units, and the hash of all that decides how a network moves."""
    moves = [symmetry.axes, symmetry.sizes, symmetry.actions, symmetry.aliases, symmetry.buffers, symmetry.uniform]
    return {
        "kinds": [*(["permutation"] if symmetry.sizes else []), *sorted({action.kind for action in symmetry.actions})],
        "groups": dict(symmetry.sizes),
        "hash": hash_values(to_plain(moves)),
    }
