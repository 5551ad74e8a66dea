"""Classifiers that Transformers saved, and whose outputs have names: comparisons refuse other names or orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets import ImageSet

with isolate_rng(0, "import"):
    import transformers


def saved(folder: Path, names: Sequence[str] | None) -> Any:
    """A classifier of images of 8 pixels, written and read again."""
    labels: dict[str, Any] = {"num_labels": 2} if names is None else {"id2label": dict(enumerate(names))}
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with isolate_rng(0, "vit"):
        config = transformers.ViTConfig(image_size=8, patch_size=4, **small, **labels)  # pyright: ignore
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    return mc.load_model(folder)


def suite_of(classes: tuple[str, ...]) -> mc.Suite:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (20, 3, 8, 8), generator=draw, dtype=torch.uint8)
    data = ImageSet(x, torch.arange(20) % 2, classes)
    return mc.Suite({"cue": data, "hue": data})


CALLS: dict[str, Callable[[Any, Any, mc.Suite], Any]] = {
    "audit": lambda a, b, suite: mc.audit(a, b, suite, ts=3, alignment="none"),
    "one model a side": mc.compare_mechanisms,
    "several models a side": lambda a, b, suite: mc.compare_mechanisms([a, a], [a, b], suite),
    "discrepancy": mc.output_discrepancy,
    "map": lambda a, b, suite: mc.mechanism_map({"a": a, "b": b}, suite, ts=3),
    "one model": lambda a, b, suite: mc.measure_invariance(b, suite),
}


@pytest.mark.parametrize("call", CALLS)
def test_orders_and_names_that_differ_are_refused(call: str, tmp_path: Path) -> None:
    suite, a = suite_of(("neg", "pos")), saved(tmp_path, ("Neg", "POS"))
    for names, why in (
        (("pos", "neg"), "in different orders (class 0 is "),
        (("bad", "good"), "name different classes ("),
    ):
        with pytest.raises(ValueError) as caught:
            CALLS[call](a, saved(tmp_path, names), suite)
        assert why in str(caught.value) and "\n" not in str(caught.value)
    CALLS[call](a, saved(tmp_path, None), suite)  # default names say nothing
    CALLS[call](a, saved(tmp_path, ("neg", "pos")), suite_of(("0", "1")))


def test_the_remedy_of_the_error(tmp_path: Path) -> None:
    """One function under two orders of names, brought into one: the last layer's rows with the names."""
    suite, a, b = suite_of(("neg", "pos")), saved(tmp_path, ("neg", "pos")), saved(tmp_path, ("neg", "pos"))
    b.config.id2label = {0: "pos", 1: "neg"}
    with torch.no_grad():
        b.classifier.weight.copy_(b.classifier.weight.flip(0).clone())
        b.classifier.bias.copy_(b.classifier.bias.flip(0).clone())
    with pytest.raises(ValueError, match=r"the rows of a model's last layer with its config.id2label"):
        mc.audit(a, b, suite, ts=3, alignment="none")
    order = [list(b.config.id2label.values()).index(name) for name in a.config.id2label.values()]
    with torch.no_grad():
        b.classifier.weight.copy_(b.classifier.weight[order])
        b.classifier.bias.copy_(b.classifier.bias[order])
    b.config.id2label = a.config.id2label
    found = mc.audit(a, b, suite, ts=3, alignment="none")
    assert found.discrepancy is not None and found.discrepancy.mean == 0
    assert found.comparison.a.accuracy == found.comparison.b.accuracy
