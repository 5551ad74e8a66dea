"""Models of the transformers library, built from small configurations without weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from symmetry.architectures import images

hf: Any = transformers

IDS = {"input_ids": torch.randint(1, 30, (2, 7), generator=torch.Generator().manual_seed(5))}
MASKED = {**IDS, "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
TEXT: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 20, **SIZES}
VISION: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_labels": 3, **SIZES}
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GPT2: dict[str, Any] = {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 20,
    "vocab_size": 30,
    "resid_pdrop": 0.0,
}


def bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(num_labels=3, **TEXT, **NO_DROPOUT))


def bert_lm() -> nn.Module:
    return hf.BertForMaskedLM(hf.BertConfig(**TEXT, **NO_DROPOUT))


def roberta() -> nn.Module:
    return hf.RobertaForSequenceClassification(hf.RobertaConfig(num_labels=3, pad_token_id=0, **TEXT, **NO_DROPOUT))


def distilbert() -> nn.Module:
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20, "vocab_size": 30, "max_position_embeddings": 20}
    off = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**sizes, **off))


def gpt2() -> nn.Module:
    return hf.GPT2LMHeadModel(hf.GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, use_cache=True, **GPT2))


def opt() -> nn.Module:
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return hf.OPTForCausalLM(hf.OPTConfig(ffn_dim=20, vocab_size=30, max_position_embeddings=20, dropout=0.0, **sizes))


def deberta(version: str = "") -> nn.Module:
    """Tables of relative positions, of which a text reads as many rows as it is long."""
    config = getattr(hf, f"Deberta{version}Config")(
        num_labels=3, relative_attention=True, pos_att_type=["c2p", "p2c"], **TEXT, **NO_DROPOUT
    )
    return getattr(hf, f"Deberta{version}ForSequenceClassification")(config)


def xlnet() -> nn.Module:
    sizes = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 20, "vocab_size": 30, "dropout": 0.0}
    return hf.XLNetForSequenceClassification(hf.XLNetConfig(**sizes))


def funnel() -> nn.Module:
    sizes = {"block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 20, "vocab_size": 30}
    off = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    return hf.FunnelForSequenceClassification(hf.FunnelConfig(**sizes, **off))


def bloom() -> nn.Module:
    return hf.BloomForCausalLM(hf.BloomConfig(vocab_size=30, hidden_size=16, n_layer=2, n_head=2))


def falcon(**settings: Any) -> nn.Module:
    """4 heads; rotary positions unless it is said otherwise."""
    sizes = {**SIZES, "num_attention_heads": 4, "vocab_size": 30, "num_hidden_layers": 1}
    return hf.FalconForCausalLM(hf.FalconConfig(**{"alibi": False, **sizes, **settings}))


def mixture(name: str, **settings: Any) -> nn.Module:
    """4 heads of queries on 2 of keys and values, 4 experts of which 2 are chosen, in one layer."""
    sizes = {**SIZES, "num_attention_heads": 4, "vocab_size": 30, "num_hidden_layers": 1}
    chosen = {"num_key_value_heads": 2, "num_experts_per_tok": 2, "pad_token_id": 0, "head_dim": 4}
    return getattr(hf, f"{name}ForCausalLM")(getattr(hf, f"{name}Config")(**{**sizes, **chosen, **settings}))


def deepseek() -> nn.Module:
    """2 groups of 4 experts, of which 2 are chosen in 1; a latent space for queries, one for keys and values."""
    latent = {"kv_lora_rank": 5, "q_lora_rank": 7, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 3}
    experts = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "n_shared_experts": 1, "moe_intermediate_size": 8}
    more = {"num_key_value_heads": 4, "first_k_dense_replace": 0, "head_dim": 4}
    return mixture("DeepseekV3", **latent, **experts, **more)


def llama() -> nn.Module:
    """4 heads of queries share 2 of keys and values."""
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**TEXT, "num_attention_heads": 4}, num_key_value_heads=2))


def t5() -> nn.Module:
    sizes = {"d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 2, "vocab_size": 30}
    return hf.T5EncoderModel(hf.T5Config(dropout_rate=0.0, feed_forward_proj="gated-gelu", **sizes))


def vit() -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**VISION, **NO_DROPOUT))


def convnext() -> nn.Module:
    config = hf.ConvNextConfig(num_stages=2, hidden_sizes=[8, 12], depths=[1, 1], num_labels=3)
    return hf.ConvNextForImageClassification(config)


def resnet() -> nn.Module:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "num_labels": 3}
    return hf.ResNetForImageClassification(hf.ResNetConfig(layer_type="basic", **sizes))


def swin() -> nn.Module:
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    config = hf.SwinConfig(num_labels=3, drop_path_rate=0.0, **sizes, **NO_DROPOUT)
    return hf.SwinForImageClassification(config)


PIXELS = {"pixel_values": images(32, 2)}
MODELS: dict[str, tuple[Any, Any]] = {
    "bert": (bert, MASKED),
    "bert_lm": (bert_lm, IDS),
    "roberta": (roberta, IDS),
    "distilbert": (distilbert, MASKED),
    "gpt2": (gpt2, IDS),
    "opt": (opt, IDS),
    "deberta": (deberta, MASKED),  # without a mask it looks for padding in the input
    "deberta_v2": (lambda: deberta("V2"), IDS),
    "xlnet": (xlnet, IDS),
    "funnel": (funnel, IDS),
    "bloom": (bloom, IDS),
    "falcon": (lambda: falcon(multi_query=False), IDS),
    "falcon_one_key": (lambda: falcon(multi_query=True), IDS),
    "falcon_groups": (lambda: falcon(new_decoder_architecture=True, num_kv_heads=2), IDS),
    "falcon_slopes": (lambda: falcon(multi_query=True, alibi=True), IDS),
    "mixtral": (lambda: mixture("Mixtral", num_local_experts=4), IDS),
    "qwen2_moe": (
        lambda: mixture("Qwen2Moe", num_experts=4, moe_intermediate_size=8, shared_expert_intermediate_size=12),
        IDS,
    ),
    "gpt_oss": (lambda: mixture("GptOss", num_local_experts=4), IDS),
    "deepseek": (deepseek, IDS),
    "llama": (llama, MASKED),
    "t5": (t5, IDS),
    "hf_vit": (vit, PIXELS),
    "hf_convnext": (convnext, PIXELS),
    "hf_resnet": (resnet, PIXELS),
    "swin": (swin, PIXELS),
}
