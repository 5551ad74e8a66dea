"""Families of language models of the transformers library: small configurations, as plain data."""

from __future__ import annotations

from typing import Any

from architecture_inputs import pairs_of_texts, texts
from families_of_text import GPT, GROUPED, SPECIAL, T5, TEXT, WRITER, Row, make_families

EXPERTS: dict[str, Any] = {**GROUPED, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
MAMBA: dict[str, Any] = {"vocab_size": 30, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, **SPECIAL}
LATENT: dict[str, Any] = {
    "q_lora_rank": 6,
    "kv_lora_rank": 6,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}
"""Queries, keys and values from low-rank factors, with positions in some dimensions alone."""

WRITERS: list[Row] = [
    ("GPT", "OpenAIGPTLMHeadModel", GPT),
    ("GPT-2", "GPT2LMHeadModel", GPT),
    ("GPT-BigCode", "GPTBigCodeForCausalLM", GPT),
    (
        "GPT-Neo",
        "GPTNeoForCausalLM",
        {**TEXT, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4},
    ),
    ("GPT-NeoX", "GPTNeoXForCausalLM", TEXT),
    ("GPT-J", "GPTJForCausalLM", {**GPT, "rotary_dim": 4}),
    ("CodeGen", "CodeGenForCausalLM", {**GPT, "rotary_dim": 4, "n_ctx": 64, "n_head": 4}),
    ("CTRL", "CTRLLMHeadModel", {**GPT, "dff": 20}),
    ("XGLM", "XGLMForCausalLM", {**TEXT, "d_model": 16, "num_layers": 2, "attention_heads": 2, "ffn_dim": 20}),
    ("BioGPT", "BioGptForCausalLM", TEXT),
    ("OPT", "OPTForCausalLM", {**TEXT, "ffn_dim": 20, "word_embed_proj_dim": 16}),
    ("BLOOM", "BloomForCausalLM", {"vocab_size": 30, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    (
        "Falcon, ALiBi",
        "FalconForCausalLM",
        {**TEXT, "alibi": True, "ffn_hidden_size": 20, "multi_query": False, "num_kv_heads": 2},
    ),
    (
        "Falcon, rotary",
        "FalconForCausalLM",
        {**TEXT, "num_attention_heads": 4, "ffn_hidden_size": 20, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    (
        "MPT",
        "MptForCausalLM",
        {"vocab_size": 30, "d_model": 16, "n_heads": 2, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 64},
    ),
    ("LLaMA", "LlamaForCausalLM", GROUPED, texts(masked=True)),
    ("Mistral", "MistralForCausalLM", {**GROUPED, "sliding_window": 4}),
    ("Gemma", "GemmaForCausalLM", {**GROUPED, "head_dim": 6}),
    ("Gemma 2", "Gemma2ForCausalLM", {**GROUPED, "head_dim": 6, "sliding_window": 4}),
    (
        "Gemma 3",
        "Gemma3ForCausalLM",
        {**GROUPED, "head_dim": 6, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    ("Qwen2", "Qwen2ForCausalLM", GROUPED),
    ("Qwen3", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 6}),
    ("Phi", "PhiForCausalLM", {**TEXT, **SPECIAL}),
    ("Phi-3", "Phi3ForCausalLM", GROUPED),
    ("StableLM", "StableLmForCausalLM", {**GROUPED, "partial_rotary_factor": 0.5}),
    ("StarCoder2", "Starcoder2ForCausalLM", GROUPED),
    ("OLMo", "OlmoForCausalLM", GROUPED),
    ("OLMo 2", "Olmo2ForCausalLM", GROUPED),
    ("Cohere", "CohereForCausalLM", GROUPED),
    ("Persimmon", "PersimmonForCausalLM", {**TEXT, **SPECIAL}),
    ("GLM", "GlmForCausalLM", {**GROUPED, "head_dim": 4}),
    ("GLM-4", "Glm4ForCausalLM", {**GROUPED, "head_dim": 4}),
    ("Granite", "GraniteForCausalLM", GROUPED),
    ("Nemotron", "NemotronForCausalLM", {**GROUPED, "head_dim": 4}),
    ("SmolLM3", "SmolLM3ForCausalLM", GROUPED),
    ("Helium", "HeliumForCausalLM", {**GROUPED, "head_dim": 4}),
    ("DiffLlama", "DiffLlamaForCausalLM", GROUPED),
    ("MiniCPM3", "MiniCPM3ForCausalLM", {**TEXT, **SPECIAL, **LATENT, "head_dim": 4, "num_key_value_heads": 2}),
]

MIXTURES: list[Row] = [
    ("Mixtral", "MixtralForCausalLM", EXPERTS),
    (
        "Qwen2-MoE",
        "Qwen2MoeForCausalLM",
        {**EXPERTS, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 14},
    ),
    ("Qwen3-MoE", "Qwen3MoeForCausalLM", {**EXPERTS, "moe_intermediate_size": 12, "head_dim": 6}),
    ("OLMoE", "OlmoeForCausalLM", EXPERTS),
    (
        "GPT-OSS",
        "GptOssForCausalLM",
        {**EXPERTS, "head_dim": 6, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    ("GraniteMoE", "GraniteMoeForCausalLM", EXPERTS),
    ("PhiMoE", "PhimoeForCausalLM", EXPERTS),
    ("JetMoE", "JetMoeForCausalLM", {**EXPERTS, "kv_channels": 6, "num_key_value_heads": 2}),
    (
        "DBRX",
        "DbrxForCausalLM",
        {
            "vocab_size": 30,
            "d_model": 16,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 12, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 16},
        },
    ),
    (
        "DeepSeek-V2",
        "DeepseekV2ForCausalLM",
        {
            **TEXT,
            **SPECIAL,
            **LATENT,
            "num_key_value_heads": 2,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "first_k_dense_replace": 1,
        },
    ),
    (
        "DeepSeek-V3",
        "DeepseekV3ForCausalLM",
        {
            **TEXT,
            **SPECIAL,
            **LATENT,
            "num_key_value_heads": 2,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
        },
    ),
    (
        "Llama 4",
        "Llama4ForCausalLM",
        {
            **GROUPED,
            "intermediate_size_mlp": 24,
            "head_dim": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 16,
        },
    ),
    (
        "Switch Transformers",
        "SwitchTransformersForConditionalGeneration",
        {
            **T5,
            "num_decoder_layers": 2,
            "num_experts": 4,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "expert_capacity": 64,
            "decoder_start_token_id": 0,
        },
        pairs_of_texts(),
    ),
    (
        "NLLB-MoE",
        "NllbMoeForConditionalGeneration",
        {
            **WRITER,
            "num_experts": 4,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
        },
        pairs_of_texts(),
    ),
]

STATES: list[Row] = [
    ("Mamba", "MambaForCausalLM", {**MAMBA, "time_step_rank": 3}),
    ("Mamba-2", "Mamba2ForCausalLM", {**MAMBA, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4}),
    ("Falcon-Mamba", "FalconMambaForCausalLM", {**MAMBA, "time_step_rank": 3}),
    (
        "RWKV",
        "RwkvForCausalLM",
        {
            "vocab_size": 30,
            "hidden_size": 16,
            "attention_hidden_size": 16,
            "num_hidden_layers": 2,
            "intermediate_size": 20,
            "context_length": 64,
        },
    ),
    (
        "RecurrentGemma",
        "RecurrentGemmaForCausalLM",
        {**GROUPED, "num_hidden_layers": 3, "lru_width": 16, "attention_window_size": 8, "head_dim": 4},
    ),
    (
        "xLSTM",
        "xLSTMForCausalLM",
        {
            "vocab_size": 30,
            "hidden_size": 128,
            "num_heads": 2,
            "num_hidden_layers": 2,
            "chunk_size": 16,
            "ffn_round_up_to_multiple_of": 4,
        },
        texts((2, 16), (3, 32)),
    ),
    (
        "Jamba",
        "JambaForCausalLM",
        {
            **EXPERTS,
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 3,
            "use_mamba_kernels": False,
        },
    ),
    (
        "Zamba",
        "ZambaForCausalLM",
        {
            **TEXT,
            **SPECIAL,
            "num_hidden_layers": 4,
            "attention_hidden_size": 32,
            "attention_head_dim": 16,
            "num_key_value_heads": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
            "mamba_d_state": 4,
            "mamba_dt_rank": 3,
            "use_mamba_kernels": False,
        },
    ),
    (
        "Bamba",
        "BambaForCausalLM",
        {
            **GROUPED,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_n_groups": 1,
            "mamba_d_state": 4,
            "mamba_chunk_size": 4,
            "attn_layer_indices": [1],
        },
    ),
    (
        "Falcon-H1",
        "FalconH1ForCausalLM",
        {
            **GROUPED,
            "mamba_d_ssm": 16,
            "mamba_n_heads": 4,
            "mamba_d_head": 4,
            "mamba_n_groups": 1,
            "mamba_d_state": 4,
            "mamba_chunk_size": 4,
        },
    ),
    (
        "Qwen3-Next",
        "Qwen3NextForCausalLM",
        {
            **EXPERTS,
            "head_dim": 8,
            "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 14,
            "linear_key_head_dim": 4,
            "linear_value_head_dim": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    (
        "LFM2",
        "Lfm2ForCausalLM",
        {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    ),
]

FAMILIES = [
    *make_families(WRITERS, "Language models", texts()),
    *make_families(MIXTURES, "Mixtures of experts", texts()),
    *make_families(STATES, "State spaces, recurrent and hybrid", texts()),
]
