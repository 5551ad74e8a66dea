"""The models of an audit, from files, folders and adapters on one base."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.models import (
    check_weights_there,
    find_base_source,
    hash_weight_files,
    is_adapter_folder,
    list_adapter_files,
    list_weight_files,
    load_base,
    load_model,
)


@dataclass(frozen=True)
class ModelLoader:
    """How models are loaded; the base of several adapters is loaded once.

    Attributes:
        factory: "package.module:function"; None where folders hold the networks.
        arguments: of the factory.
        base: of adapters: a folder, or weights for the factory; None where the adapters name their base.
        key: which state of a file is read, where it holds several.
        seed: of the weights before a file fills them.
        note: called with each remark on a file, as one line.
        bases: those that were loaded, by where they are.
    """

    factory: str | None
    arguments: dict[str, Any]
    base: Path | None
    key: str | None
    seed: int
    note: Callable[[str], object]
    bases: dict[tuple[str, int | None], nn.Module] = field(default_factory=dict)

    def load(self, file: Path) -> nn.Module:
        """A network with its weights.

        Raises:
            ValueError, FileNotFoundError: as `load_model` raises; weights without a network.
        """
        check_weights_there(file)
        if self.factory is None and not file.is_dir():
            raise ValueError(
                f"{file} holds weights without a network; pass --model package.module:function, or the folder of a "
                "saved Hugging Face classifier"
            )
        if self.factory is None and self.key is not None:
            raise ValueError(
                f"key {self.key!r} names a state in files of weights, and {file} is the folder of a model; leave it "
                "out, or pass --model package.module:function"
            )
        if is_adapter_folder(file):
            return load_model(file, base=self._load_base(file), note=self.note)
        return load_model(file, note=self.note) if self.factory is None else self._fill(file)

    def check_base(self, files: Iterable[Path]) -> None:
        """Raise ValueError where a base is named and none of the files is an adapter."""
        if self.base is not None and not any(map(is_adapter_folder, files)):
            raise ValueError(
                f"--base {self.base} is for adapters (adapter_config.json), and none is given; leave it out"
            )

    def hash_weights(self, file: Path) -> str:
        """SHA-256 of the SHA-256 of each file of weights, in the order of their names.

        Of an adapter its configuration, which scales it, and its base's files too.
        """
        if is_adapter_folder(file):
            source, files = self._find_base(file)[0], list_adapter_files(file)
            files += [] if source is None else list_weight_files(source)
        else:
            files = list_weight_files(file)
        return hash_weight_files(files)

    def _fill(self, file: Path | None) -> nn.Module:
        """What the factory builds, with the weights of a file where one is given."""
        assert self.factory is not None
        key = None if file is None else self.key
        return load_model(self.factory, file, arguments=self.arguments, key=key, seed=self.seed, note=self.note)

    def _find_base(self, adapter: Path) -> tuple[Path | None, int | None]:
        """(where the base is, outputs of the head that the adapter brings); of a factory the weights, if any."""
        return (self.base, None) if self.factory is not None else find_base_source(adapter, self.base, self.note)

    def _load_base(self, adapter: Path) -> nn.Module:
        """The network under an adapter, which other adapters on it share."""
        source, outputs = self._find_base(adapter)
        key = str(source), outputs
        if key not in self.bases:
            if self.factory is not None:
                if source is None:
                    self.note(f"the base of the adapters is what {self.factory} returns; pass --base for other weights")
                self.bases[key] = self._fill(source)
            else:
                assert source is not None
                self.bases[key] = load_base(source, outputs, self.note)
        return self.bases[key]
