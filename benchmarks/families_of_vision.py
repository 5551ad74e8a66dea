"""Families of torchvision and timm: small variants with random weights, as plain data."""

from __future__ import annotations

from typing import Any

from architecture_inputs import Family, images
from torch import nn

THREE: dict[str, Any] = {"num_classes": 3}
VIT: dict[str, Any] = {**THREE, "img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
MIXER: dict[str, Any] = {**THREE, "img_size": 64}
WINDOWS: dict[str, Any] = {
    **THREE,
    "img_size": 32,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}

Row = tuple[str, str, dict[str, Any], tuple[int, ...]]
"""The family, the name in the library, keyword arguments, and the sides of the images at the two sizes."""

TORCHVISION: list[Row] = [
    ("AlexNet", "alexnet", THREE, (64, 96)),
    ("VGG", "vgg11", THREE, (32, 64)),
    ("VGG with BatchNorm", "vgg11_bn", THREE, (32, 64)),
    ("ResNet, basic blocks", "resnet18", THREE, (32, 48)),
    ("ResNet, bottlenecks", "resnet50", THREE, (32, 48)),
    ("ResNeXt", "resnext50_32x4d", THREE, (32, 48)),
    ("DenseNet", "DenseNet", {**THREE, "growth_rate": 8, "block_config": (2, 2, 2), "num_init_features": 8}, (32, 48)),
    ("SqueezeNet", "squeezenet1_1", THREE, (64, 96)),
    ("GoogLeNet", "googlenet", {**THREE, "init_weights": False}, (64, 96)),
    ("Inception v3", "inception_v3", {**THREE, "init_weights": False}, (80, 96)),
    ("MobileNet v2", "mobilenet_v2", {**THREE, "width_mult": 0.35}, (32, 48)),
    ("MobileNet v3", "mobilenet_v3_small", THREE, (32, 48)),
    ("MNASNet", "mnasnet0_5", THREE, (32, 48)),
    ("ShuffleNet v2", "shufflenet_v2_x0_5", THREE, (32, 48)),
    ("EfficientNet", "efficientnet_b0", THREE, (32, 48)),
    ("EfficientNet v2", "efficientnet_v2_s", THREE, (32, 48)),
    ("RegNet X", "regnet_x_400mf", THREE, (32, 48)),
    ("RegNet Y", "regnet_y_400mf", THREE, (32, 48)),
    ("ConvNeXt", "convnext_tiny", THREE, (32, 64)),
    (
        "ViT",
        "VisionTransformer",
        {**THREE, "image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 20},
        (32,),
    ),
    (
        "Swin",
        "SwinTransformer",
        {
            **THREE,
            "patch_size": [4, 4],
            "embed_dim": 8,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": [4, 4],
            "stochastic_depth_prob": 0.0,
        },
        (32, 48),
    ),
    ("Swin v2", "swin_v2_t", THREE, (64, 96)),
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

TIMM: list[Row] = [
    ("ViT", "vit_tiny_patch16_224", VIT, (32,)),
    ("DeiT, distilled", "deit_tiny_distilled_patch16_224", VIT, (32,)),
    ("DeiT III", "deit3_small_patch16_224", VIT, (32,)),
    ("FlexiViT", "flexivit_small", VIT, (32,)),
    ("ViT, registers and positions resampled", "test_vit", {**THREE, "dynamic_img_size": True}, (160, 192)),
    (
        "NaFlexViT",
        "naflexvit_base_patch16_gap",
        {**THREE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
        (32, 48),
    ),
    ("BEiT", "beit_base_patch16_224", VIT, (32,)),
    ("EVA-02", "eva02_tiny_patch14_224", VIT, (32,)),
    ("CaiT", "cait_xxs24_224", VIT, (32,)),
    ("XCiT", "xcit_nano_12_p16_224", {**VIT, "patch_size": 8}, (32,)),
    ("ConViT", "convit_tiny", {**VIT, "local_up_to_layer": 1}, (32,)),
    ("VOLO", "volo_d1_224", {**THREE, "img_size": 64}, (64,)),
    (
        "TNT",
        "tnt_s_patch16_224",
        {
            **THREE,
            "img_size": 32,
            "depth": 2,
            "embed_dim": 16,
            "inner_dim": 8,
            "num_heads_inner": 2,
            "num_heads_outer": 2,
        },
        (32,),
    ),
    ("CrossViT", "crossvit_tiny_240", THREE, (240,)),
    (
        "Twins",
        "twins_svt_small",
        {
            **THREE,
            "img_size": 64,
            "embed_dims": (8, 16, 16, 32),
            "num_heads": (1, 2, 2, 4),
            "depths": (2, 2, 2, 2),
            "wss": (2, 2, 2, 2),
        },
        (64,),
    ),
    ("PiT", "pit_ti_224", THREE, (224,)),
    ("Visformer", "visformer_tiny", {**THREE, "img_size": 64}, (64,)),
    ("CoaT", "coat_lite_tiny", {**THREE, "img_size": 64}, (64,)),
    ("Swin", "swin_tiny_patch4_window7_224", WINDOWS, (32,)),
    ("Swin v2", "swinv2_tiny_window8_256", WINDOWS, (32,)),
    ("Swin v2, CR", "swinv2_cr_tiny_224", {**WINDOWS}, (32,)),
    ("MaxViT", "maxvit_rmlp_pico_rw_256", {**THREE, "img_size": 64}, (64,)),
    ("CoAtNet", "coatnet_nano_rw_224", {**THREE, "img_size": 64}, (64,)),
    ("GC-ViT", "gcvit_xxtiny", THREE, (224,)),
    ("MViT v2", "mvitv2_tiny", {**THREE, "img_size": 64}, (64,)),
    ("NesT", "nest_tiny", {**THREE, "img_size": 64}, (64,)),
    ("DaViT", "davit_tiny", THREE, (64, 96)),
    ("EdgeNeXt", "edgenext_xx_small", THREE, (64, 96)),
    ("EfficientFormer", "efficientformer_l1", THREE, (224,)),
    ("EfficientViT, MIT", "efficientvit_b0", THREE, (64, 96)),
    ("FastViT", "fastvit_t8", THREE, (64, 96)),
    ("LeViT", "levit_128s", THREE, (224,)),
    ("MobileViT", "mobilevit_xxs", THREE, (64, 96)),
    ("MobileViT v2", "mobilevitv2_050", THREE, (64, 96)),
    ("TinyViT", "tiny_vit_5m_224", THREE, (224,)),
    ("PVT v2", "pvt_v2_b0", THREE, (64, 96)),
    ("PoolFormer", "poolformer_s12", THREE, (64, 96)),
    ("CAFormer", "caformer_s18", THREE, (64, 96)),
    ("MLP-Mixer", "mixer_s32_224", MIXER, (64,)),
    ("gMLP", "gmlp_ti16_224", MIXER, (64,)),
    ("ResMLP", "resmlp_12_224", MIXER, (64,)),
    ("ConvMixer", "convmixer_768_32", THREE, (64, 96)),
    (
        "Sequencer2D",
        "sequencer2d_s",
        {**THREE, "img_size": 64, "layers": (1, 1, 1, 1), "embed_dims": (16, 16, 16, 16), "hidden_sizes": (4, 8, 8, 8)},
        (64,),
    ),
    ("MambaOut", "mambaout_femto", {**THREE, "depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)}, (64, 96)),
    ("ConvNeXt v2", "convnextv2_atto", {**THREE, "depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32)}, (64, 96)),
    ("InceptionNeXt", "inception_next_atto", {**THREE, "depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32)}, (64, 96)),
    ("FocalNet", "focalnet_tiny_srf", THREE, (64, 96)),
    ("RepVGG", "repvgg_a0", THREE, (64, 96)),
    ("MobileOne", "mobileone_s0", THREE, (64, 96)),
    ("RepViT", "repvit_m0_9", THREE, (64, 96)),
    ("GhostNet", "ghostnet_050", THREE, (64, 96)),
    ("MobileNet v4", "mobilenetv4_conv_small_035", THREE, (64, 96)),
    ("LCNet", "lcnet_035", THREE, (64, 96)),
    ("MixNet", "mixnet_s", THREE, (64, 96)),
    ("HGNet v2", "hgnetv2_b0", THREE, (64, 96)),
    ("NFNet", "nf_regnet_b0", THREE, (64, 96)),
    ("ResNet v2", "resnetv2_18", THREE, (64, 96)),
    ("Res2Net", "res2net50_26w_4s", THREE, (64, 96)),
    ("ResNeSt", "resnest14d", THREE, (64, 96)),
    ("SE-ResNet", "seresnet18", THREE, (64, 96)),
    ("SK-ResNet", "skresnet18", THREE, (64, 96)),
    ("HRNet", "hrnet_w18_small", THREE, (64, 96)),
    ("DLA", "dla46_c", THREE, (64, 96)),
    ("DPN", "dpn48b", THREE, (64, 96)),
    ("CSP-DarkNet", "cs3darknet_s", THREE, (64, 96)),
    ("VoVNet", "ese_vovnet19b_slim", THREE, (64, 96)),
    ("Halo networks", "halonet26t", THREE, (128,)),
    ("BoTNet", "botnet26t_256", {**THREE, "img_size": 64}, (64,)),
    ("Lambda networks", "lambda_resnet26t", {**THREE, "img_size": 64}, (64,)),
    ("StarNet", "starnet_s050", THREE, (64, 96)),
]


def build(family: Family) -> nn.Module:
    """A model with random weights."""
    if family.kind == "torchvision":
        import torchvision

        made: Any = getattr(torchvision.models, family.model)
        return made(**family.settings)
    import timm

    return timm.create_model(family.model, pretrained=False, **family.settings)


def make_family(row: Row, kind: str) -> Family:
    """A family whose name says from which library it is, as some are in several."""
    name, model, settings, sides = row
    return Family(f"{name} ({kind})", model, images(*sides, name="x"), settings, kind)


FAMILIES = [
    *(make_family(row, "torchvision") for row in TORCHVISION),
    *(make_family(row, "timm") for row in TIMM),
]
