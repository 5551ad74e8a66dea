import hashlib
import math

import pytest
import torch

from mechconn.core import canonical, content_hash
from mechconn.store import Input, Step

BASE = Step("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ab", None)}, 2)
OTHERS = {
    "name": Step("tune", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ab", None)}, 2),
    "version": Step("train", 2, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ab", None)}, 2),
    "setting": Step("train", 1, {"lr": 0.1, "cue": {"size": 4}}, {"data": Input("ab", None)}, 2),
    "content": Step("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ac", None)}, 2),
    "origin": Step("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ab", "key")}, 2),
    "input's name": Step("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"clean": Input("ab", None)}, 2),
    "threads": Step("train", 1, {"lr": 0.1, "cue": {"size": 3}}, {"data": Input("ab", None)}, 1),
}


def test_a_key_does_not_depend_on_the_order_of_settings() -> None:
    same = Step("train", 1, {"cue": {"size": 3}, "lr": 0.1}, {"data": Input("ab")}, 2)
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
        canonical({"a": value})


def test_content_is_type_shape_and_bytes() -> None:
    x = torch.arange(6, dtype=torch.int32)
    same = content_hash([x, "text"])
    assert content_hash([x.clone(), "text"]) == same
    assert content_hash([torch.arange(12, dtype=torch.int32)[::2] // 2, "text"]) == same  # strides are no content
    others = [
        [x.long(), "text"], [x.view(2, 3), "text"], [x + 1, "text"], [x, "texts"], ["text", x], [x, "te", "xt"], [x],
        [x[:0], "text"],
    ]  # fmt: skip
    assert len({same, *map(content_hash, others)}) == 1 + len(others)
