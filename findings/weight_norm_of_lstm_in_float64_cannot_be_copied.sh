#!/usr/bin/env bash
# torch 2.13.0: an LSTM with torch.nn.utils.parametrizations.weight_norm, brought to float64, and then copied.
# Expected: a copy, as before the change of type.
# Seen: .double() leaves the computed weight, a tensor with a history, in the layer's list _flat_weights, and copy.deepcopy
# stops at it with a RuntimeError; the same layer in float32 is copied.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations

layer = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
copy.deepcopy(layer)
before = [tensor.is_leaf for tensor in layer._flat_weights]
layer = layer.double()
after = [tensor.is_leaf for tensor in layer._flat_weights]
try:
    copy.deepcopy(layer)
    said = "copied"
except RuntimeError as error:
    said = str(error)
print("torch", torch.__version__, before, after, said[:60])
assert all(before) and not all(after) and said.startswith("Only Tensors created explicitly by the user")
PY
