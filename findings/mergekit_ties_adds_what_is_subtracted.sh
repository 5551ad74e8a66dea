#!/usr/bin/env bash
# mergekit 0.1.5: TIES with one task vector of negative weight, which is how task arithmetic forgets a task.
# Expected: base - 0.5 tau for weight -0.5, as its own task_arithmetic gives with the same configuration.
# Seen: base + tau. Its default normalize divides the weighted sum by the sum of the weights, which cancels the sign.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mergekit==0.1.5 torch==2.13.0 transformers==5.24.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

small = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
base, tuned = (LlamaForCausalLM(LlamaConfig(**small, num_key_value_heads=2)) for _ in range(2))
with torch.no_grad():
    for ours, theirs in zip(tuned.parameters(), base.parameters(), strict=True):
        ours.copy_(theirs + 0.25)
base.save_pretrained("base")
tuned.save_pretrained("tuned")
seen = {}
for method, own in (("task_arithmetic", {}), ("ties", {"density": 1.0})):
    for weight in (-1.0, -0.5):
        merged = {"model": "./tuned", "parameters": {"weight": weight, **own}}
        config = {"merge_method": method, "base_model": "./base", "dtype": "float32", "models": [merged]}
        Path("merge.yml").write_text(json.dumps(config))
        out, tool = f"{method}{weight}", Path(sys.executable).parent / "mergekit-yaml"
        subprocess.run([tool, "merge.yml", out], check=True, capture_output=True)
        start, end = (load_file(f"{folder}/model.safetensors") for folder in ("base", out))
        (seen[method, weight],) = {round(float(v), 4) for name in start for v in (end[name] - start[name]).flatten()}
print("mergekit: what is added to the base, tau = 0.25 everywhere:", seen)
assert seen == {
    ("task_arithmetic", -1.0): -0.25,
    ("task_arithmetic", -0.5): -0.125,
    ("ties", -1.0): 0.25,
    ("ties", -0.5): 0.25,
}
PY
