"""One split to measure on: of a configuration, or named by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from mechconn.cli._audit_config import AuditConfig, NormConfig, read_name
from mechconn.cli._audit_interventions import fill_interventions, read_interventions
from mechconn.cli._audit_splits import AuditData, load_audit_data
from mechconn.cli._audit_text import list_text_options
from mechconn.core import SampleSource, check_choice, check_distinct, collect_errors, read_config, select_rows
from mechconn.datasets import ImageSet, Normalised, TokenSet, find_splits

CONFIGURATION = ".toml"
DATA, TEST = "data", "test"


class MeasuredConfig(AuditConfig):
    """An audit's configuration of which one split is read, so that one is enough."""

    @field_validator("splits")
    @classmethod
    def _as_many(cls, splits: dict[str, str], info: Any) -> dict[str, str]:
        if not splits:
            raise ValueError("one split or more is needed, got none")
        return splits

    def narrow(self, named: Mapping[str, Any]) -> MeasuredConfig:
        """The same with one split, the reference or the only one, and these interventions on it.

        Raises:
            ValueError: several splits, and the reference is none of them.
        """
        names = list(self.splits)
        name = names[0] if len(names) == 1 else check_choice("reference", self.reference, names)
        left_out = dict.fromkeys(("by", "majority", "relearn", "probe", "groups", "merge"))
        kept = {"splits": {name: self.splits[name]}, "reference": name, "interventions": dict(named)}
        return self.model_copy(update={**left_out, **kept, "norm": NormConfig()})


@dataclass(frozen=True, eq=False)
class MeasuredData:
    """Rows to measure on, and the interventions that are named for them.

    Attributes:
        name: of the split.
        source: where it is.
        data: the rows.
        read: these and the data beside them.
        interventions: those that are named, with side data; None: all that suit the data.
        clusters: the cluster of each row; None where none are named.
        config: what is said of all this.
    """

    name: str
    source: str
    data: SampleSource
    read: AuditData
    interventions: list[Any] | dict[str, Any] | None
    clusters: Sequence[Any] | None
    config: MeasuredConfig


def read_measured_config(source: str, root: Path | None) -> tuple[MeasuredConfig, Path]:
    """(a configuration, what its paths are relative to), of a .toml file or of data by themselves.

    Raises:
        ValueError, FileNotFoundError: it is not there, or wrong; a line for each mistake.
    """
    file = Path(source)
    if file.suffix == CONFIGURATION:
        return read_config(file, MeasuredConfig), file.parent
    return MeasuredConfig(splits={DATA: _name_split(source, root)}), Path()


def load_measured(
    config: MeasuredConfig,
    folder: Path,
    named: Sequence[Any] | None,
    text: Callable[[], Mapping[str, Any]],
    root: Path | None,
    seed: int,
    count: int | None = None,
) -> MeasuredData:
    """One split, and interventions on it.

    Args:
        config: what says where it is.
        folder: what paths are relative to.
        named: interventions in place of the configuration's, none for all that suit the data; None: its own.
        text: gives what `load_splits` is told of texts.
        root: the folder that holds the named sets.
        seed: of rows that are drawn.
        count: rows that are taken, evenly spaced; None: all.
    """
    entries = config.made_splits if named is None else _name_entries(named)
    config = config.narrow(entries)
    _, data = collect_errors(
        lambda: read_interventions(entries), lambda: load_audit_data(config, folder, root, seed, text)
    )
    (name,) = config.splits
    rows = data.read[name]
    index = None if count is None or count >= len(rows) else torch.arange(count) * len(rows) // count
    filled = fill_interventions(config, entries, data, folder, index)
    clusters: Sequence[Any] | None = None if config.cluster is None else data.columns[name, config.cluster]
    if index is not None:
        rows, clusters = _take_rows(rows, index), clusters and [clusters[row] for row in index.tolist()]
    alone = len({str(read_name(value)) for value in filled.values()}) == len(filled)  # called by their names then
    wanted = list(filled.values()) if named and alone else filled or None
    return MeasuredData(name, data.sources[name], rows, data, wanted, clusters, config)


def _take_rows(data: Any, index: Tensor) -> Any:
    """Some rows, normalised as before."""
    if isinstance(data, Normalised):
        return replace(data, scenes=_take_rows(data.scenes, index))
    return data.subset(index) if isinstance(data, ImageSet | TokenSet) else select_rows(data, index)


def list_texts_told(
    config: MeasuredConfig, folder: Path, weights: Sequence[Path], base: Path | None, tokenizer: Path | None
) -> dict[str, Any]:
    """What `load_splits` is told of texts: by the configuration, and of the tokenizer that is named here.

    Raises:
        ValueError: as `list_text_options`.
    """
    if config.text is None:
        return {} if tokenizer is None else {"tokenizer": tokenizer}
    if tokenizer is None and config.text.tokenizer is None and not weights:
        raise ValueError("texts need a tokenizer; pass --tokenizer, the folder of a model that reads them")
    if tokenizer is not None:
        text = config.text.model_copy(update={"tokenizer": str(tokenizer.absolute())})
        config = config.model_copy(update={"text": text})
    return list_text_options(config, folder, weights, base)


def _name_entries(named: Sequence[Any]) -> dict[str, Any]:
    """Interventions of a list by what they are called, with their options where others are called alike.

    Raises:
        ValueError: two are the same.
    """
    names = [str(read_name(value)) for value in named]
    told = [
        f"{name} {_describe_options(value)}".strip() if names.count(name) > 1 else name
        for name, value in zip(names, named, strict=True)
    ]
    check_distinct(told)
    return dict(zip(told, named, strict=True))


def _describe_options(value: Any) -> str:
    options = value if isinstance(value, Mapping) else {}
    return ", ".join(f"{option}={own}" for option, own in options.items() if option != "name")


def _name_split(source: str, root: Path | None) -> str:
    """The source with its split: "test" where it has several and none is named."""
    if "#" in source or Path(source).suffix == ".safetensors":
        return source
    splits = find_splits(source, root)
    return f"{source}#{TEST}" if len(splits) > 1 and TEST in splits else source
