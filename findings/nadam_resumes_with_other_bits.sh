#!/usr/bin/env bash
# torch 2.13.0: torch.optim.NAdam over float64 weights, its state saved by state_dict and put into a new optimiser by
# load_state_dict after 5 of 25 steps.
# Expected: the resumed run ends with the bits of the one that was not interrupted, as Adam, AdamW and RMSprop do.
# Seen: NAdam keeps mu_product in float32, load_state_dict casts it to the type of the weights, and the runs part.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch


def make(kind):
    weight = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 8, dtype=torch.float64))
    return weight, kind([weight], lr=0.05)


def run(weight, optimiser, steps):
    for _ in range(steps):
        optimiser.zero_grad()
        (weight - 0.3).square().sum().backward()
        optimiser.step()


found = {}
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam):
    whole, whole_optimiser = make(kind)
    run(whole, whole_optimiser, 25)
    first, first_optimiser = make(kind)
    run(first, first_optimiser, 5)
    resumed, optimiser = make(kind)
    resumed.data.copy_(first.data)
    optimiser.load_state_dict(first_optimiser.state_dict())
    types = [
        {str(value.dtype) for name, value in held.state[w].items() if name == "mu_product"}
        for held, w in ((first_optimiser, first), (optimiser, resumed))
    ]
    run(resumed, optimiser, 20)
    found[kind.__name__] = float((whole - resumed).detach().abs().max()), types
print("torch", torch.__version__, found)
assert found["Adam"][0] == found["AdamW"][0] == found["RMSprop"][0] == 0.0
assert found["NAdam"][1] == [{"torch.float32"}, {"torch.float64"}] and 0.0 < found["NAdam"][0] < 1e-9
PY
