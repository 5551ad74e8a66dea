"""Suites of cue variants: the same rows and labels, the cue in another form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch

import mechconn as mc
from data_contract import images
from mechconn.datasets import Cue, CuedSet, CueTask, cue_task
from texts import MARKERS, texts
from user_defined_data import StripeCue

ALL = torch.arange(12)


def task(cue: Cue) -> CueTask:
    return cue_task(images(), test=images(), cue=cue)


def test_every_split_shows_its_own_content_with_a_variant_of_the_labels_cue() -> None:
    cue, found = mc.BoxCue(values=3), task(mc.BoxCue(values=3)).variants(seed=3)
    assert (found.reference, found.interventions) == ("cue", ("elsewhere", "larger", "paler", "other colour"))
    content = images()
    for name, split in found.items():
        own = cue if name == "cue" else cue.variants()[name]
        assert isinstance(split, CuedSet) and torch.equal(split.y, content.y)
        assert torch.equal(split.inputs(ALL), own.render(content.inputs(ALL), content.y))
    assert found.rows_shared("larger")


def test_the_cue_alone_is_shown_on_other_content_the_same_in_every_split() -> None:
    own = task(mc.BoxCue(values=3))
    found = own.variants("random", seed=3)
    reference = found["cue"]
    assert isinstance(reference, CuedSet) and not bool((reference.content_rows == ALL).any())
    for name, cue in mc.BoxCue(values=3).variants().items():
        split = found[name]
        assert isinstance(split, CuedSet) and split.cue == cue
        assert torch.equal(split.content_rows, reference.content_rows) and torch.equal(split.y, reference.y)
    again, other = own.variants("random", seed=3)["paler"], own.variants("random", seed=4)["paler"]
    assert isinstance(again, CuedSet) and isinstance(other, CuedSet)
    assert torch.equal(again.content_rows, reference.content_rows)
    assert not torch.equal(other.content_rows, reference.content_rows)


def test_the_tasks_own_suite_stays_as_it_is() -> None:
    own = task(mc.BoxCue(values=3))
    before = own.suite["cue"]
    own.variants()
    assert isinstance(before, CuedSet) and own.suite["cue"] is before and before.cue == mc.BoxCue(values=3)
    found = own.variants()["cue"]
    assert isinstance(found, CuedSet) and torch.equal(found.inputs(ALL), before.inputs(ALL))


def test_texts_and_cues_of_a_users_own_have_variants() -> None:
    found = cue_task(texts(40), cue=mc.TokenCue(MARKERS, special=(1, 2), others=(90, 91, 92))).variants()
    assert list(found) == ["cue", "elsewhere", "other token"]
    assert list(task(StripeCue()).variants()) == ["cue", "darker"]


@dataclass(frozen=True)
class Odd(StripeCue):
    """A user's cue with variants that are none."""

    given: str = "none"

    def variants(self) -> Mapping[str, Cue]:
        named: dict[str, dict[str, object]] = {"none": {}, "no cue": {"wide": 3}, "name": {"cue": StripeCue()}}
        return named[self.given]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ("none", ValueError, "Odd names no variants; give Odd a method variants() that returns a mapping"),
        ("no cue", TypeError, "variant 'wide' of Odd must be a Cue, got int"),
        ("name", ValueError, "a variant of Odd is called 'cue', the name of the reference; give it another name"),
    ],
)
def test_variants_that_are_none_say_so(given: str, kind: type[Exception], text: str) -> None:
    own = task(Odd(given=given))
    with pytest.raises(kind, match=re.escape(text)):
        own.variants()


def test_another_content_is_refused() -> None:
    with pytest.raises(ValueError, match="content must be one of 'own', 'random', got 'rand'; did you mean 'random'"):
        task(mc.BoxCue(values=3)).variants("rand")  # pyright: ignore[reportArgumentType]
