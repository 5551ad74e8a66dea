"""What Transformers' classifiers cannot take of texts is told in one line, before any number."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets import TokenSet
from text_folders import make_bert, make_decoder

MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def ids_padded_with(pad: int) -> TokenSet:
    ids = torch.arange(4, 28).view(4, 6) * MASK + pad * (1 - MASK)
    return TokenSet(ids, MASK, torch.tensor([0, 1, 0, 1]), ("a", "b"), pads_by_batch=True)


def measure(model: Any, data: Any) -> float:
    found = mc.measure_invariance(model, mc.Suite({"cue": data}, reference="cue")).loss["cue"]
    assert found is not None
    return found


class Wrapped(nn.Module):
    """A classifier within a module of the user's own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_a_decoder_without_a_pad_token_is_refused_and_the_advice_works(kind: str, wrap: Any) -> None:
    model, data = make_decoder(kind), ids_padded_with(3)
    named = type(model).__name__
    expected = (
        f"split 'cue': {named} reads its answer at the last token before the padding, and its config has no "
        'pad_token_id to know it by; set config.pad_token_id = 3 ("pad_token_id" in config.json)'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        measure(wrap(model), data)
    model.config.pad_token_id = 3
    alone = [
        cross_entropy(model(input_ids=data.input_ids[row : row + 1, : int(n)]).logits, data.y[row : row + 1]).item()
        for row, n in enumerate(MASK.sum(1))
    ]
    assert measure(wrap(model), data) == pytest.approx(sum(alone) / 4, rel=1e-5)  # what the mask says


def test_padding_that_a_decoder_takes_for_text_is_refused() -> None:
    """Silently, the answer would be read at the last position."""
    model, data = make_decoder("llama", pad_token_id=2), ids_padded_with(3)
    with pytest.raises(ValueError) as caught:
        measure(model, data)
    assert str(caught.value) == (
        "split 'cue': row 0 is padded with id 3, but LlamaForSequenceClassification reads its answer before padding "
        "with id 2 (config.pad_token_id); pad with that id, tokenizer.pad_token_id = 2, or set config.pad_token_id = 3"
    )
    assert measure(model, ids_padded_with(2)) > 0
    model.config.pad_token_id = 3
    assert measure(model, data) > 0
    assert measure(make_bert(), data) > 0  # an encoder reads its first token, and heeds the mask


def test_texts_that_end_alike_or_are_padded_on_the_left() -> None:
    model = make_decoder("llama", pad_token_id=2)
    ids = ids_padded_with(2).input_ids.flip(1)
    batches = [({"input_ids": ids, "attention_mask": MASK.flip(1)}, torch.tensor([0, 1, 0, 1]))]
    assert measure(model, batches) > 0
    whole = ids_padded_with(2).subset(torch.tensor([2]))
    assert measure(make_decoder("llama"), whole) > 0  # one row without padding has no doubt


def test_ids_beyond_the_embedding() -> None:
    data = ids_padded_with(0)
    with pytest.raises(ValueError) as caught:
        measure(make_bert(words=20), data)
    assert str(caught.value) == (
        "split 'cue': row 2 holds token id 21, but BertForSequenceClassification has embeddings of 20 tokens; use the "
        "tokenizer that the model was saved with"
    )
    loader = [(data.inputs(torch.tensor([0, 1])), data.y[:2]), (data.inputs(torch.tensor([2])), data.y[2:3])]
    with pytest.raises(ValueError, match="row 2 holds token id 21"):
        measure(make_bert(words=20), loader)


def test_texts_longer_than_the_positions() -> None:
    data = replace(ids_padded_with(0), pads_by_batch=False)
    with pytest.raises(ValueError) as caught:
        measure(make_bert(positions=5), data)
    assert str(caught.value) == (
        "split 'cue': row 2 is given as 6 tokens, but BertForSequenceClassification has 5 positions; cut texts to "
        "them, max_length=5"
    )
    short = data.subset(torch.tensor([0, 1, 3]))
    assert measure(make_bert(positions=5), replace(short, pads_by_batch=True)) > 0  # nobody needs more than 4


def test_positions_that_begin_behind_the_padding() -> None:
    import transformers

    from mechconn.core import isolate_rng

    with isolate_rng(0, "roberta"):
        config = transformers.RobertaConfig(
            vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=7, pad_token_id=1,
        )  # fmt: skip
        model = transformers.RobertaForSequenceClassification(config).eval()
    with pytest.raises(ValueError, match="has 5 positions; cut texts to them, max_length=5"):
        measure(model, ids_padded_with(1))
    assert measure(model, ids_padded_with(1).subset(torch.tensor([0, 1, 3]))) > 0


def test_answers_at_the_last_position_need_texts_there() -> None:
    with isolate_rng(0, "xlnet"):
        sizes: dict[str, Any] = {
            "vocab_size": 40,
            "d_model": 8,
            "n_layer": 1,
            "n_head": 2,
            "d_inner": 8,
            "num_labels": 2,
        }
        config = transformers.XLNetConfig(**sizes)
        model = transformers.XLNetForSequenceClassification(config).eval()
    right = ids_padded_with(5)
    with pytest.raises(ValueError, match="reads its answer at the last position, and row 0 is padded there; pass a "):
        measure(model, right)
    assert measure(model, ({"input_ids": right.input_ids.flip(1), "attention_mask": MASK.flip(1)}, right.y)) > 0.0
    assert measure(model, replace(right, attention_mask=torch.ones_like(MASK))) > 0.0
