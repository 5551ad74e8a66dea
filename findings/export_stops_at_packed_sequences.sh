#!/usr/bin/env bash
# torch 2.13.0: torch.export of a module that packs padded sequences and gives them to an LSTM.
# Expected: an exported program, as of the same LSTM on padded sequences; or an error that names packed sequences.
# Seen: TypeError in zeros(), which gets a FakeTensor as a size: the packed layer makes its first state as long as the
# largest batch, a number that is read from a tensor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.nn.utils import rnn


class Read(nn.Module):
    def __init__(self, packed):
        super().__init__()
        self.lstm, self.packed = nn.LSTM(3, 4), packed

    def forward(self, x, lengths):
        given = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False) if self.packed else x
        return self.lstm(given)[1][0]


inputs = torch.randn(5, 2, 3), torch.tensor([5, 3])
torch.export.export(Read(False).eval(), inputs)
try:
    torch.export.export(Read(True).eval(), inputs)
    said = "exported"
except TypeError as error:
    said = str(error)
print("torch", torch.__version__, said)
assert said.startswith("zeros(): argument 'size'") and "FakeTensor" in said
PY
