"""Merged tiny Transformers, tensor by tensor beside what mergekit makes of the same folders.

A base and two networks fine-tuned from it, which are drawn: a Llama and a GPT-2 of some ten thousand parameters, saved
by Transformers in float32 and in bfloat16. mergekit runs as a command of its own (it is installed apart), and
mechconn's methods on the tensors of the folders. Methods without chance are held against it entry by entry: in float32;
in bfloat16 as mergekit computes by itself, in bfloat16; and in bfloat16 where mergekit is told to compute in float32
(dtype) and to round at the end (out_dtype), as mechconn always does. Trimmed entries that tie are left out, and
counted: mechconn keeps all that are as large as the smallest that is kept. DARE is held against it in its moments over
seeds: of the change c, with the whole change s = sum_i w_i tau_i, c s / s^2, the sum of (c - s)^2 over
sum_i w_i^2 tau_i^2 (1 - p) / p, the share of zeros, c^2 / s^2, and |c| / |s|.

    python benchmarks/merge_beside_mergekit.py --mergekit PATH/TO/mergekit-yaml [--keep FOLDER] [--json FILE]

What `--keep` holds of an earlier run is not made again. It prints a table, and ends with an error where a method
without chance is farther than rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import mechconn as mc
from mechconn.core import isolate_rng, make_generator
from mechconn.merging import TensorMerge

Tensors = dict[str, Tensor]
SEEDS = {"mergekit": 5, "mechconn": 40}
"""mergekit takes ten seconds for each."""
DENSITY = 0.4
ULPS = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8}


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- folders


def make_network(family: str) -> Any:
    """A tiny language model with weights of its usual start."""
    common: dict[str, Any] = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}
    if family == "llama":
        config: Any = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, tie_word_embeddings=False, **common,
        )  # fmt: skip
        return transformers.LlamaForCausalLM(config)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common)
    return transformers.GPT2LMHeadModel(config)


def make_folders(root: Path, family: str, kind: torch.dtype) -> dict[str, Path]:
    """A base and two networks near it, saved by Transformers."""
    with isolate_rng(0, "network", family):
        base = make_network(family)
    with torch.no_grad():
        for name, tensor in base.named_parameters():
            tensor.add_(torch.randn(tensor.shape, generator=make_generator(1, name)), alpha=0.02)
    start = {name: tensor.detach().clone() for name, tensor in base.named_parameters()}
    folders = {}
    for number, which in enumerate(("base", "a", "b")):
        with torch.no_grad():
            for name, tensor in base.named_parameters():
                change = torch.randn(tensor.shape, generator=make_generator(number, which, name))
                tensor.copy_(start[name] + (0.01 * number * change if number else 0.0))
                if which == "a" and name.endswith("h.0.ln_1.bias"):
                    tensor.zero_()
        folders[which] = root / f"{family}-{str(kind).removeprefix('torch.')}" / which
        base.to(kind).save_pretrained(folders[which])
        base.float()
    return folders


def read_folder(folder: Path) -> Tensors:
    """Every tensor of a folder's safetensors."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


# ---------------------------------------------------------------- both sides


def run_mergekit(command: str, config: Mapping[str, Any], out: Path, seed: int = 0) -> Tensors:
    """What mergekit makes of a configuration."""
    if (out / "merged" / "config.json").is_file():
        return read_folder(out / "merged")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "config.json"  # JSON is YAML
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [command, str(file), str(out / "merged"), "--quiet", "--random-seed", str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"mergekit failed on {file}:\n{done.stderr[-3000:]}")
    return read_folder(out / "merged")


def run_ours(method: TensorMerge, parents: Mapping[str, Tensors], base: Tensors, seed: int = 0) -> Tensors:
    """What a method makes of the same tensors."""

    def tensors() -> Iterator[tuple[str, Mapping[str, Tensor], Tensor | None]]:
        for name, tensor in base.items():
            yield name, {parent: state[name] for parent, state in parents.items()}, tensor

    ready = method.prepare(tensors)
    return {name: ready.merge_tensor(name, own, start, seed) for name, own, start in tensors()}


@dataclass(frozen=True)
class Case:
    """One method in both languages."""

    name: str
    ours: TensorMerge
    mergekit: str
    weights: tuple[float, float] | None = (1.0, 3.0)
    density: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    needs_base: bool = True

    def configure(self, folders: Mapping[str, Path], types: Mapping[str, str]) -> dict[str, Any]:
        """The configuration for mergekit."""
        models = []
        for number, which in enumerate("ab"):
            own: dict[str, Any] = {} if self.weights is None else {"weight": self.weights[number]}
            own |= {} if self.density is None else {"density": self.density}
            models.append({"model": str(folders[which]), **({"parameters": own} if own else {})})
        base = folders["base"] if self.needs_base else folders["a"] if self.mergekit == "slerp" else None
        return {
            "merge_method": self.mergekit,
            "models": models,
            **types,
            "parameters": dict(self.options),
            **({} if base is None else {"base_model": str(base)}),
        }


W = {"a": 1.0, "b": 3.0}
ELECTED: dict[str, Any] = {"weights": W, "signs": "elected", "tie": "positive"}
EXACT = (
    Case("Mean", mc.Mean(W), "linear", needs_base=False),
    Case("TaskArithmetic", mc.TaskArithmetic(scale=0.3, weights=W), "task_arithmetic", options=(("lambda", 0.3),)),
    Case("TIES", mc.TIES(density=DENSITY, scale=0.7, weights=W, trim="tensor", tie="positive"), "ties", density=DENSITY,
         options=(("lambda", 0.7),)),
    Case("TIES, sum", mc.TIES(density=DENSITY, trim="tensor", tie="positive", combine="sum"), "ties", (1.0, 1.0),
         DENSITY, (("normalize", False),)),
    Case("SLERP", mc.SLERP(0.3, zeros="right_angle"), "slerp", None, options=(("t", 0.3),), needs_base=False),
    Case("DARE, density 1", mc.DARE(density=1.0, weights=W), "dare_linear", density=1.0),
    Case("DARE, elected, density 1", mc.DARE(density=1.0, **ELECTED, combine="sum"), "dare_ties",
         density=1.0),
)  # fmt: skip
DRAWN = (
    Case("DARE, l1", mc.DARE(density=DENSITY, weights=W, rescale="l1"), "dare_linear", density=DENSITY),
    Case("DARE, no rescaling", mc.DARE(density=DENSITY, weights=W, rescale="none"), "dare_linear", density=DENSITY,
         options=(("rescale", False),)),
    Case("DARE, elected, l1", mc.DARE(density=DENSITY, **ELECTED, combine="sum", rescale="l1"),
         "dare_ties", density=DENSITY),
    Case("DARE, elected, mean", mc.DARE(density=DENSITY, **ELECTED, rescale="l1"), "dare_ties",
         density=DENSITY, options=(("normalize", True),)),
)  # fmt: skip


# ---------------------------------------------------------------- comparisons


def find_ties(tensor: Mapping[str, Tensor], base: Tensor, density: float) -> Tensor:
    """Entries as large as the smallest that is kept, of which mergekit keeps those that its sorting puts first."""
    tied = torch.zeros_like(base, dtype=torch.bool)
    for own in tensor.values():
        sizes = (own.float() - base.float()).abs()
        kept = max(1, int(density * sizes.numel()))
        least = sizes.flatten().sort(descending=True).values[kept - 1]
        if int((sizes >= least).sum()) > kept:
            tied |= sizes == least
    return tied


def measure_apart(
    ours: Tensors, theirs: Tensors, tied: Mapping[str, Tensor] | None = None
) -> tuple[float, float, float, float]:
    """How far two merges are apart: the largest difference, and it in units of the last place of its tensor's largest.

    Then the shares of entries that are unequal, and that are left out of all this as tied.
    """
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    far, ulps, unequal, left_out = 0.0, 0.0, 0, 0
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        gap = (tensor.double() - theirs[name].double()).abs()
        if tied is not None:
            left_out += int(tied[name].sum())
            gap = gap.masked_fill(tied[name], 0.0)
        far = max(far, float(gap.max()))
        unit = ULPS[tensor.dtype] * 2.0 ** math.floor(math.log2(max(float(tensor.abs().max()), 1e-30)))
        ulps = max(ulps, float(gap.max()) / unit)
        unequal += int((gap > 0).sum())
    entries = sum(tensor.numel() for tensor in ours.values())
    return far, ulps, unequal / entries, left_out / entries


def describe_moments(merged: Tensors, parents: Mapping[str, Tensors], base: Tensors) -> dict[str, float]:
    """Moments of the change: sums over entries, as ratios to what the undropped change has."""
    change = torch.cat([(merged[n].double() - t.double()).flatten() for n, t in base.items()])
    whole = torch.zeros_like(change)
    variance = torch.zeros_like(change)
    for parent, state in parents.items():
        own = torch.cat([(state[n].double() - t.double()).flatten() for n, t in base.items()])
        whole += W[parent] * own
        variance += W[parent] ** 2 * own.square() * (1 - DENSITY) / DENSITY
    residual = change - whole
    return {
        "mean": float(change @ whole / (whole @ whole)),
        "variance": float(residual.square().sum() / variance.sum()),
        "zeros": float((change == 0).double().mean()),
        "square": float(change @ change / (whole @ whole)),
        "absolute": float(change.abs().sum() / whole.abs().sum()),
    }


def collect_moments(found: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Each moment's mean over seeds, and the standard error of it."""
    collected = {}
    for key in found[0]:
        values = torch.tensor([one[key] for one in found], dtype=torch.float64)
        collected[key] = float(values.mean()), float(values.std() / len(found) ** 0.5)
    return collected


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    family: str
    number_type: str
    method: str
    largest: float
    ulps: float
    unequal: float
    tied: float


TYPES: dict[str, tuple[torch.dtype, dict[str, str]]] = {
    "float32": (torch.float32, {"dtype": "float32"}),
    "bfloat16": (torch.bfloat16, {"dtype": "bfloat16"}),
    "bf16, wide": (torch.bfloat16, {"dtype": "float32", "out_dtype": "bfloat16"}),
}
"""Name -> (number type of the folders, what mergekit is told)."""


def compare_exact(command: str, root: Path, family: str, types: str) -> list[Row]:
    """Methods without chance."""
    kind, told = TYPES[types]
    folders = make_folders(root, family, kind)
    states = {which: read_folder(folder) for which, folder in folders.items()}
    rows = []
    for case in EXACT:
        out = root / "out" / f"{family}-{types}-{case.name}".replace(" ", "_")
        theirs = run_mergekit(command, case.configure(folders, told), out)
        parents, base = {which: states[which] for which in "ab"}, states["base"]
        ours = run_ours(case.ours, parents, base)
        tied = None
        if case.density is not None and case.density < 1:
            tied = {n: find_ties({p: own[n] for p, own in parents.items()}, t, case.density) for n, t in base.items()}
        row = Row(family, types, case.name, *measure_apart(ours, theirs, tied))
        shown = f"{row.largest:9.2e} {row.ulps:7.2f} {row.unequal:8.4f} {row.tied:7.4f}"
        said(f"{family:6} {types:10} {row.method:26} {shown}")
        rows.append(row)
    return rows


def compare_drawn(command: str, root: Path, family: str) -> dict[str, Any]:
    """DARE, in its moments."""
    folders = make_folders(root, family, torch.float32)
    states = {which: read_folder(folder) for which, folder in folders.items()}
    parents = {which: states[which] for which in "ab"}
    found: dict[str, Any] = {}
    for case in DRAWN:
        both: dict[str, list[dict[str, float]]] = {"mergekit": [], "mechconn": []}
        for seed in range(1, SEEDS["mergekit"] + 1):
            out = root / "out" / f"{family}-drawn-{case.name}-{seed}".replace(" ", "_")
            theirs = run_mergekit(command, case.configure(folders, TYPES["float32"][1]), out, seed)
            both["mergekit"].append(describe_moments(theirs, parents, states["base"]))
        for seed in range(1, SEEDS["mechconn"] + 1):
            ours = run_ours(case.ours, parents, states["base"], seed)
            both["mechconn"].append(describe_moments(ours, parents, states["base"]))
        moments = {who: collect_moments(each) for who, each in both.items()}
        found[f"{family} {case.name}"] = moments
        for key in moments["mergekit"]:
            (m, em), (o, eo) = moments["mergekit"][key], moments["mechconn"][key]
            z = (m - o) / max(math.hypot(em, eo), 1e-12)
            said(
                f"{family:6} {case.name:22} {key:9} mergekit {m:.4f} ({em:.4f}) mechconn {o:.4f} ({eo:.4f}) z {z:5.1f}"
            )
    return found


def main() -> None:
    """Both families in both number types, and DARE."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--mergekit", required=True, help="the command mergekit-yaml of its own environment")
    asked.add_argument("--keep", type=Path, help="where folders are kept; default: gone afterwards")
    asked.add_argument("--json", type=Path)
    given = asked.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as gone:
        root = given.keep or Path(gone)
        said("family type       method                       largest    ulps  unequal    tied")
        rows = [r for f in ("llama", "gpt2") for k in TYPES for r in compare_exact(given.mergekit, root, f, k)]
        drawn = {**compare_drawn(given.mergekit, root, "llama"), **compare_drawn(given.mergekit, root, "gpt2")}
    if given.json:
        given.json.write_text(json.dumps({"exact": [asdict(row) for row in rows], "moments": drawn}, indent=1))
    far = [row for row in rows if row.number_type != "bfloat16" and row.ulps > 4]
    if far:
        sys.exit(f"farther than rounding: {', '.join(f'{row.family} {row.method}' for row in far)}")


if __name__ == "__main__":
    main()
