#!/usr/bin/env bash
# peft 0.21.2: add_weighted_adapter(combination_type="cat") of adapters with lora_bias=True.
# Expected: the weighted sum of both updates, that of the layer's bias among them; or an error.
# Seen: the weights are summed, and the bias of the new adapter is what it was initialised with; no error, no warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check peft==0.21.2 torch==2.13.0 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import peft
import torch
from torch import nn

torch.manual_seed(0)


def settings():
    return peft.LoraConfig(r=2, target_modules=["0"], lora_bias=True)


model = peft.get_peft_model(nn.Sequential(nn.Linear(4, 8)), settings(), adapter_name="a")
model.add_adapter("b", settings())
for name, parameter in model.named_parameters():
    if ".lora_" in name:
        parameter.data.normal_()
model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "both", combination_type="cat")
layer = model.base_model.model[0]
weights = {name: layer.get_delta_weight(name) for name in ("a", "b", "both")}
biases = {name: layer.lora_B[name].bias * layer.scaling[name] for name in ("a", "b", "both")}
print("peft", peft.__version__, "bias", biases["both"].tolist(), "and not", ((biases["a"] + biases["b"]) / 2).tolist())
assert torch.allclose(weights["both"], (weights["a"] + weights["b"]) / 2, atol=1e-5)
assert torch.equal(biases["both"], torch.zeros(8))
PY
