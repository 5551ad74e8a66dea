"""Families of the transformers library that read sounds, series and games: small configurations, as plain data."""

from __future__ import annotations

from typing import Any

from architecture_inputs import numbers, sounds_and_texts, trajectories
from families_of_text import SIZES, WRITER, Row, make_families

WAVE: dict[str, Any] = {
    **SIZES,
    "vocab_size": 12,
    "conv_dim": [8, 8, 12],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 2],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
WAVES = numbers("input_values", (2, 400), (3, 620))

SOUNDS: list[Row] = [
    ("Wav2Vec2", "Wav2Vec2ForCTC", WAVE),
    ("HuBERT", "HubertForCTC", WAVE),
    ("WavLM", "WavLMForCTC", {**WAVE, "num_buckets": 8, "max_bucket_distance": 16}),
    ("UniSpeech", "UniSpeechForCTC", WAVE),
    ("UniSpeech-SAT", "UniSpeechSatForCTC", WAVE),
    ("Data2Vec Audio", "Data2VecAudioForCTC", {**WAVE, "conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2}),
    ("SEW", "SEWForCTC", {**WAVE, "squeeze_factor": 2}, numbers("input_values", (2, 420), (3, 660))),
    ("Wav2Vec2-Conformer", "Wav2Vec2ConformerForCTC", {**WAVE, "conv_depthwise_kernel_size": 3}),
    (
        "Wav2Vec2-BERT",
        "Wav2Vec2BertForCTC",
        {
            **WAVE,
            "feature_projection_input_dim": 10,
            "conv_depthwise_kernel_size": 3,
            "left_max_position_embeddings": 4,
            "right_max_position_embeddings": 2,
        },
        numbers("input_features", (2, 9, 10), (3, 14, 10)),
    ),
    (
        "AST",
        "ASTForAudioClassification",
        {
            **SIZES,
            "patch_size": 4,
            "frequency_stride": 3,
            "time_stride": 3,
            "max_length": 16,
            "num_mel_bins": 10,
            "num_labels": 3,
        },
        numbers("input_values", (2, 16, 10), (3, 16, 10)),
    ),
    (
        "Whisper",
        "WhisperForConditionalGeneration",
        {**WRITER, "num_mel_bins": 10, "max_source_positions": 12, "max_target_positions": 16},
        sounds_and_texts("input_features", (2, 10, 24), (3, 10, 24)),
    ),
    (
        "Speech2Text",
        "Speech2TextForConditionalGeneration",
        {
            **WRITER,
            "max_source_positions": 64,
            "max_target_positions": 32,
            "conv_channels": 12,
            "input_feat_per_channel": 10,
        },
        sounds_and_texts("input_features", (2, 24, 10), (3, 36, 10)),
    ),
    (
        "Moonshine",
        "MoonshineForConditionalGeneration",
        {
            "vocab_size": 30,
            "hidden_size": 16,
            "intermediate_size": 20,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 2,
            "decoder_num_attention_heads": 2,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "encoder_num_key_value_heads": 2,
            "decoder_num_key_value_heads": 2,
        },
        sounds_and_texts("input_values", (2, 2000), (3, 3000)),
    ),
]

SERIES: list[Row] = [
    (
        "PatchTST",
        "PatchTSTForClassification",
        {
            "num_input_channels": 2,
            "context_length": 16,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "ffn_dim": 20,
            "num_targets": 3,
            "scaling": None,
            "do_mask_input": False,
        },
        numbers("past_values", (2, 16, 2), (3, 16, 2)),
    ),
    (
        "PatchTSMixer",
        "PatchTSMixerForTimeSeriesClassification",
        {
            "num_input_channels": 2,
            "context_length": 16,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 8,
            "num_layers": 2,
            "num_targets": 3,
        },
        numbers("past_values", (2, 16, 2), (3, 16, 2)),
    ),
    (
        "Decision Transformer",
        "DecisionTransformerModel",
        {
            "state_dim": 5,
            "act_dim": 3,
            "hidden_size": 16,
            "n_layer": 2,
            "n_head": 2,
            "max_ep_len": 20,
            "n_positions": 40,
        },
        trajectories,
    ),
]

FAMILIES = [
    *make_families(SOUNDS, "Sounds", WAVES),
    *make_families(SERIES, "Series and decisions", WAVES),
]
