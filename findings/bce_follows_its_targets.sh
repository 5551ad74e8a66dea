#!/usr/bin/env bash
# torch 2.13.0: binary_cross_entropy_with_logits of float32 logits and bfloat16 targets gives a bfloat16 loss.
# Expected: float32, the wider of both types, as mse_loss, l1_loss and smooth_l1_loss give.
# Seen: bfloat16, so that a loss of 0.6931 becomes 0.6914.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.nn import functional as F

logits, targets = torch.zeros(4), torch.tensor([0.0, 1.0, 0.0, 1.0]).bfloat16()
losses = (F.binary_cross_entropy_with_logits, F.mse_loss, F.l1_loss, F.smooth_l1_loss)
types = {f.__name__: str(f(logits, targets).dtype) for f in losses}
print("torch", torch.__version__, types, float(F.binary_cross_entropy_with_logits(logits, targets)))
assert types["binary_cross_entropy_with_logits"] == "torch.bfloat16"
assert types["mse_loss"] == types["l1_loss"] == types["smooth_l1_loss"] == "torch.float32"
PY
