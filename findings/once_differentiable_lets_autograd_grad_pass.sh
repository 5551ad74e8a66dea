#!/usr/bin/env bash
# torch 2.13.0: a layer that is marked with torch.autograd.function.once_differentiable, and a second derivative through it.
# Expected: an error wherever that derivative is needed, which is what the mark is for; .backward() does raise.
# Seen: torch.autograd.grad(slope, leaves) raises nothing. It leaves out the part through the marked layer and returns the rest
# as the gradient: half of the true value below. For a leaf that is reached through the layer alone it returns None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.autograd.function import once_differentiable


def differentiate(h, w, slope):
    return slope * w, slope * h


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, w):
        ctx.save_for_backward(h, w)
        return h * w

    @staticmethod
    def backward(ctx, slope):
        return differentiate(*ctx.saved_tensors, slope)


class ProductOnce(Product):
    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        return differentiate(*ctx.saved_tensors, slope)


def second(layer, find):
    """d/dv of dL/dx = v^2 w, where L = v (x v) w: 2 v w = 20."""
    x, v, w = (torch.tensor(value, requires_grad=True) for value in (3.0, 5.0, 2.0))
    (slope,) = torch.autograd.grad(v * layer.apply(x * v, w), x, create_graph=True)
    return find(slope, v, w)


def by_grad(slope, v, w):
    return [None if one is None else float(one) for one in torch.autograd.grad(slope, (v, w), allow_unused=True)]


def by_backward(slope, v, w):
    try:
        slope.backward()
    except RuntimeError as error:
        return str(error)
    return [float(v.grad), float(w.grad)]


found = {layer.__name__: (second(layer, by_grad), second(layer, by_backward)) for layer in (Product, ProductOnce)}
print("torch", torch.__version__, found)
assert found["Product"] == ([20.0, 25.0], [20.0, 25.0])
assert found["ProductOnce"][0] == [10.0, None]
assert "once_differentiable" in found["ProductOnce"][1]
PY
