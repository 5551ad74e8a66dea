"""How fast a step of CBFT is, against a plain float32 implementation with three copies of the model.

The plain one does what a first script does: the model that is trained, a frozen copy of where it started, and a third
that is filled with the point between them at every step. VGG-13, 128 rows of clean and 128 of cued random images, the
alternating update; both in turns, so that what else runs meets both.

    python benchmarks/bench_cbft.py
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

import mechconn as mc

FAST = mc.Compute(precision="auto")

ROWS, CLASSES = 128, 10


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class Plain:
    """CBFT by three models, float32."""

    def __init__(self, model: nn.Module) -> None:
        self.theta, self.start, self.between = (copy.deepcopy(model).train() for _ in range(3))
        self.optimiser = torch.optim.SGD(self.theta.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.features: list[Tensor] = []
        head = [module for module in self.theta.modules() if isinstance(module, nn.Linear)][-1]
        head.register_forward_pre_hook(lambda _, args: self.features.append(args[0]))

    def step(self, clean: tuple[Tensor, Tensor], cued: tuple[Tensor, Tensor], t: float) -> None:
        """One step on the barrier, one on the rest."""
        trio = zip(self.theta.parameters(), self.start.parameters(), self.between.parameters(), strict=True)
        with torch.no_grad():
            for own, there, point in trio:
                point.copy_((1 - t) * own + t * there)
        self.between.zero_grad()
        (1.0 - cross_entropy(self.between(cued[0]), cued[1])).abs().backward()
        for own, point in zip(self.theta.parameters(), self.between.parameters(), strict=True):
            assert point.grad is not None
            own.grad = (1 - t) * point.grad
        self.optimiser.step()
        self.features.clear()
        outputs = self.theta(clean[0])
        self.theta(cued[0])
        gap = torch.zeros(())
        for k in range(CLASSES):
            here, other = self.features[0][clean[1] == k], self.features[1][cued[1] == k]
            if len(here) and len(other):
                gap = gap + (normalize(here.mean(0), dim=0) - normalize(other.mean(0), dim=0)).square().sum()
        self.optimiser.zero_grad()
        (cross_entropy(outputs, clean[1]) + gap / CLASSES).backward()
        self.optimiser.step()


def main() -> None:
    """Time both and print the ratio."""
    steps, repeats = 3, 5
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(4 * steps * ROWS, 3, 32, 32, generator=draw), torch.arange(4 * steps * ROWS) % CLASSES
    model = mc.models.vgg13(seed=0)
    plain = Plain(model)
    batches = [(part, labels) for part, labels in zip(x.split(ROWS), y.split(ROWS), strict=True)]

    def slow() -> None:
        for number in range(steps):
            plain.step(batches[number], batches[-1 - number], 0.4)

    def fast(count: int) -> None:
        method = mc.CBFT(epochs=1, warmup_epochs=0, batch_size=ROWS)
        rows = count * ROWS
        mc.fine_tune(model, method, clean=(x[:rows], y[:rows]), cued=(x[-rows:], y[-rows:]), compute=FAST)

    slow()
    fast(1)
    pairs = [(seconds(slow) / steps, (seconds(lambda: fast(2 * steps)) - seconds(lambda: fast(steps))) / steps)
             for _ in range(repeats)]  # fmt: skip
    told = ", ".join(f"{1000 * p:.0f}/{1000 * f:.0f}" for p, f in pairs)
    sys.stdout.write(
        f"CBFT step, {ROWS} clean and {ROWS} cued rows, {torch.get_num_threads()} threads: "
        f"{1000 * median(f for _, f in pairs):.0f} ms, plain {1000 * median(p for p, _ in pairs):.0f} ms (medians), "
        f"ratio {median(p / f for p, f in pairs):.2f} (median); plain/ours in ms: {told}\n"
    )


if __name__ == "__main__":
    main()
