"""Fine-tuning of Transformers: heads of Hugging Face classifiers, and a text model that loses its marker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.descent import find_head
from texts import CLS, MARKERS, SEP, Transformer, texts

with isolate_rng(0, "import"):
    import transformers


def small(name: str) -> tuple[nn.Module, Mapping[str, torch.Tensor], str]:
    """A classifier without weights of its own, inputs for it, and the name of its head."""
    common: dict[str, Any] = {"vocab_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"input_ids": torch.arange(3, 15).view(2, 6).repeat(6, 1) % 20, "attention_mask": torch.ones(12, 6).long()}
    with isolate_rng(0, name):
        if name == "bert":
            config = transformers.BertConfig(hidden_size=8, intermediate_size=8, **common)
            config.num_labels = 3
            return transformers.BertForSequenceClassification(config), text, "classifier"
        if name == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8, pad_token_id=0
            )
            config.num_labels = 3
            return transformers.GPT2ForSequenceClassification(config), text, "score"
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4,
        )  # fmt: skip
        config.num_labels = 3
        draw = torch.Generator().manual_seed(0)
        return (
            transformers.ViTForImageClassification(config),
            {"pixel_values": torch.randn(12, 3, 8, 8, generator=draw)},
            "classifier",
        )


@pytest.mark.parametrize("method", [mc.LastLayerRetraining(epochs=2, lr=0.1), mc.DFR(draws=1), mc.CBFT(epochs=2)])
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_heads_of_hub_classifiers_are_found(name: str, method: Any) -> None:
    model, inputs, head = small(name)
    assert find_head(model, inputs) == head
    batches = [({**inputs}, torch.arange(12) % 3)]
    tuned = mc.fine_tune(model, method, clean=batches, cued=batches)
    moved = [n for n, p in tuned.model.named_parameters() if not torch.equal(p, model.get_parameter(n))]
    assert f"{head}.weight" in moved
    if not isinstance(method, mc.CBFT):
        assert {n.rpartition(".")[0] for n in moved} == {head}


@pytest.mark.slow
def test_cbft_takes_the_marker_away_and_naive_fine_tuning_at_a_small_rate_does_not() -> None:
    cue = mc.TokenCue(MARKERS, special=(CLS, SEP))
    task = mc.datasets.cue_task(texts(1000, seed=0), test=texts(600, seed=1), cue=cue, proportion=0.9, seed=0)
    with isolate_rng(0, "text model"):
        fresh = Transformer()
    training = mc.Training(epochs=5, batch_size=32, lr=0.05, milestones=(4,))
    theta_c = mc.train(fresh, task.train, training).model
    clean = task.clean.sample(600, seed=0)

    def effects(method: Any) -> tuple[mc.Invariance, float]:
        tuned = mc.fine_tune(theta_c, method, clean=clean, cued=task.train, seed=0)
        found = mc.measure_invariance(tuned.model, task.suite, margin=0.1)
        return found, found["rand_cue"].effect

    naive, lost = effects(mc.NaiveFineTuning(epochs=20, batch_size=30, lr=0.001))
    changed, kept = effects(mc.CBFT(epochs=20, batch_size=30, lr=0.02))
    assert naive["rand_cue"].verdict == "sensitive" and lost < -0.4
    assert naive.accuracy["rand_image"] > 0.8
    assert abs(kept) < abs(lost) / 4
    assert changed.accuracy["rand_image"] < 0.5 and changed.accuracy["no_cue"] > 0.6
