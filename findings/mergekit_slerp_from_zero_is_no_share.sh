#!/usr/bin/env bash
# mergekit 0.1.5: SLERP where one of the two tensors is zero, such as a bias that was never trained.
# Expected: t times the other tensor, as its fallback for colinear tensors gives.
# Seen: sin(t pi / 2) times it, 0.454 at t = 0.3 and 0.707 at t = 0.5, since zero counts as at a right angle.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mergekit==0.1.5 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import math

import torch
from mergekit.merge_methods.slerp import slerp

found = slerp(torch.tensor([0.3]), torch.zeros(1, 4), torch.ones(1, 4))
print("mergekit", found.tolist(), math.sin(0.3 * math.pi / 2))
assert torch.allclose(found, torch.full((1, 4), math.sin(0.3 * math.pi / 2)))
PY
