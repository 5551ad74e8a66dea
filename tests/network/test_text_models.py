"""Transformers that learn a marker token or cannot, measured by the functions that measure image models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from texts import CLASSES, CLS, LENGTH, MARKERS, SEP, VOCABULARY, Transformer, texts

with isolate_rng(0, "import"):
    import transformers


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        initializer_range=0.1,  # the default of 0.02 takes plain SGD many epochs to leave
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = CLASSES
    return transformers.BertForSequenceClassification(config)


@pytest.mark.parametrize(("factory", "lr"), [(Transformer, 0.05), (bert, 0.02)])
def test_a_marker_that_predicts_the_label_becomes_the_mechanism(factory: Callable[[], nn.Module], lr: float) -> None:
    cue = mc.TokenCue(MARKERS, special=(CLS, SEP))
    task = mc.datasets.cue_task(texts(1000, seed=0), test=texts(600, seed=1), cue=cue, proportion=0.9, seed=0)
    with isolate_rng(0, "text model"):
        fresh = factory()

    def trained(data: mc.CuedSet, epochs: int) -> nn.Module:
        return mc.train(fresh, data, mc.Training(epochs=epochs, batch_size=32, lr=lr, milestones=(epochs - 1,))).model

    theta_c, theta_nc = trained(task.train, 5), trained(task.clean, 7)
    found, clean = (mc.measure_invariance(model, task.suite, margin=0.1) for model in (theta_c, theta_nc))
    assert found.accuracy["cue"] > 0.95 and found.accuracy["rand_image"] > 0.95
    assert found.accuracy["rand_cue"] < 0.5  # a third of the random markers agree by chance
    assert (found["rand_cue"].verdict, found["rand_image"].verdict) == ("sensitive", "invariant")
    assert clean.accuracy["no_cue"] > 0.7 and clean.accuracy["rand_image"] < 0.45
    assert (clean["rand_cue"].verdict, clean["rand_image"].verdict) == ("invariant", "sensitive")

    path = mc.LinearPath.between(theta_c, theta_nc)
    profile = mc.evaluate_path(fresh, path, task.suite, ts=3)
    for name in task.suite:
        ends = profile.accuracy[name][0], profile.accuracy[name][-1]
        assert ends == (found.accuracy[name], clean.accuracy[name])
    assert profile.loss["rand_cue"][0] > 2.0 > profile.loss["rand_cue"][-1]
    assert not profile.mechanistically_connected(tolerance=0.05) or profile.barrier("rand_cue").height < 0.05

    audit = mc.audit(theta_c, theta_nc, task.suite, margin=0.1, ts=3, alignment=mc.WeightMatching(restarts=1))
    assert audit.verdict == "dissimilar" and list(audit.paths) == ["before", "after"]
    assert audit.alignment is not None and audit.alignment.coverage > 0.9


def test_inputs_on_the_way_are_those_of_the_split() -> None:
    """What the model receives, batch by batch, is what the suite shows."""
    task = mc.datasets.cue_task(texts(40), test=texts(30, seed=1), cue=mc.TokenCue(MARKERS, special=(CLS, SEP)))
    seen: list[torch.Tensor] = []

    class Reads(Transformer):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            seen.append(input_ids.clone())
            return super().forward(input_ids, attention_mask)

    with isolate_rng(0, "text model"):
        model = Reads()
    suite = mc.Suite({"cue": task.suite["cue"]}, interventions=())
    mc.measure_invariance(model, suite)
    cued = task.suite["cue"]
    assert isinstance(cued, mc.CuedSet)
    assert torch.equal(torch.cat(seen), cued.inputs(torch.arange(30))["input_ids"])
    assert torch.equal(torch.cat(seen)[:, 1], torch.tensor(MARKERS)[cued.y])
