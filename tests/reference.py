"""Slow, obvious witnesses: what the library computes cleverly, computed by the words of the method."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

Batch = tuple[Tensor, Tensor]
Tensors = Mapping[str, Tensor]


def loaded(model: nn.Module, params: Tensors, buffers: Tensors | None = None) -> nn.Module:
    """A deep copy of the model that holds these tensors."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            parameter.copy_(params[name])
        for name, buffer in copied.named_buffers():
            if buffers is not None:
                buffer.copy_(buffers[name])
    return copied


def evaluated(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """(mean cross-entropy, accuracy) in evaluation mode, sample by sample."""
    model = copy.deepcopy(model).eval()
    losses, hits = [], []
    with torch.no_grad():
        for x, y in batches:
            for i in range(len(y)):
                logits = model(x[i : i + 1])[0]
                losses.append(float(torch.logsumexp(logits, 0) - logits[y[i]]))
                hits.append(int(logits.argmax()) == int(y[i]))
    return sum(losses) / len(losses), sum(hits) / len(hits)


# ---------------------------------------------------------------- optimisers


def adam_steps(
    params: Tensors,
    gradients: Callable[[Tensors], Tensors],
    rates: Iterable[float],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> dict[str, Tensor]:
    """Adam, or with `decoupled` AdamW, number by number as the equations are printed, one step for each rate."""
    theta = {name: tensor.detach().double().flatten().tolist() for name, tensor in params.items()}
    first = {name: [0.0] * len(values) for name, values in theta.items()}
    second = {name: [0.0] * len(values) for name, values in theta.items()}
    b1, b2 = betas

    def point() -> dict[str, Tensor]:
        return {name: torch.tensor(values, dtype=torch.float64).view_as(params[name]) for name, values in theta.items()}

    for number, lr in enumerate(rates, start=1):
        for name, gradient in gradients(point()).items():
            for i, slope in enumerate(gradient.flatten().tolist()):
                g = slope if decoupled else slope + weight_decay * theta[name][i]
                if decoupled:
                    theta[name][i] -= lr * weight_decay * theta[name][i]
                first[name][i] = b1 * first[name][i] + (1 - b1) * g
                second[name][i] = b2 * second[name][i] + (1 - b2) * g * g
                m, v = first[name][i] / (1 - b1**number), second[name][i] / (1 - b2**number)
                theta[name][i] -= lr * m / (math.sqrt(v) + eps)
    return point()


# ---------------------------------------------------------------- paths


def de_casteljau(points: Sequence[Tensors], t: float) -> dict[str, Tensor]:
    """A point of the Bezier curve: means of neighbours, of their means, and so on until one is left."""
    while len(points) > 1:
        points = [{name: (1 - t) * a[name] + t * b[name] for name in a} for a, b in pairwise(points)]
    return dict(points[0])


# ---------------------------------------------------------------- normalisation statistics


def activations(model: nn.Module, batches: Iterable[Batch]) -> dict[str, list[Tensor]]:
    """Per BatchNorm layer, what each of its calls received in training mode, as [values, channels]."""
    model = copy.deepcopy(model).train()
    received: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: received.setdefault(name, []).append(args[0].transpose(0, 1).flatten(1).T)

    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(recorder(name))
    with torch.no_grad():
        for x, _ in batches:
            model(x)
    return received


def pooled_statistics(calls: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(mean, variance): weighted mean of batch means; mean(var_b + mean_b^2) - mean^2, unbiased once."""
    total = sum(len(call) for call in calls)
    mean, square = torch.zeros_like(calls[0][0]), torch.zeros_like(calls[0][0])
    for call in calls:
        batch_mean = call.sum(0) / len(call)
        batch_variance = ((call - batch_mean) ** 2).sum(0) / len(call)
        mean = mean + batch_mean * (len(call) / total)
        square = square + (batch_variance + batch_mean**2) * (len(call) / total)
    return mean, (square - mean**2) * total / (total - 1)


def moving_statistics(calls: Sequence[Tensor], momentum: float) -> tuple[Tensor, Tensor]:
    """(mean, variance) that start at 0 and 1 and move by `momentum` to each call's mean and unbiased variance."""
    mean, variance = torch.zeros_like(calls[0][0]), torch.ones_like(calls[0][0])
    for call in calls:
        mean = (1 - momentum) * mean + momentum * call.mean(0)
        variance = (1 - momentum) * variance + momentum * call.var(0, unbiased=True)
    return mean, variance


# ---------------------------------------------------------------- CBFT


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def invariance_term(clean: Tensor, clean_y: Tensor, cued: Tensor, cued_y: Tensor, classes: int) -> Tensor:
    """Class by class: the squared distance of the two unit mean features, where both batches have the class."""
    total = torch.zeros((), dtype=clean.dtype)
    for k in range(classes):
        here = [clean[i] for i in range(len(clean_y)) if int(clean_y[i]) == k]
        there = [cued[i] for i in range(len(cued_y)) if int(cued_y[i]) == k]
        if here and there:
            gap = unit(sum(here, torch.zeros_like(clean[0])) / len(here))
            gap = gap - unit(sum(there, torch.zeros_like(cued[0])) / len(there))
            total = total + (gap**2).sum()
    return total


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, weights = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(names, found, weights, strict=True)
    return {name: torch.zeros_like(weight) if grad is None else grad for name, grad, weight in pairs}


@dataclass
class SlowSGD:
    """Momentum and weight decay by hand: v = momentum v + (g + decay w), w = w - rate v."""

    model: nn.Module
    momentum: float
    decay: float
    velocity: dict[str, Tensor] = field(default_factory=dict)

    def step(self, grads: Tensors, rate: float) -> None:
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                grad = grads[name] + self.decay * weight
                self.velocity[name] = self.momentum * self.velocity.get(name, torch.zeros_like(weight)) + grad
                weight -= rate * self.velocity[name]


def cosine(lr: float, step: int, steps: int) -> float:
    return lr * (1 + math.cos(math.pi * step / steps)) / 2


def descended(
    model: nn.Module, batches: list[Batch], rates: Sequence[float], momentum: float = 0.9, decay: float = 1e-4
) -> nn.Module:
    """Cross-entropy on the batches, again and again in their order: one step per rate. Ends in evaluation mode."""
    theta = copy.deepcopy(model).train()
    optimiser = SlowSGD(theta, momentum, decay)
    for step, rate in enumerate(rates):
        x, y = batches[step % len(batches)]
        optimiser.step(gradients(theta, cross_entropy(theta(x), y)), rate)
    return theta.eval()


@dataclass
class SlowCBFT:
    """CBFT on batches in their order, for an nn.Sequential whose last layer is the head."""

    ts: Sequence[float]
    epochs: int
    update: str
    margin: float = 1.0
    lr: float = 0.01
    momentum: float = 0.9
    decay: float = 1e-4
    warmup: int = 1

    def barrier_gradients(self, theta: nn.Module, start: nn.Module, batch: Batch, t: float) -> dict[str, Tensor]:
        """(1 - t) times the gradient at the interpolated point, with the sign of the absolute value."""
        there = dict(start.named_parameters())
        middle = {name: (1 - t) * w.detach() + t * there[name].detach() for name, w in theta.named_parameters()}
        point = loaded(theta, middle).train()
        loss = cross_entropy(point(batch[0]), batch[1])
        sign = -1.0 if loss.item() < self.margin else 1.0
        return {name: sign * (1 - t) * grad for name, grad in gradients(point, loss).items()}

    def mechanism_gradients(self, theta: nn.Module, clean: Batch, cued: Batch, epoch: int) -> dict[str, Tensor]:
        """Of the loss on clean data plus, after the warm-up, the invariance term over K."""
        assert isinstance(theta, nn.Sequential)
        body, head = theta[:-1], theta[-1]
        features = body(clean[0])
        outputs = head(features)
        loss = cross_entropy(outputs, clean[1])
        if epoch >= self.warmup:
            classes = outputs.shape[1]
            term = invariance_term(features, clean[1], body(cued[0]), cued[1], classes)
            loss = loss + term / classes
        return gradients(theta, loss)

    def run(self, model: nn.Module, clean: list[Batch], cued: list[Batch]) -> nn.Module:
        theta, start = copy.deepcopy(model).train(), copy.deepcopy(model)
        optimiser = SlowSGD(theta, self.momentum, self.decay)
        each = min(len(clean), len(cued))
        for step in range(self.epochs * each):
            epoch, offset = divmod(step, each)
            rate = cosine(self.lr, step, self.epochs * each)
            away = self.barrier_gradients(theta, start, cued[offset], self.ts[step])
            if self.update == "alternating":
                optimiser.step(away, rate)
            grads = self.mechanism_gradients(theta, clean[offset], cued[offset], epoch)
            if self.update == "joint":
                grads = {name: grads[name] + away[name] for name in grads}
            optimiser.step(grads, rate)
        return theta.eval()


def bernstein(k: int) -> Callable[[float], list[float]]:
    """The Bernstein polynomials of a curve with k control points, A's and B's among them."""
    n = k + 1
    return lambda t: [math.comb(n, i) * (1 - t) ** (n - i) * t**i for i in range(n + 1)]


def hats(k: int) -> Callable[[float], list[float]]:
    """The weights of a polygon's points: 1 at their own place, falling to 0 at the neighbours'."""
    return lambda t: [max(0.0, 1 - abs(t * (k + 1) - i)) for i in range(k + 2)]


@dataclass
class SlowPathFit:
    """SGD on control points, batches in their order, one t and one rate for each step.

    `unweighted`: the control point gets the gradient as it is, and the weight goes to the step's rate.
    """

    ts: Sequence[float]
    rates: Sequence[float]
    weights: Callable[[float], list[float]]
    momentum: float = 0.9
    decay: float = 1e-4
    unweighted: bool = False

    def run(self, points: list[nn.Module], batches: list[Batch]) -> list[nn.Module]:
        """`points` are A, where each control point starts, and B, as networks; the control points that are found."""
        a, *controls, b = map(copy.deepcopy, points)
        optimisers = [SlowSGD(control, self.momentum, self.decay) for control in controls]
        for step, (t, rate) in enumerate(zip(self.ts, self.rates, strict=True)):
            weights, (x, y) = self.weights(t), batches[step % len(batches)]
            held = [dict(model.named_parameters()) for model in (a, *controls, b)]
            middle = {
                name: torch.stack([w * point[name].detach() for w, point in zip(weights, held, strict=True)]).sum(0)
                for name in held[0]
            }
            point = loaded(a, middle).train()
            grads = gradients(point, cross_entropy(point(x), y))
            for optimiser, weight in zip(optimisers, weights[1:-1], strict=True):
                scale, rate_here = (1.0, rate * weight) if self.unweighted else (weight, rate)
                optimiser.step({name: scale * grad for name, grad in grads.items()}, rate_here)
        return controls


def splitmix64(start: int, counter: int) -> int:
    """The counter-th output of SplitMix64 from state `start`, in whole numbers without bounds."""
    mask = 2**64 - 1
    z = (start + counter * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
