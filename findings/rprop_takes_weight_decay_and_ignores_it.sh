#!/usr/bin/env bash
# torch 2.13.0: parameter groups {"params": ..., "weight_decay": 0.5} given to every optimiser of torch.optim that steps
# without a closure, with gradients of zero.
# Expected: weights shrink, or an optimiser that knows no weight decay refuses the entry.
# Seen: Rprop knows no weight decay, keeps the entry in its group, and leaves the weights as they are without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch

found = {}
for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop"):
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimiser = getattr(torch.optim, name)([{"params": [weight], "weight_decay": 0.5}], lr=0.01)
    weight.grad = torch.zeros_like(weight)
    for _ in range(3):
        optimiser.step()
    found[name] = optimiser.param_groups[0]["weight_decay"], bool((weight < 1.0).all())
print("torch", torch.__version__, found)
assert all(kept == 0.5 for kept, _ in found.values())
assert [name for name, (_, shrinks) in found.items() if not shrinks] == ["Rprop"]
PY
