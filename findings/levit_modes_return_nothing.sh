#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: train() and eval() of LeViT's attention layers return None.
# Expected: the module itself, as nn.Module documents, so that `layer = layer.eval()` works.
# Seen: None. Their rule of their own for a change of mode, which drops a cache of attention biases, returns nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
import transformers

config = transformers.LevitConfig(image_size=32, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 2, 2],
                                  depths=[1, 1, 1], key_dim=[8, 8, 8])
model = transformers.LevitForImageClassification(config)
layers = [m for m in model.modules() if type(m).__name__ in ("LevitAttention", "LevitAttentionSubsample")]
found = [(type(layer).__name__, layer.train(), layer.eval()) for layer in layers]
print("torch", torch.__version__, "transformers", transformers.__version__, sorted({str(f) for f in found}))
assert found and all(train is None and mode is None for _, train, mode in found)
assert model.eval() is model
PY
