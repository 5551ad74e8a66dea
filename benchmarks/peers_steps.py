"""A step of fitting a path, and one of CBFT, as a good engineer writes them: what bench_steps.py holds ours against.

Channels last, autocast to bfloat16 where that is faster, points by one functional call, the fused SGD.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, normalize

Pair = tuple[Tensor, Tensor]
CLASSES = 10


def lay_out(batches: list[Pair]) -> Iterator[Pair]:
    """Batches with channels last."""
    return ((x.contiguous(memory_format=torch.channels_last), y) for x, y in batches)


def reduced(fast: bool) -> AbstractContextManager[object]:
    """A block in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def make_sgd(weights: list[Tensor]) -> torch.optim.Optimizer:
    """The settings of ours."""
    return torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)


def fit(model: nn.Module, other: nn.Module, clean: list[Pair], fast: bool) -> Iterator[None]:
    """Steps on the control point of a quadratic path; pauses before each."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    a = {name: p.detach() for name, p in model.named_parameters()}
    b = {name: p.detach().to(a[name]) for name, p in other.named_parameters()}
    middle = {name: ((a[name] + b[name]) / 2).requires_grad_() for name in a}
    optimiser = make_sgd(list(middle.values()))
    for number, (x, y) in enumerate(lay_out(clean)):
        yield
        t = (number % 10) / 10
        left, right = (1 - t) ** 2, t**2
        ends = {name: torch.add(left * a[name], b[name], alpha=right) for name in a}
        point = {name: torch.add(ends[name], middle[name], alpha=2 * t * (1 - t)) for name in a}
        with reduced(fast):
            loss = cross_entropy(functional_call(model, point, (x,)).float(), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    yield


def tune(model: nn.Module, clean: list[Pair], cued: list[Pair], fast: bool) -> Iterator[None]:
    """Steps of CBFT, alternating; pauses before each."""
    theta = copy.deepcopy(model).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    start = {name: p.detach().clone() for name, p in theta.named_parameters()}
    path = copy.deepcopy(theta)
    optimiser = make_sgd(list(theta.parameters()))
    features: list[Tensor] = []
    head = [module for module in theta.modules() if isinstance(module, nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, args: features.append(args[0].float()))
    for (x, y), (seen, labels) in zip(lay_out(clean), lay_out(cued), strict=True):
        yield
        point = {name: torch.lerp(p, start[name], 0.4) for name, p in theta.named_parameters()}
        with reduced(fast):
            loss = (1.0 - cross_entropy(functional_call(path, point, (seen,)).float(), labels)).abs()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        features.clear()
        with reduced(fast):
            outputs = theta(x).float()
            theta(seen)
        means = [measure_means(z, own) for z, own in zip(features, (y, labels), strict=True)]
        gap = (means[0] - means[1]).square().sum()
        optimiser.zero_grad()
        (cross_entropy(outputs, y) + gap / CLASSES).backward()
        optimiser.step()
    yield


def measure_means(features: Tensor, labels: Tensor) -> Tensor:
    """The mean of each class, of unit length."""
    members = torch.nn.functional.one_hot(labels, CLASSES).to(features)
    return normalize(members.T @ features / members.sum(0).clamp(min=1.0)[:, None], dim=1)
