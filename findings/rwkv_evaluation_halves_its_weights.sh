#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: RWKV's first forward pass in evaluation mode changes its parameters.
# Expected: a forward pass in evaluation mode leaves parameters alone, so that a state saved behind it is the one that was loaded.
# Seen: from layer `rescale_every` = 6 on, two weights of each block are divided by 2 in place, and multiplied again by a pass in
# training mode. A state saved in between, loaded into a new model, is divided a second time and gives other outputs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import copy

import torch
import transformers

torch.manual_seed(0)
config = transformers.RwkvConfig(vocab_size=30, context_length=16, hidden_size=16, attention_hidden_size=16,
                                 intermediate_size=20, num_hidden_layers=7)
model = transformers.RwkvForCausalLM(config).eval()
before, ids = copy.deepcopy(model.state_dict()), torch.arange(10).view(2, 5)
with torch.no_grad():
    expected = model(ids).logits
    saved = copy.deepcopy(model.state_dict())
    changed = sorted(name for name in before if not torch.equal(before[name], saved[name]))
    ratios = {float((saved[name] / before[name]).nanmean()) for name in changed}
    fresh = transformers.RwkvForCausalLM(config).eval()
    fresh.load_state_dict(saved)
    apart = float((fresh(ids).logits - expected).abs().max())
    model.train()(ids)
print("torch", torch.__version__, "transformers", transformers.__version__, config.rescale_every, changed, ratios, apart)
assert changed == ["rwkv.blocks.6.attention.output.weight", "rwkv.blocks.6.feed_forward.value.weight"]
assert ratios == {0.5} and apart > 1e-6
assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
PY
