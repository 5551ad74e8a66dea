"""One split to measure on: of a configuration, or named by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_splits import resolve_source
from mechconn.cli._audit_text import list_text_options
from mechconn.cli._image_options import list_image_options
from mechconn.core import SampleSource, check_choice, read_config
from mechconn.datasets import find_splits, load_splits, read_tokenizer

DATA, TEST = "data", "test"
Interventions = Sequence[Any] | Mapping[str, Any] | None
"""Those that are named; None: all that suit the data."""


class MeasuredConfig(AuditConfig):
    """An audit's configuration of which one split is read, so that one is enough."""

    @field_validator("splits")
    @classmethod
    def _as_many(cls, splits: dict[str, str], info: Any) -> dict[str, str]:
        if not splits:
            raise ValueError("one split or more is needed, got none")
        return splits

    @property
    def measured(self) -> str:
        """The split that interventions start from: the reference, or the only one.

        Raises:
            ValueError: several, and the reference is none of them.
        """
        if len(self.splits) == 1:
            return next(iter(self.splits))
        return check_choice("reference", self.reference, list(self.splits))


@dataclass(frozen=True, eq=False)
class MeasuredData:
    """Rows to measure on, and the interventions that are named for them.

    Attributes:
        name: of the split.
        source: where it is, for people.
        data: the rows.
        interventions: what is named, side data read.
        config: what is said of them.
        decode: token ids -> text; None where they are no texts.
    """

    name: str
    source: str
    data: SampleSource
    interventions: Interventions
    config: MeasuredConfig
    decode: Callable[[Sequence[int]], str] | None


def load_measured(
    source: str,
    named: Sequence[Any] | None,
    configured: bool,
    *,
    root: Path | None = None,
    tokenizer: Path | None = None,
) -> MeasuredData:
    """One split, and interventions on it.

    Args:
        source: what `load_splits` reads, or a configuration in a .toml file.
        named: interventions; None: all that suit the data.
        configured: whether those of a configuration are meant, where it has some.
        root: the folder that holds the named sets.
        tokenizer: of texts.
    """
    file = Path(source)
    if file.suffix == ".toml":
        config, folder = read_config(file, MeasuredConfig), file.parent
    else:
        config, folder = MeasuredConfig(splits={DATA: _name_split(source, root)}), Path()
    name = config.measured
    place = resolve_source(folder, config.splits[name], config.images.download)
    options = {**list_image_options(config.images, folder), **_list_text_options(config, folder, tokenizer)}
    data = load_splits({name: place}, root=root, **options)[name]
    wanted: Interventions = (config.made_splits or None) if configured else named
    decode = None if options.get("tokenizer") is None else read_tokenizer(options["tokenizer"]).own.decode
    return MeasuredData(name, place, data, wanted, config, decode)


def _name_split(source: str, root: Path | None) -> str:
    """The source with its split: "test" where it has several and none is named."""
    if "#" in source or Path(source).suffix == ".safetensors":
        return source
    splits = find_splits(source, root)
    return f"{source}#{TEST}" if len(splits) > 1 and TEST in splits else source


def _list_text_options(config: MeasuredConfig, folder: Path, tokenizer: Path | None) -> dict[str, Any]:
    if config.text is None:
        return {} if tokenizer is None else {"tokenizer": tokenizer}
    if tokenizer is not None:
        config = config.model_copy(update={"text": config.text.model_copy(update={"tokenizer": str(tokenizer.absolute())})})
    return list_text_options(config, folder, (), None)
