#!/usr/bin/env bash
# mergekit 0.1.5: how DARE (dare_linear, dare_ties) rescales the entries that it keeps.
# Expected: by 1 / density, as in the paper (Yu et al. 2024), which keeps each entry's mean over draws.
# Seen: by the factor that gives the tensor its sum of magnitudes back, another one in each draw: 1.8 here at density 0.5.
# So that sum is one number in all draws, an entry's mean is not kept, and one of a tensor with one large entry falls far.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mergekit==0.1.5 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
from mergekit.merge_methods import registry
from mergekit.sparsify import RescaleNorm, SparsificationMethod, sparsify

for name in ("dare_linear", "dare_ties"):
    found = {"rescale": registry.get(name).default_rescale}
    print(name, "rescale:", found["rescale"])
    assert found["rescale"] is True  # which is RescaleNorm.l1 where the task vectors are made sparse

torch.manual_seed(0)
tensor = torch.arange(1.0, 9.0)
draws = torch.stack([sparsify(tensor, 0.5, SparsificationMethod.random, rescale_norm=RescaleNorm.l1) for _ in range(4000)])
factors = draws.amax(1) / torch.where(draws > 0, tensor, 0.0).amax(1)
print("factors", sorted({round(float(f), 2) for f in factors[factors.isfinite()]})[:5], "sums", draws.sum(1).unique().tolist()[:3])
print("mean over draws", draws.mean(0).tolist(), "of", tensor.tolist())
kept = draws[(draws > 0).any(1)]
assert torch.allclose(kept.sum(1), tensor.sum().expand(len(kept)), rtol=1e-4)
assert float(draws.mean(0)[7]) < 0.95 * float(tensor[7])  # the mean of the largest entry is not kept
PY
