"""Barriers between inputs, on small networks: real to real, to another class, to adversarial inputs, and along a cue.

Of theta_NC, never shown the cue: pairs of test images of one class, pairs of two classes, and the same pairs with an
adversarial image in the place of the other class's: that image, moved by Adam (lr 0.005) until its loss with the first
one's label is below that of the first image, after 32 steps at the soonest and 1024 at the latest. Only rows that the
network is right on. AUC is the share of all comparisons in which the barrier of a pair of one class is the smaller one.

With --smallest the attack is projected gradient descent within a Euclidean ball instead, and the radius is halved
between success and failure six times: the smallest move found that is as sure as the first image.

Of theta_C, trained with the cue, and theta_NC: from the images with the cue to those without it, of one class and of
the same row (the direction of the intervention).

    python benchmarks/input_paths.py [--data digits|cifar10] [--per-class 10] [--seed 0] [--epochs N]
        [--rows N] [--bends 1] [--bend-steps 1024] [--smallest]

One thread. CIFAR-10 is read from the folder that MECHCONN_DATA names.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.connectivity import InputPairs
from mechconn.core import select_rows
from mechconn.paper import choose_demo_changes, resolve_settings

ROWS = {"digits": (None, None), "cifar10": (10_000, 2000)}
"""Data -> rows to train on and to test."""
POINTS, STEPS, SOONEST = 101, 1024, 32


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def train_networks(
    data: str, seed: int, epochs: int | None, few: int | None
) -> tuple[mc.datasets.CueTask, nn.Module, nn.Module]:
    """The task, theta_C and theta_NC, with the settings of the demo."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes(data, seed))[2]
    rows, test_rows = ROWS[data] if few is None else (few, few)
    task = mc.datasets.cue_task(data, proportion=settings.proportions[0], seed=seed, rows=rows, test_rows=test_rows)
    method = settings.training
    if epochs is not None:
        method = mc.Training(epochs=epochs, batch_size=method.batch_size, lr=method.lr, milestones=(2 * epochs // 3,))
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]
    found = []
    for rows_of in (task.train, task.clean):
        fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=seed)
        found.append(mc.train(fresh, rows_of, method, seed=seed).model.eval())
    return task, *found


@torch.no_grad()
def find_right(model: nn.Module, data: mc.CuedSet) -> Tensor:
    """The rows that a network is right on."""
    answers = [model(data.inputs(index)).argmax(1) for index in torch.arange(len(data)).split(500)]
    return (torch.cat(answers) == data.y).nonzero().flatten()


def attack(model: nn.Module, start: Tensor, labels: Tensor, least: Tensor) -> Tensor:
    """Inputs near `start` with a loss below `least` with other labels; InputBend's objective, in no hyperplane."""
    bend, found, open_rows = mc.InputBend(), start.clone(), torch.arange(len(start))
    point = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=bend.lr)
    for step in range(STEPS):
        losses = cross_entropy(model(point), labels, reduction="none")
        done = losses.detach()[open_rows] < least[open_rows]
        if step >= SOONEST and bool(done.any()):
            found[open_rows[done]] = point.detach()[open_rows[done]]
            open_rows = open_rows[~done]
            if not len(open_rows):
                break
        moved = point - start
        whole = losses.sum() + bend.closeness * moved.flatten(1).square().mean(1).sum()
        whole = whole + bend.variation * (moved.diff(dim=2).abs().sum() + moved.diff(dim=3).abs().sum())
        optimizer.zero_grad()
        whole.backward(inputs=[point])
        optimizer.step()
    found[open_rows] = point.detach()[open_rows]
    return found


def descend_in_ball(model: nn.Module, start: Tensor, labels: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs of least loss seen in 60 steps within a radius for each, and their losses."""
    moved, steps = torch.zeros_like(start).requires_grad_(), 60
    best, least = start.clone(), torch.full((len(start),), float("inf"))
    for _ in range(steps):
        losses = cross_entropy(model(start + moved), labels, reduction="none")
        (slope,) = torch.autograd.grad(losses.sum(), moved)
        with torch.no_grad():
            lower = losses < least
            best[lower], least[lower] = (start + moved)[lower], losses[lower]
            moved -= _scale(slope, 2.5 * radius / steps)
            moved *= (radius / moved.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp_max(1.0).view(-1, 1, 1, 1)
    return best, least


def _scale(x: Tensor, lengths: Tensor) -> Tensor:
    """Rows of these lengths."""
    return x * (lengths / x.flatten(1).norm(dim=1).clamp_min(1e-12)).view(-1, 1, 1, 1)


def attack_smallest(model: nn.Module, start: Tensor, labels: Tensor, least: Tensor, radius: Tensor) -> Tensor:
    """Inputs with a loss below `least`, moved as little as was found, at most by a radius."""
    low, high = torch.zeros_like(radius), radius.clone()
    found = descend_in_ball(model, start, labels, high)[0]
    for _ in range(6):
        middle = (low + high) / 2
        moved, losses = descend_in_ball(model, start, labels, middle)
        done = losses < least
        found[done] = moved[done]
        low, high = torch.where(done, low, middle), torch.where(done, middle, high)
    return found


def compute_auc(low: Sequence[float], high: Sequence[float]) -> float:
    """P(a value of the first is smaller than one of the second), ties half."""
    a, b = torch.tensor(low)[:, None], torch.tensor(high)[None]
    return float(((a < b).double() + 0.5 * (a == b).double()).mean())


def join(parts: dict[str, tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """All pairs, and the name of each."""
    names = [name for name, (_, _, labels) in parts.items() for _ in labels]
    columns = zip(*parts.values(), strict=True)
    x_a, x_c, labels = (torch.cat(column) for column in columns)
    return x_a, x_c, labels, names


def measure(
    model: nn.Module, parts: dict[str, tuple[Tensor, Tensor, Tensor]], bends: int, steps: int
) -> mc.InputProfiles:
    """Barriers of all groups, printed."""
    *pairs, names = join(parts)
    started = time.perf_counter()
    bend = mc.InputBend(steps=steps)
    found = mc.evaluate_input_path(model, pairs[0], pairs[1], pairs[2], bends, ts=POINTS, groups=names, bend=bend)
    said(f"{found}\n  {time.perf_counter() - started:.0f} s")
    return found


def main() -> None:
    """Train, attack, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=list(ROWS))
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--bends", type=int, default=1)
    parser.add_argument("--bend-steps", type=int, default=1024)
    parser.add_argument("--smallest", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    task, theta_c, theta_nc = train_networks(asked.data, asked.seed, asked.epochs, asked.rows)
    clean = task.suite["no_cue"]
    assert isinstance(clean, mc.CuedSet)
    right = find_right(theta_nc, clean)
    said(f"trained in {time.perf_counter() - started:.0f} s; theta_NC right on {len(right)} of {len(clean)} rows")
    suite = mc.Suite({"no_cue": select_rows(clean, right)}, reference="no_cue")
    real = mc.pair_inputs(suite, "no_cue", per_class=asked.per_class, seed=asked.seed)
    other = mc.pair_inputs(suite, "no_cue", by="other class", per_class=asked.per_class, seed=asked.seed)
    began = time.perf_counter()
    with torch.no_grad():
        least = cross_entropy(theta_nc(other.x_a), other.labels, reduction="none")
    apart = (other.x_a - other.x_c).flatten(1).norm(dim=1)
    if asked.smallest:
        fooled = attack_smallest(theta_nc, other.x_c, other.labels, least, apart)
    else:
        fooled = attack(theta_nc, other.x_c, other.labels, least)
    with torch.no_grad():
        share = float((theta_nc(fooled).argmax(1) == other.labels).double().mean())
    moved = (fooled - other.x_c).flatten(1).norm(dim=1) / apart
    said(
        f"attacks succeed on {share:.0%}, moved by {float(moved.median()):.3f} of the distance between the two images "
        f"(median); {time.perf_counter() - began:.0f} s"
    )
    found = measure(
        theta_nc,
        {"one class": (*real,), "other class": (*other,), "adversarial": (other.x_a, fooled, other.labels)},  # pyright: ignore
        asked.bends,
        asked.bend_steps,
    )
    for group in ("adversarial", "other class"):
        for on in ("barrier", "gap"):
            for path in found.paths:
                auc = compute_auc(found.values(on, path, "one class"), found.values(on, path, group))
                said(f"AUC of the {on}, {path}: one class against {group} {auc:.3f}")
    for name, model in (("theta_C", theta_c), ("theta_NC", theta_nc)):
        pairs: dict[str, InputPairs] = {
            f"{name}, cue to no_cue, one class": mc.pair_inputs(
                task.suite, "cue", "no_cue", per_class=asked.per_class, seed=asked.seed
            ),
            f"{name}, cue to no_cue, same row": mc.pair_inputs(
                task.suite, "cue", "no_cue", by="row", per_class=asked.per_class, seed=asked.seed
            ),
            f"{name}, no_cue to no_cue, one class": mc.pair_inputs(
                task.suite, "no_cue", per_class=asked.per_class, seed=asked.seed
            ),
        }
        measure(model, {key: (*own,) for key, own in pairs.items()}, 0, 1)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
