"""Several low-rank adapters of one base as one: their factors side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.core import check_is, check_two_models, write_folder
from mechconn.merging._adapter_factors import Adapter, join_adapters, read_adapter, to_files
from mechconn.merging._changes import share_weights
from mechconn.merging._mean import Mean
from mechconn.merging._merge_method import MergeMethod
from mechconn.merging._task_arithmetic import TaskArithmetic
from mechconn.network import has_adapters


@dataclass(frozen=True)
class ConcatenatedAdapter:
    """What `concatenate_adapters` wrote.

    Attributes:
        folder: where it is, as PEFT saves adapters.
        ranks: layer -> the rank of the merged update, the sum of those of the adapters.
        parent_ranks: adapter -> its largest rank.
        notes: sentences for the reader.
    """

    folder: Path
    ranks: Mapping[str, int]
    parent_ranks: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The largest rank of a layer."""
        return max(self.ranks.values())

    def __str__(self) -> str:
        parts = " + ".join(f"{rank} ({name})" for name, rank in self.parent_ranks.items())
        return "\n".join([f"{self.folder}: an adapter of rank {self.rank} = {parts}", *self.notes])


def concatenate_adapters(
    adapters: Mapping[str, str | Path | nn.Module], method: MergeMethod, out: str | Path
) -> ConcatenatedAdapter:
    r"""Merge LoRA adapters of one base into one adapter, exactly, and write it as a folder that PEFT loads.

        sum_i w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]

    with the scales s_i = alpha_i / r_i (alpha_i / sqrt(r_i) of rsLoRA). So the merged network is the mean of the
    networks with their adapters merged in, but for rounding; its rank is the sum of theirs. The weights are those of
    the method: w_i / sum_j w_j of `Mean`, scale * w_i of `TaskArithmetic`, the base being that of the adapters. What
    adapters hold whole beside their factors, such as a head or biases, is averaged.

    Args:
        adapters: name -> a folder that PEFT saved, or a network of PEFT's with one adapter; they stay as they are.
        method: `Mean` or `TaskArithmetic`: others treat entries one by one, and what they give has no low rank.
        out: the folder to write; it must not exist.

    Raises:
        ValueError: fewer than two adapters, other methods, names in weights that are not theirs; an adapter is no plain
            LoRA, or they do not fit one base; something is held whole that has no mean here.
        FileExistsError: there is something at `out`.
        FileNotFoundError: a folder holds no adapter.
        TypeError: an adapter is neither a folder nor a network of PEFT's.

    Source: the identity is that of block matrices; Hu et al. 2022, *LoRA*, for the form of the updates.
    """
    check_two_models("a merge", len(adapters))
    weights, mean = _find_weights(method, list(adapters))
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already; name a folder that is not")
    read: list[Adapter] = []
    for name, given in adapters.items():
        with _as_folder(name, given) as folder:
            read.append(read_adapter(name, folder))
    joined = join_adapters(read, weights, mean)
    write_folder(out, to_files(joined), out.with_name(f".{out.name}.draft"))
    used = {one.name: max(one.ranks.values()) for one in read if weights[one.name]}
    return ConcatenatedAdapter(out, joined.ranks, used, tuple(joined.notes))


def _find_weights(method: MergeMethod, names: Sequence[str]) -> tuple[dict[str, float], bool]:
    """(adapter -> what its update is multiplied by, whether the weights sum to one by definition)."""
    check_is("method", method, MergeMethod, "; pass Mean() or TaskArithmetic(scale=...)")
    if isinstance(method, Mean):
        weights = share_weights(method.weights, names)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}, True
    if isinstance(method, TaskArithmetic):
        weights = share_weights(method.weights, names)
        return {name: method.scale * weight for name, weight in weights.items()}, False
    raise ValueError(
        f"{type(method).__name__} treats entries of updates one by one, and what it gives has no low rank; pass Mean() "
        "or TaskArithmetic(), or merge each adapter into its base, model.merge_and_unload(), and merge the networks"
    )


@contextmanager
def _as_folder(name: str, given: Any) -> Iterator[Path]:
    """Context manager: the folder of an adapter; of a network one that is gone afterwards."""
    if isinstance(given, str | Path):
        yield Path(given)
        return
    if not isinstance(given, nn.Module) or not has_adapters(given) or not hasattr(given, "peft_config"):
        raise TypeError(
            f"adapter {name!r} must be a folder that PEFT saved, or a network of peft.get_peft_model, got "
            f"{type(given).__name__}"
        )
    model: Any = given
    active = [model.active_adapter] if isinstance(model.active_adapter, str) else list(model.active_adapter)
    if len(active) != 1:
        raise ValueError(f"adapter {name!r} is a network with {len(active)} active adapters; activate one of them")
    with tempfile.TemporaryDirectory() as draft:
        model.save_pretrained(draft, selected_adapters=active, save_embedding_layers=False)
        yield Path(draft) if active == ["default"] else Path(draft) / active[0]
