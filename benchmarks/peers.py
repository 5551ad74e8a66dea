"""The loop that a good engineer writes by hand to evaluate a path, and how fast this library is beside it.

`evaluate_by_hand` is that loop: one model updated in place, inference mode, channels last, autocast to bfloat16 where
asked, normalisation statistics once per t, large batches. It is timed in turns with `evaluate_path` of this tree and of
the build before (an earlier commit, read with `git archive`), each in a process of its own, on one thread. Times are of
the processor, so that what else runs weighs little. All accuracies and losses must agree up to what rounding explains.

    python benchmarks/peers.py [--only vgg13 ...] [--precision model] [--rows 1000] [--pairs 3] [--points 3]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mechconn as mc

BEFORE = "e924254"
"""The build that this one is held against."""
HERE = Path(__file__).resolve().parent.parent
Pair = tuple[Tensor, Tensor]
Weights = Mapping[str, Tensor]


@torch.inference_mode()
def evaluate_by_hand(
    model: nn.Module,
    a: Weights,
    b: Weights,
    ts: tuple[float, ...],
    splits: Mapping[str, Pair],
    stats: Pair | None = None,
    *,
    reduced: bool = False,
    rows: int = 500,
) -> dict[str, list[float]]:
    """Split -> accuracy at each t of the line from a to b, by the engineer's loop, and "loss of" each split.

    `stats` are for BatchNorm.
    """
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    found: dict[str, list[float]] = {key: [] for name in splits for key in (name, f"loss of {name}")}

    def run(x: Tensor) -> Tensor:
        outputs = model(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)
        return getattr(outputs, "logits", outputs)

    for t in ts:
        for name, parameter in model.named_parameters():
            torch.lerp(a[name], b[name], t, out=parameter.data)
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            if stats is not None:
                renew_statistics(model, run, stats[0].split(rows))
            model.eval()
            for name, (x, y) in splits.items():
                right, loss = 0, 0.0
                for part, labels in zip(x.split(rows), y.split(rows), strict=True):
                    outputs = run(part).float()
                    right += int((outputs.argmax(1) == labels).sum())
                    loss += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
                found[name].append(right / len(y))
                found[f"loss of {name}"].append(loss / len(y))
    return found


def renew_statistics(model: nn.Module, run: Callable[[Tensor], object], batches: Iterable[Tensor]) -> None:
    """BatchNorm's statistics from one pass in training mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    for x in batches:
        run(x)


def evaluate_by_library(
    model: nn.Module,
    a: Weights,
    b: Weights,
    ts: tuple[float, ...],
    splits: Mapping[str, Pair],
    stats: Pair | None = None,
    *,
    reduced: bool = False,
    rows: int = 500,
) -> dict[str, list[float]]:
    """The same by `evaluate_path`; `rows` is of the pass for the statistics, the other batches are its own."""
    norm = mc.KeepNorm() if stats is None else mc.Reestimate(stats, batch_size=rows)
    compute = mc.Compute(precision="auto" if reduced else "model")
    suite = mc.Suite(dict(splits), reference=next(iter(splits)))
    ends = [mc.with_parameters(model, dict(end)) for end in (a, b)]  # parameters alone would lose BERT's buffers,
    whole = mc.LinearPath.between(*ends)  # and with them the networks as saved would be evaluated beside the path
    path = whole if stats is None else mc.LinearPath(dict(a), dict(b))
    profile = mc.evaluate_path(model, path, suite, ts, norm=norm, compute=compute)
    losses = {f"loss of {name}": list(values) for name, values in profile.loss.items()}
    return {name: list(values) for name, values in profile.accuracy.items()} | losses


@dataclass(frozen=True)
class Case:
    """A network and the data that it is evaluated on."""

    build: Callable[[int], nn.Module]
    draw: Callable[[int, int], Pair]
    rows: int
    norm: bool = True


def draw_images(rows: int, seed: int) -> Pair:
    """Random images whose class shows in their colours; CIFAR-10's with the cues where MECHCONN_DATA names them."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 10, (rows,), generator=draw)
    if os.environ.get("MECHCONN_DATA"):
        task = read_cifar()
        index = torch.randint(0, len(task.clean), (rows,), generator=draw)
        return task.clean.inputs(index), task.clean.y[index]
    hue = torch.randn(10, 3, 1, 1, generator=torch.Generator().manual_seed(99))
    return hue[y] + torch.randn(rows, 3, 32, 32, generator=draw), y


@cache
def read_cifar() -> Any:
    """CIFAR-10 with the box cue, read once."""
    return mc.datasets.cue_task("cifar10")


@cache
def read_digits() -> Any:
    """scikit-learn's digits with the box cue, read once."""
    return mc.datasets.cue_task("digits", seed=0)


def draw_digits(rows: int, seed: int) -> Pair:
    """Rows of the digits, drawn again and again."""
    task, draw = read_digits(), torch.Generator().manual_seed(seed)
    index = torch.randint(0, len(task.clean), (rows,), generator=draw)
    return task.clean.inputs(index), task.clean.y[index]


def draw_features(rows: int, seed: int) -> Pair:
    """64 features, of which a product decides the class."""
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))
    return x, ((x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] > 0)).long()


def draw_tokens(rows: int, seed: int) -> Pair:
    """32 words, of which the second tells the class."""
    ids = torch.randint(4, 1000, (rows, 32), generator=torch.Generator().manual_seed(seed))
    return ids, ids[:, 1] % 4


def build_mlp(seed: int) -> nn.Module:
    """Three layers for 64 features."""
    return mc.models.build_seeded(
        lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4)), seed
    )


def build_bert(seed: int) -> nn.Module:
    """BERT of four layers of 256, from a configuration."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=1000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        max_position_embeddings=32, initializer_range=0.05,
    )  # fmt: skip
    config.num_labels = 4
    return mc.models.build_seeded(lambda: transformers.BertForSequenceClassification(config), seed)


CASES = {
    "vgg13": Case(lambda seed: mc.models.vgg13(seed=seed), draw_images, 1000),
    "resnet18": Case(lambda seed: mc.models.resnet18(seed=seed), draw_images, 500),
    "bert": Case(build_bert, draw_tokens, 2000, norm=False),
    "digits": Case(lambda seed: mc.models.small_convnet(seed=seed), draw_digits, 2000),
    "mlp": Case(build_mlp, draw_features, 20000, norm=False),
}
SPLITS = ("cue", "no_cue", "rand_cue", "rand_image")
HANDS: dict[str, Callable[..., dict[str, list[float]]]] = {
    "engineer": evaluate_by_hand,
    "now": evaluate_by_library,
    "before": evaluate_by_library,
}


def train_pair(case: Case) -> list[dict[str, Tensor]]:
    """Two networks of other seeds, trained for a moment, so that their answers are not of noise alone."""
    setting = mc.Training(epochs=2, batch_size=64, lr=0.02, momentum=0.9)
    data = case.draw(640, 7)
    return [mc.parameters_of(mc.train(case.build(seed), data, setting).model) for seed in (0, 1)]


def serve(hand: str) -> None:
    """Answer each line on the standard input, a case, with the seconds and results of one evaluation."""
    torch.set_num_threads(1)
    said, sys.stdout = sys.stdout, io.StringIO()
    for line in sys.stdin:
        asked = json.loads(line)
        case, rows = CASES[asked["case"]], asked["rows"]
        a, b = (load_file(file) for file in asked["weights"])
        splits = {name: case.draw(rows, seed) for seed, name in enumerate(SPLITS)}
        stats = case.draw(rows, 11) if case.norm else None
        ts = tuple(mc.path_grid(asked["points"]))
        started = time.process_time()
        found = HANDS[hand](
            case.build(0).eval(), a, b, ts, splits, stats, reduced=asked["reduced"], rows=asked["batch"]
        )
        answer = {"seconds": time.process_time() - started, "found": found, "source": mc.__file__}
        said.write(json.dumps(answer) + "\n")
        said.flush()


class Worker:
    """A process that evaluates with one of the hands, by the sources in one folder."""

    def __init__(self, hand: str, sources: Path) -> None:
        single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(sources)}
        self._sources = sources
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", hand],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **single},
        )  # fmt: skip

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One evaluation."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        assert Path(found["source"]).is_relative_to(self._sources), "a worker read other sources than it was told to"
        return found

    def close(self) -> None:
        """End the process by the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def unpack_before(folder: Path) -> Path | None:
    """The sources of the build before; None where this tree has no history."""
    found = subprocess.run(["git", "archive", BEFORE, "src"], cwd=HERE, capture_output=True)
    if found.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


def largest_gap(first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> float:
    """The largest difference of two accuracies, or losses in nats, of one split at one t."""
    return max(abs(x - y) for name in first for x, y in zip(first[name], second[name], strict=True))


def compare(name: str, reduced: bool, workers: Mapping[str, Worker], asked: argparse.Namespace, folder: Path) -> None:
    """Print the ratios of one network in one precision, min to max over the pairs."""
    case = CASES[name]
    files = [str(folder / f"{name} {i}.safetensors") for i in range(2)]
    if not all(map(os.path.exists, files)):
        for file, weights in zip(files, train_pair(case), strict=True):
            save_file(weights, file)
    rows = max(asked.batch, round(case.rows * asked.scale))
    task = {"case": name, "weights": files, "reduced": reduced, "rows": rows, "points": asked.points}
    seconds: dict[str, list[float]] = {hand: [] for hand in workers}
    found: dict[str, Mapping[str, list[float]]] = {}
    for turn in range(asked.pairs + 1):  # the first warms up
        for hand, worker in workers.items():
            answer = worker.ask({**task, "batch": asked.batch})
            found[hand] = answer["found"]
            if turn:
                seconds[hand].append(answer["seconds"])
    # A row whose two best classes are nearer than rounding may change sides: hardly one in float32, whose outputs move
    # by 1e-6 of their size; in bfloat16 by a hundredth, and networks trained for a moment have many such rows. Losses
    # move by what outputs do.
    allowed = 0.06 if reduced else 0.002
    gaps = {hand: largest_gap(found["engineer"], found[hand]) for hand in workers}
    assert max(gaps.values()) <= allowed, f"accuracies or losses differ by more than rounding explains: {gaps}"
    ratios = {
        other: [theirs / ours for theirs, ours in zip(seconds[other], seconds["now"], strict=True)]
        for other in workers
        if other != "now"
    }
    told = ", ".join(f"{min(r):.2f} to {max(r):.2f} of the {_called(other)}" for other, r in ratios.items())
    mean = float(torch.tensor([found["now"][split] for split in SPLITS]).mean())
    sys.stdout.write(
        f"{name:9s} {'bfloat16' if reduced else 'float32':8s} {told}; {min(seconds['now']):.2f} s for {asked.points} "
        f"points x {len(SPLITS)} splits of {rows}, mean accuracy {mean:.3f}, largest gap {max(gaps.values()):.4f}\n"
    )
    sys.stdout.flush()


def _called(hand: str) -> str:
    return {"engineer": "engineer's speed", "before": f"build before's ({BEFORE})"}[hand]


def main() -> None:
    """Compare all that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows of each network")
    parser.add_argument("--points", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=500, help="rows per batch of the engineer and of the statistics")
    parser.add_argument("--serve", choices=list(HANDS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_workers:
        sources = {"engineer": HERE / "src", "now": HERE / "src", "before": unpack_before(Path(folder))}
        workers = {hand: Worker(hand, place) for hand, place in sources.items() if place is not None}
        for worker in workers.values():
            open_workers.callback(worker.close)
        for name in asked.only:
            for precision in asked.precision:
                compare(name, precision == "bfloat16", workers, asked, Path(folder))


if __name__ == "__main__":
    main()
