"""The models of an audit, from files, folders and adapters on one base."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.models import find_base_source, is_adapter_folder, load_base, load_model


@dataclass(frozen=True)
class ModelLoader:
    """How models are loaded; the base of several adapters is loaded once.

    Attributes:
        factory: "package.module:function"; None where folders hold the networks.
        arguments: of the factory.
        base: of adapters: a folder, or weights for the factory; None where the adapters name their base.
        seed: of the weights before a file fills them.
        bases: those that were loaded, by where they are.
    """

    factory: str | None
    arguments: dict[str, Any]
    base: Path | None
    seed: int
    bases: dict[tuple[str, int | None], nn.Module] = field(default_factory=dict)

    def load(self, file: Path) -> nn.Module:
        """A network with its weights.

        Raises:
            ValueError, FileNotFoundError: as `load_model` raises; weights without a network.
        """
        if is_adapter_folder(file):
            return load_model(file, base=self._load_base(file))
        if self.factory is not None:
            return load_model(self.factory, file, arguments=self.arguments, seed=self.seed)
        if not file.is_dir():
            raise ValueError(
                f"{file} holds weights without a network; pass --model package.module:function, or the folder of a "
                "saved Hugging Face classifier"
            )
        return load_model(file)

    def _load_base(self, adapter: Path) -> nn.Module:
        """The network under an adapter, which other adapters on it share."""
        if self.factory is not None:
            source, outputs = self.base, None
        else:
            source, outputs = find_base_source(adapter, self.base)
        key = str(source), outputs
        if key not in self.bases:
            if self.factory is not None:
                found = load_model(self.factory, source, arguments=self.arguments, seed=self.seed)
            else:
                assert source is not None
                found = load_base(source, outputs)
            self.bases[key] = found
        return self.bases[key]
