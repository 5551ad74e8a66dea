"""How much memory two low-rank adapters on one base take, in copies of the base, and how long a path between them.

The base is BERT-base by its configuration (109 million random numbers), the adapters have rank 8 on queries and values,
saved and loaded from folders. The reference is the same with both adapters merged into networks of their own.

    python benchmarks/bench_adapters.py [--layers 12]
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification

import mechconn as mc


def said(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_peak(run: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator held at once, above those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    events: list[Any] = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def save_models(folder: Path, layers: int) -> None:
    """A base and two adapters on it."""
    base = BertForSequenceClassification(BertConfig(num_hidden_layers=layers))
    base.save_pretrained(folder / "base")
    for name in ("a", "b"):
        settings = LoraConfig(r=8, target_modules=["query", "value"], task_type="SEQ_CLS", init_lora_weights=False)
        get_peft_model(copy.deepcopy(base), settings).save_pretrained(str(folder / name))


def make_suite() -> mc.Suite:
    """Two splits of four rows of 16 tokens, so that activations are little beside weights."""
    ids = torch.arange(4 * 16).reshape(4, 16)
    split = ({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.tensor([0, 1, 1, 0]))
    return mc.Suite({"cue": split, "rand_cue": split}, reference="cue")


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    asked = parser.parse_args()
    suite, models = make_suite(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_models(folder, asked.layers)
        base = mc.load_model(folder / "base")
        size = sum(parameter.nbytes for parameter in base.parameters())

        def load() -> None:
            models.update({name: mc.load_model(folder / name, base=base) for name in ("a", "b")})

        said(f"base: {size / 4e6:.0f} million parameters, torch {torch.__version__}, {torch.get_num_threads()} threads")
        said(f"both adapters loaded: {measure_peak(load) / size:.3f} copies of the base above the base")
    a, b = models["a"], models["b"]
    plain = [copy.deepcopy(model).merge_and_unload() for model in (a, b)]
    verbs: dict[str, Callable[[Any, Any], object]] = {
        "soup": lambda a, b: mc.soup([a, b]),
        "measure_invariance": lambda a, b: mc.measure_invariance(a, suite),
        "evaluate_path, 5 points": lambda a, b: mc.evaluate_path(a, mc.LinearPath.between(a, b), suite, 5),
        "audit, unaligned": lambda a, b: mc.audit(a, b, suite, alignment="none", ts=5),
    }
    for name, verb in verbs.items():
        peaks, seconds = [], list[float]()
        for pair in ((a, b), plain):
            peaks.append(measure_peak(lambda verb=verb, pair=pair: verb(*pair)) / size)
            started = time.perf_counter()
            verb(*pair)
            seconds.append(time.perf_counter() - started)
        said(
            f"{name}: {peaks[0]:.3f} copies above both adapters and their base, {peaks[1]:.3f} above two merged "
            f"networks; {seconds[0]:.2f} and {seconds[1]:.2f} s"
        )


if __name__ == "__main__":
    main()
