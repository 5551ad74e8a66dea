"""Families of torchvision and timm: small networks with random weights, as plain data.

A model is a name in the library's registry, or module:Class; so is a setting that is a class.
"""

from __future__ import annotations

import importlib
from typing import Any

from architecture_inputs import Family, VisionRow, images
from families_of_timm import TIMM
from torch import nn

THREE: dict[str, Any] = {"num_classes": 3}
SWIN: dict[str, Any] = {
    **THREE,
    "patch_size": [4, 4],
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": [4, 4],
    "stochastic_depth_prob": 0.0,
}
LAYERS: dict[str, Any] = {**THREE, "layers": (1, 1, 1, 1)}


TORCHVISION: list[VisionRow] = [
    ("AlexNet", "alexnet", THREE, (64, 96)),
    ("ResNet, basic blocks", "ResNet", {**LAYERS, "block": "torchvision.models.resnet:BasicBlock"}, (64, 96)),
    (
        "ResNet, bottlenecks",
        "ResNet",
        {**LAYERS, "block": "torchvision.models.resnet:Bottleneck", "width_per_group": 8},
        (64, 96),
    ),
    (
        "ResNeXt",
        "ResNet",
        {**LAYERS, "block": "torchvision.models.resnet:Bottleneck", "groups": 8, "width_per_group": 2},
        (64, 96),
    ),
    ("DenseNet", "DenseNet", {**THREE, "growth_rate": 8, "block_config": (2, 2, 2), "num_init_features": 8}, (64, 96)),
    ("SqueezeNet", "squeezenet1_1", THREE, (64, 96)),
    ("GoogLeNet", "googlenet", {**THREE, "init_weights": False}, (64, 96)),
    ("Inception v3", "inception_v3", {**THREE, "init_weights": False, "aux_logits": False}, (96, 128)),
    ("MobileNet v2", "mobilenet_v2", {**THREE, "width_mult": 0.35}, (64, 96)),
    ("MobileNet v3", "mobilenet_v3_small", THREE, (64, 96)),
    ("MNASNet", "mnasnet0_5", THREE, (64, 96)),
    ("ShuffleNet v2", "shufflenet_v2_x0_5", THREE, (64, 96)),
    ("EfficientNet", "efficientnet_b0", THREE, (64, 96)),
    ("RegNet X", "regnet_x_400mf", THREE, (64, 96)),
    ("RegNet Y", "regnet_y_400mf", THREE, (64, 96)),
    (
        "ViT",
        "VisionTransformer",
        {**THREE, "image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 20},
        (32,),
    ),
    ("Swin", "SwinTransformer", SWIN, (32, 48)),
    (
        "Swin v2",
        "SwinTransformer",
        {
            **SWIN,
            "block": "torchvision.models.swin_transformer:SwinTransformerBlockV2",
            "downsample_layer": "torchvision.models.swin_transformer:PatchMergingV2",
        },
        (32, 48),
    ),
    (
        "MaxViT",
        "MaxVit",
        {
            **THREE,
            "input_size": (32, 32),
            "stem_channels": 8,
            "partition_size": 2,
            "block_channels": [8, 16],
            "block_layers": [1, 1],
            "head_dim": 4,
            "stochastic_depth_prob": 0.0,
        },
        (32,),
    ),
]


def resolve(value: Any) -> Any:
    """The class that module:Class names, also in lists; other values as they are."""
    if isinstance(value, list):
        return [resolve(part) for part in value]
    if isinstance(value, str) and ":" in value:
        module, _, name = value.partition(":")
        return getattr(importlib.import_module(module), name)
    return value


def build(family: Family) -> nn.Module:
    """A model with random weights."""
    settings = {name: resolve(value) for name, value in family.settings.items()}
    if ":" in family.model:
        return resolve(family.model)(**settings)
    if family.kind == "torchvision":
        return getattr(importlib.import_module("torchvision.models"), family.model)(**settings)
    return importlib.import_module("timm").create_model(family.model, pretrained=False, **settings)


def make_family(row: VisionRow, kind: str) -> Family:
    """A family whose name says from which library it is, as some are in several."""
    name, model, settings, sides = row
    return Family(f"{name} ({kind})", model, images(*sides, name="x"), settings, kind)


FAMILIES = [
    *(make_family(row, "torchvision") for row in TORCHVISION),
    *(make_family(row, "timm") for row in TIMM),
]
