"""Suites of cue variants: the same test rows under the same cue in other forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from mechconn.core import CUE, check_choice, check_is, is_built_in
from mechconn.datasets._cue import Cue, check_values
from mechconn.datasets._suite import CuedSet, Suite

CONTENTS = ("own", "random")


def make_variant_suite(cued: CuedSet, content: Literal["own", "random"], seed: int) -> Suite:
    """See `CueTask.variants`."""
    check_choice("content", content, CONTENTS)
    shown = cued.with_random_content(seed) if content == "random" else cued
    variants = _read_variants(cued)
    splits = {CUE: shown.with_cue(seed)}
    for name, cue in variants.items():
        splits[name] = replace(shown, cue=cue).with_cue(seed)
    return Suite(splits, reference=CUE)


def _read_variants(cued: CuedSet) -> Mapping[str, Cue]:
    """The variants of the cue, each of them a cue for these data."""
    name, variants = type(cued.cue).__name__, cued.cue.variants()
    if not variants:
        raise ValueError(
            f"{name} names no variants; give {name} a method variants() that returns a mapping of names to cues"
        )
    for variant, cue in variants.items():
        check_is(f"variant {variant!r} of {name}", cue, Cue)
        if variant == CUE:
            raise ValueError(f"a variant of {name} is called {CUE!r}, the name of the reference; give it another name")
        cue.check_data("test", cued.content)
        if not is_built_in(type(cue)):
            check_values(cue, cued.content)
    return variants
