"""A transformer that SGD with the defaults leaves at chance, and AdamW trains in the same two epochs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng

with isolate_rng(0, "import"):
    import transformers

CLASSES = 10


def build_vit() -> nn.Module:
    """Two layers over 16 patches of 2 x 2 pixels, with the initial weights of the published code."""
    kind: Any = transformers.ViTConfig  # whose fields are more than it declares
    config = kind(
        image_size=8, patch_size=2, num_channels=1, num_labels=CLASSES, hidden_size=48, intermediate_size=96,
        num_hidden_layers=2, num_attention_heads=4,
    )  # fmt: skip
    with isolate_rng(0, "vit"):
        return transformers.ViTForImageClassification(config)


def draw_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise, with one bright patch whose place is the class: told by position embeddings alone, which start small."""
    images, labels = (
        0.2 * torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)),
        torch.arange(count),
    )
    for number in range(count):
        row, column = divmod(number % CLASSES, 4)
        images[number, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1.0
    return images, labels % CLASSES


def accuracy(**settings: Any) -> float:
    """On 1000 images, after two epochs on 3000."""
    method = mc.NaiveFineTuning(epochs=2, batch_size=32, **settings)
    trained: Any = mc.train(build_vit(), draw_images(3000, 0), method).model
    images, labels = draw_images(1000, 1)
    with torch.no_grad():
        return (trained(images).logits.argmax(1) == labels).float().mean().item()


def test_adamw_trains_a_vision_transformer_that_sgd_leaves_at_chance() -> None:
    """Measured: 10 % and 100 %."""
    assert accuracy() < 0.35
    assert accuracy(optimizer="adamw", weight_decay=0.05, weight_decay_on="matrices", warmup=0.1) > 0.95
