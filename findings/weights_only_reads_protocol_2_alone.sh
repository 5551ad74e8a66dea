#!/usr/bin/env bash
# torch 2.13.0: torch.load(weights_only=True) of a file that torch.save wrote with pickle_protocol=4 or 5.
# Expected: tensors are read, whatever protocol torch.save was told to use.
# Seen: an UnpicklingError for both; protocol 2, the default, is read, and so are the others with weights_only=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import pickle

import torch

state, found = {"weight": torch.ones(2)}, {}
for protocol in (2, 4, 5):
    torch.save(state, "state.pt", pickle_protocol=protocol)
    try:
        found[protocol] = float(torch.load("state.pt", weights_only=True)["weight"].sum())
    except pickle.UnpicklingError as error:
        found[protocol] = str(error).strip().splitlines()[-1][:60] or "UnpicklingError"
    assert torch.equal(torch.load("state.pt", weights_only=False)["weight"], state["weight"])
print("torch", torch.__version__, found)
assert found[2] == 2.0 and isinstance(found[4], str) and isinstance(found[5], str)
PY
