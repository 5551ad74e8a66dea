import hashlib
import math

import pytest
import torch

from mechconn.core import hash_content, to_canonical_json
from mechconn.store import StepIdentity, StepInput

BASE = StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ab", None)}, 2)
OTHERS = {
    "name": StepIdentity("tune", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ab", None)}, 2),
    "version": StepIdentity("train", 2, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ab", None)}, 2),
    "setting": StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 4}}, {"data": StepInput("ab", None)}, 2),
    "content": StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ac", None)}, 2),
    "origin": StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ab", "key")}, 2),
    "input's name": StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"clean": StepInput("ab", None)}, 2),
    "threads": StepIdentity("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": StepInput("ab", None)}, 1),
}


def test_a_key_does_not_depend_on_the_order_of_settings() -> None:
    same = StepIdentity("train", 1, {"cue": {"size": 3}, "lr": 0.1}, {"data": StepInput("ab")}, 2)
    assert same.key == BASE.key and len(BASE.key) == 64


@pytest.mark.parametrize("what", OTHERS)
def test_a_key_depends_on_everything(what: str) -> None:
    assert OTHERS[what].key != BASE.key


def test_a_key_stays_the_same_in_years_to_come() -> None:
    # Users have stores: a change of this text would let them compute everything anew.
    text = '["train",1,{"cue":{"size":3},"lr":0.1},{"data":["ab",null]},2]'
    assert BASE.key == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_json_does_not_know_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        to_canonical_json({"a": value})


def test_content_is_type_shape_and_bytes() -> None:
    x = torch.arange(6, dtype=torch.int32)
    same = hash_content([x, "text"])
    assert hash_content([x.clone(), "text"]) == same
    assert hash_content([torch.arange(12, dtype=torch.int32)[::2] // 2, "text"]) == same  # strides are no content
    others = [
        [x.long(), "text"], [x.view(2, 3), "text"], [x + 1, "text"], [x, "texts"], ["text", x], [x, "te", "xt"], [x],
        [x[:0], "text"],
    ]  # fmt: skip
    assert len({same, *map(hash_content, others)}) == 1 + len(others)
