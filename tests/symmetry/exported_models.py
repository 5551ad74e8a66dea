"""Models of the transformers library that look at values, resample, write in place, or return caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

hf: Any = transformers


def tokens(length: int = 7, end: bool = False) -> Tensor:
    """Two rows, without special tokens but for the end token 2 where there is one."""
    ids = torch.randint(5, 30, (2, length), generator=torch.Generator().manual_seed(5))
    ids[:, -1] = 2 if end else ids[:, -1]
    return ids


def make(name: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(hf, name)(getattr(hf, config)(**settings))


ENDED = {"input_ids": tokens(end=True)}
IDS = {"input_ids": tokens()}
PIXELS = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))}
PATCHES = {
    "pixel_values": torch.randn(2, 16, 192, generator=torch.Generator().manual_seed(6)),
    "pixel_attention_mask": torch.tensor([[1] * 16, [1] * 12 + [0] * 4]),
    "spatial_shapes": torch.tensor([[4, 4], [3, 4]]),
}
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
TEXT: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 40, **SIZES}
IMAGE: dict[str, Any] = {"image_size": 32, "patch_size": 8, **SIZES}
BOTH: dict[str, Any] = {"vision_config": IMAGE, "text_config": TEXT, "num_labels": 3}
PAIR: dict[str, Any] = {
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{"d_model": 16, "encoder_ffn_dim": 20, "decoder_ffn_dim": 24, "vocab_size": 30, "max_position_embeddings": 24},
    **{"num_labels": 3, "dropout": 0.0, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0},
    **{"decoder_start_token_id": 2, "forced_eos_token_id": None},
}
T5: dict[str, Any] = {
    **{"d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2, "vocab_size": 30, "num_labels": 3},
    **{"dropout_rate": 0.0, "classifier_dropout": 0.0, "eos_token_id": 2, "decoder_start_token_id": 0},
}
GPT2: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20, "vocab_size": 30}
RWKV: dict[str, Any] = {"vocab_size": 30, "context_length": 16, "hidden_size": 16, "num_hidden_layers": 2}
LONG: dict[str, Any] = {"attention_window": 4, "num_labels": 3, "pad_token_id": 1, **TEXT}
REFORMER: dict[str, Any] = {
    **{"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "attention_head_size": 8, "num_labels": 3},
    **{
        "feed_forward_size": 20,
        "max_position_embeddings": 64,
        "axial_pos_shape": [4, 4],
        "axial_pos_embds_dim": [8, 8],
    },
    **{"is_decoder": False, "local_attn_chunk_length": 4, "attn_layers": ["local", "local"]},
}
DINO: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}

COVERED: dict[str, tuple[Callable[[], nn.Module], Any, float]] = {
    **{
        f"{name} classifier": (make(f"{name}ForSequenceClassification", f"{name}Config", **PAIR), ENDED, 1.0)
        for name in ("Bart", "MBart", "PLBart", "Mvp")
    },
    **{
        f"{name} classifier": (make(f"{name}ForSequenceClassification", f"{name}Config", **T5), ENDED, 1.0)
        for name in ("T5", "MT5", "UMT5")
    },
    "Bart with a cache": (make("BartForQuestionAnswering", "BartConfig", **PAIR), ENDED, 0.96),
    "GPT2 with a cache": (make("GPT2Model", "GPT2Config", **GPT2), IDS, 1.0),
    "GPT2 classifier": (
        make("GPT2ForSequenceClassification", "GPT2Config", num_labels=3, pad_token_id=0, **GPT2),
        IDS,
        1.0,
    ),
    "SigLIP, pooling head unread": (make("SiglipForImageClassification", "SiglipConfig", **BOTH), PIXELS, 1.0),
    "SigLIP2": (
        make(
            "Siglip2ForImageClassification",
            "Siglip2Config",
            vision_config={"num_patches": 16, "patch_size": 8, **SIZES},
            text_config=TEXT,
            num_labels=3,
        ),
        PATCHES,
        1.0,
    ),
    "DINOv2 with registers": (
        make("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", num_labels=3, **IMAGE | DINO),
        PIXELS,
        0.98,
    ),
    # Rotary positions tie the dimensions of queries and keys to their angles.
    "DINOv3": (make("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2, **IMAGE), PIXELS, 0.63),
    "RWKV": (make("RwkvForCausalLM", "RwkvConfig", attention_hidden_size=16, **RWKV), IDS, 1.0),
    "Longformer": (
        make("LongformerForTokenClassification", "LongformerConfig", **LONG),
        {"input_ids": tokens(8)},
        0.72,
    ),
    "Longformer, global": (
        make("LongformerForSequenceClassification", "LongformerConfig", **LONG),
        {"input_ids": tokens(8)},
        0.63,
    ),
    "Reformer": (
        make("ReformerForSequenceClassification", "ReformerConfig", **REFORMER),
        {"input_ids": tokens(16)},
        1.0,
    ),
}
"""Model, example, coverage."""
ASSUMED = ("SigLIP2",)
"""It needs assume=True: it resamples its table to the size of each image, and there are more sizes than are tried."""
FAST_MODELS = ("GPT2 classifier",)
