"""Families of the transformers library that read and write text: small configurations, as plain data."""

from __future__ import annotations

from typing import Any

from architecture_inputs import Family, MakeInputs, pairs_of_texts, texts, texts_ending, texts_with_places

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
TEXT: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 64, "num_labels": 3, "pad_token_id": 0, **SIZES}
GPT: dict[str, Any] = {"vocab_size": 30, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
SPECIAL: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED: dict[str, Any] = {**TEXT, **SPECIAL, "num_attention_heads": 4, "num_key_value_heads": 2}
"""4 heads of queries read 2 of keys and values."""
WRITER: dict[str, Any] = {
    "vocab_size": 30,
    "max_position_embeddings": 64,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 24,
    "decoder_start_token_id": 2,
    **SPECIAL,
}
T5: dict[str, Any] = {"vocab_size": 30, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 2}

Row = tuple[str, str, dict[str, Any]] | tuple[str, str, dict[str, Any], MakeInputs]

CLASSIFIERS: list[Row] = [
    ("BERT", "BertForSequenceClassification", TEXT, texts(masked=True)),
    ("RoBERTa", "RobertaForSequenceClassification", TEXT),
    ("RoBERTa-PreLayerNorm", "RobertaPreLayerNormForSequenceClassification", TEXT),
    ("DistilBERT", "DistilBertForSequenceClassification", {**TEXT, "hidden_dim": 20}, texts(masked=True)),
    ("ALBERT", "AlbertForSequenceClassification", {**TEXT, "embedding_size": 12}),
    ("ELECTRA", "ElectraForSequenceClassification", {**TEXT, "embedding_size": 12}),
    (
        "DeBERTa",
        "DebertaForSequenceClassification",
        {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    (
        "DeBERTa-v2",
        "DebertaV2ForSequenceClassification",
        {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    ("MPNet", "MPNetForSequenceClassification", TEXT),
    (
        "XLNet",
        "XLNetForSequenceClassification",
        {"vocab_size": 30, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 20, "num_labels": 3},
    ),
    (
        "Funnel",
        "FunnelForSequenceClassification",
        {
            "vocab_size": 30,
            "block_sizes": [1, 1],
            "d_model": 16,
            "n_head": 2,
            "d_head": 6,
            "d_inner": 20,
            "num_labels": 3,
        },
        texts((2, 8), (3, 12)),
    ),
    ("Longformer", "LongformerForSequenceClassification", {**TEXT, "attention_window": 4}, texts((2, 8), (3, 12))),
    (
        "BigBird",
        "BigBirdForSequenceClassification",
        {**TEXT, "block_size": 4, "num_random_blocks": 1, "attention_type": "original_full"},
    ),
    (
        "Nystromformer",
        "NystromformerForSequenceClassification",
        {**TEXT, "num_landmarks": 4, "segment_means_seq_len": 8, "conv_kernel_size": 3},
        texts((2, 8), (3, 8)),
    ),
    ("SqueezeBERT", "SqueezeBertForSequenceClassification", {**TEXT, "embedding_size": 16}),
    (
        "MobileBERT",
        "MobileBertForSequenceClassification",
        {**TEXT, "embedding_size": 10, "intra_bottleneck_size": 12, "num_feedforward_networks": 2},
    ),
    (
        "ConvBERT",
        "ConvBertForSequenceClassification",
        {**TEXT, "embedding_size": 12, "num_attention_heads": 4, "conv_kernel_size": 3},
    ),
    ("Megatron-BERT", "MegatronBertForSequenceClassification", TEXT),
    ("ERNIE", "ErnieForSequenceClassification", TEXT),
    ("RemBERT", "RemBertForSequenceClassification", {**TEXT, "input_embedding_size": 12, "output_embedding_size": 14}),
    ("FNet", "FNetForSequenceClassification", {**TEXT, "type_vocab_size": 2}),
    ("RoFormer", "RoFormerForSequenceClassification", TEXT),
    ("ESM", "EsmForSequenceClassification", {**TEXT, "mask_token_id": 29, "position_embedding_type": "rotary"}),
    (
        "CANINE",
        "CanineForSequenceClassification",
        {**TEXT, "num_hash_buckets": 30, "num_hash_functions": 2, "local_transformer_stride": 8},
        texts((2, 16), (3, 24)),
    ),
    ("I-BERT", "IBertForSequenceClassification", TEXT),
    (
        "ModernBERT",
        "ModernBertForSequenceClassification",
        {**TEXT, **SPECIAL, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4},
    ),
    ("NomicBERT", "NomicBertForSequenceClassification", {**TEXT, "head_dim": 8}),
    ("XLM", "XLMForSequenceClassification", {**TEXT, "emb_dim": 16, "n_heads": 2, "n_layers": 2}),
    ("FlauBERT", "FlaubertForSequenceClassification", {**TEXT, "emb_dim": 16, "n_heads": 2, "n_layers": 2}),
    ("LayoutLM", "LayoutLMForSequenceClassification", {**TEXT, "max_2d_position_embeddings": 24}, texts_with_places),
    (
        "LiLT",
        "LiltForSequenceClassification",
        {**TEXT, "max_2d_position_embeddings": 24, "channel_shrink_ratio": 2, "hidden_size": 24},
        texts_with_places,
    ),
    ("LUKE", "LukeForSequenceClassification", {**TEXT, "entity_vocab_size": 10, "entity_emb_size": 8}),
    (
        "T5, classifier",
        "T5ForSequenceClassification",
        {**T5, "num_labels": 3, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0},
        texts_ending,
    ),
    ("BART, classifier", "BartForSequenceClassification", {**WRITER, "num_labels": 3}, texts_ending),
    ("GPT-2, classifier", "GPT2ForSequenceClassification", {**GPT, "num_labels": 3, "pad_token_id": 0}),
]


TRANSLATORS: list[Row] = [
    ("T5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}),
    ("mT5", "MT5ForConditionalGeneration", {**T5, "decoder_start_token_id": 0}),
    ("UMT5", "UMT5ForConditionalGeneration", {**T5, "decoder_start_token_id": 0}),
    ("LongT5", "LongT5ForConditionalGeneration", {**T5, "local_radius": 3, "decoder_start_token_id": 0}),
    ("BART", "BartForConditionalGeneration", WRITER),
    ("mBART", "MBartForConditionalGeneration", WRITER),
    ("Pegasus", "PegasusForConditionalGeneration", WRITER),
    ("Blenderbot", "BlenderbotForConditionalGeneration", WRITER),
    ("Marian", "MarianMTModel", {**WRITER, "decoder_vocab_size": 30}),
    ("M2M-100", "M2M100ForConditionalGeneration", {**WRITER, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}),
    ("FSMT", "FSMTForConditionalGeneration", {**WRITER, "src_vocab_size": 30, "tgt_vocab_size": 30}),
    ("PLBart", "PLBartForConditionalGeneration", WRITER),
    (
        "LED",
        "LEDForConditionalGeneration",
        {**WRITER, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 4},
        pairs_of_texts((2, 8, 5), (3, 12, 8)),
    ),
    (
        "ProphetNet",
        "ProphetNetForConditionalGeneration",
        {
            "vocab_size": 30,
            "hidden_size": 16,
            "max_position_embeddings": 64,
            **SPECIAL,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 2,
            "num_decoder_attention_heads": 2,
            "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20,
            "num_buckets": 8,
            "decoder_start_token_id": 2,
        },
    ),
    (
        "T5Gemma",
        "T5GemmaForConditionalGeneration",
        {
            "vocab_size": 30,
            "encoder": {**GROUPED, "head_dim": 6, "sliding_window": 4},
            "decoder": {**GROUPED, "head_dim": 6, "sliding_window": 4, "cross_attention_hidden_size": 16},
        },
    ),
]


def make_families(rows: list[Row], kind: str, inputs: MakeInputs) -> list[Family]:
    """Families of one kind; rows without inputs of their own have these."""
    return [Family(row[0], row[1], row[3] if len(row) > 3 else inputs, row[2], kind) for row in rows]


FAMILIES = [
    *make_families(CLASSIFIERS, "Text classification", texts()),
    *make_families(TRANSLATORS, "Encoder and decoder", pairs_of_texts()),
]
