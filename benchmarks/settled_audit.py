"""An audit until settled beside one of all rows: verdicts, rows through the network, seconds.

    python benchmarks/settled_audit.py vgg13 --folder FOLDER [--pairs 1]     theta_C and theta_NC on CIFAR-10
    python benchmarks/settled_audit.py digits --folder FOLDER                20 pairs of networks on digits

VGG-13: four splits of 10,000 CIFAR-10 images (MECHCONN_DATA names the folder), 11 points, both lines, statistics from
1,000 images, which are counted apart. Networks that are not in FOLDER are trained and left there: VGG-13 on 10,000
images for six epochs, about half an hour on one thread. The paths of the whole audit are judged in loss; its verdicts
in accuracy, from the same rows, are those that an audit until settled can be held against. Both run in turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import mechconn as mc
from mechconn.paper import choose_demo_changes, resolve_settings

STATISTICS = 1000
TOLERANCE = 0.05


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def keep(folder: Path, name: str, fresh: nn.Module, train: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A network of the folder, trained and left there where it is not."""
    file = folder / f"{name}.safetensors"
    if not file.exists():
        trained = {key: value.contiguous() for key, value in train(fresh).state_dict().items()}
        save_file(trained, file)
    fresh.load_state_dict(load_file(file))
    return fresh.eval()


def count_rows(kind: type[nn.Module], call: Callable[[], Any]) -> tuple[Any, float, dict[str, int]]:
    """(what it gives, seconds, rows in evaluation mode and for statistics)."""
    rows: Counter[str] = Counter()

    def note(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        if type(module) is kind:
            rows["statistics" if module.training else "evaluated"] += len(inputs[0])

    handle = register_module_forward_hook(note)
    started = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - started
    handle.remove()
    return found, seconds, dict(rows)


def list_verdicts(found: mc.Audit) -> dict[str, str]:
    """Every verdict by name: on interventions, on mechanisms, and on every split of every line in accuracy."""
    sides = {"A": found.comparison.a, "B": found.comparison.b}
    verdicts = {f"{side} {name}": own[name].verdict for side, own in sides.items() for name in own.interventions}
    verdicts["mechanisms"] = found.verdict
    for which, path in found.paths.items():
        verdicts |= {f"{which} {s}": path.connection(s, TOLERANCE, "accuracy").verdict for s in path.loss}
    for which, path in found.settled_paths.items():
        verdicts |= {f"{which} {split}": verdict for split, verdict in path.verdicts.items()}
    return verdicts


def hold_against(whole: Mapping[str, str], part: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    """(contradictions, determined by all rows alone, determined until settled alone)."""
    apart = {name: (verdict, part[name]) for name, verdict in whole.items() if verdict != part[name]}
    lost = [name for name, (_, own) in apart.items() if own == "undetermined"]
    won = [name for name, (verdict, _) in apart.items() if verdict == "undetermined"]
    return [f"{n}: {v}" for n, v in apart.items() if n not in {*lost, *won}], lost, won


def compare(name: str, a: nn.Module, b: nn.Module, suite: mc.Suite, norm: Any, compute: mc.Compute) -> dict[str, Any]:
    """Both audits of a pair, with a line that tells how they compare."""
    results = {}
    for until in ("end", "settled"):
        results[until] = count_rows(
            type(a),
            lambda u=until: mc.audit(a, b, suite, norm=norm, until=u, tolerance=TOLERANCE, compute=compute),  # pyright: ignore
        )
    (whole, slow, all_rows), (part, fast, some) = results["end"], results["settled"]
    against, lost, won = hold_against(list_verdicts(whole), list_verdicts(part))
    points = {which: max(map(len, path.points.values())) for which, path in part.settled_paths.items()}
    ratio = all_rows["evaluated"] / some["evaluated"]
    said(
        f"{name}: rows {all_rows['evaluated']:,} and {some['evaluated']:,} ({ratio:.1f} times fewer), "
        f"for statistics {all_rows.get('statistics', 0):,} and {some.get('statistics', 0):,}; seconds "
        f"{slow:.1f} and {fast:.1f} ({fast / slow:.3f}); inner points visited {points}; contradictions "
        f"{against or 'none'}; settled by all rows alone {lost or 'none'}; until settled alone {won or 'none'}"
    )
    return {"lost": lost, "against": against, "rows": some["evaluated"] / all_rows["evaluated"], "time": fast / slow}


def audit_vgg13(folder: Path, pairs: int) -> None:
    """theta_C against theta_NC."""
    task = mc.datasets.cue_task("cifar10", rows=10_000, test_rows=10_000)
    fast = mc.Compute(precision="auto")
    training = mc.Training(epochs=6, batch_size=128, lr=0.05, milestones=(4, 5))
    a, b = (
        keep(
            folder,
            f"theta_{kind}",
            mc.models.vgg13(seed=s),
            lambda m, d=d, s=s: mc.train(m, d, training, seed=s, compute=fast).model,
        )
        for s, (kind, d) in enumerate((("C", task.train), ("NC", task.clean)))
    )
    norm = mc.Reestimate(task.clean.sample(STATISTICS, 0))
    for number in range(pairs):
        compare(f"VGG-13, pair {number}", a, b, task.suite, norm, fast)


def list_digits_pairs(folder: Path, seed: int) -> Iterator[tuple[str, nn.Module, nn.Module, mc.Suite, Any]]:
    """Four pairs of one seed: of another mechanism, of the same, before and after fine-tuning."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes("digits", seed))[2]
    task = mc.datasets.cue_task("digits", proportion=settings.proportions[0], seed=seed)
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]

    def fresh(own: int) -> nn.Module:
        return mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=own)

    def train(data: Any, own: int) -> Callable[[nn.Module], nn.Module]:
        return lambda model: mc.train(model, data, settings.training, seed=own).model

    nets = {
        "C": keep(folder, f"{seed}-C", fresh(seed), train(task.train, seed)),
        "NC": keep(folder, f"{seed}-NC", fresh(seed), train(task.clean, seed)),
        "NC2": keep(folder, f"{seed}-NC2", fresh(seed + 1000), train(task.clean, seed + 1000)),
    }
    clean, tuned = task.clean.sample(settings.clean_samples[0], seed), settings.methods["FT-M"]

    def tune(_: nn.Module) -> nn.Module:
        return mc.fine_tune(nets["C"], tuned, clean=clean, cued=task.train, seed=seed).model

    nets["FT-M"] = keep(folder, f"{seed}-FT-M", fresh(seed), tune)
    for first, second in (("C", "NC"), ("NC", "NC2"), ("C", "FT-M"), ("NC", "FT-M")):
        yield (
            f"digits, seed {seed}, {first} and {second}",
            nets[first],
            nets[second],
            task.suite,
            mc.Reestimate(task.clean),
        )


def audit_digits(folder: Path, seeds: int) -> None:
    """Four pairs a seed."""
    found = [compare(*pair, mc.Compute()) for seed in range(1, seeds + 1) for pair in list_digits_pairs(folder, seed)]
    lost = sum(len(pair["lost"]) for pair in found)
    said(
        f"{len(found)} pairs: {sum(len(pair['against']) for pair in found)} contradictions, {lost} verdicts that all "
        f"rows settle alone, in {sum(bool(pair['lost']) for pair in found)} pairs"
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("vgg13", "digits"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    said(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if given.what == "vgg13":
        audit_vgg13(given.folder, given.pairs)
    else:
        audit_digits(given.folder, given.seeds)


if __name__ == "__main__":
    main()
