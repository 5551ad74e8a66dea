"""Batches of tokenised texts: padding that no row needs, and what a Transformers classifier can take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from mechconn.core._data_repr import find_below
from mechconn.core._typing import Inputs

TOKEN_IDS, TOKEN_MASK = "input_ids", "attention_mask"
POSITION_TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")
"""What Transformers calls an embedding of positions; a text that has more positions cannot be read."""


def pads_by_batch(data: Any) -> bool:
    """Whether data are texts whose batches need no more positions than their longest row, under cues and selections."""
    while type(data).__module__.startswith("mechconn.") and (below := find_below(data)) is not None:
        data = below
    return bool(getattr(data, "pads_by_batch", False))


def trim_padding(inputs: Inputs) -> Inputs:
    """A batch without the positions at the end at which no row has a token; as it is where it has no mask.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[1, 0, 0], [1, 1, 0]])
        >>> trim_padding({"input_ids": 7 * mask, "attention_mask": mask})["input_ids"]
        tensor([[7, 0],
                [7, 7]])
    """
    mask = inputs.get(TOKEN_MASK) if isinstance(inputs, Mapping) else None
    if not isinstance(inputs, Mapping) or not isinstance(mask, Tensor) or mask.dim() != 2:
        return inputs
    width = max(count_positions(mask), 1)
    shape = mask.shape
    return {
        name: part[:, :width] if isinstance(part, Tensor) and part.shape[:2] == shape else part
        for name, part in inputs.items()
    }


def count_positions(mask: Tensor) -> int:
    """The number of positions up to the last at which a row has a token."""
    used = mask.bool().any(0).nonzero()
    return int(used.max()) + 1 if len(used) else 0


@dataclass(frozen=True)
class TextLimits:
    """What a Transformers classifier can take of texts.

    Attributes:
        model: its class, for errors.
        words: rows of its embedding of words; None where it has none.
        positions: positions that its embedding of them has; None where it has none.
        reads_pad: whether its answer is read before the padding, which it knows by the id `pad`.
        pad: the id of its pad token; None where it has none.
        reads_last: whether its answer is read at the last position, whatever the mask says.
    """

    model: str
    words: int | None
    positions: int | None
    reads_pad: bool
    pad: int | None
    reads_last: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> TextLimits | None:
        """Of a model, or of one within it; None where it is none of Transformers'."""
        found = next((part for part in model.modules() if _is_transformers(part)), None)
        if found is None:
            return None
        config: Any = found.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return cls(
            type(found).__name__,
            _count_words(found),
            _count_model_positions(found),
            any(_reads_pad_token(type(part)) for part in model.modules()),
            getattr(text, "pad_token_id", None),
            any(getattr(part, "summary_type", None) == "last" for part in model.modules()),
        )

    def check(self, where: str, inputs: Inputs, rows: Sequence[int] | Tensor) -> None:
        """Raise ValueError unless the model can take a batch, whose rows have these numbers, and reads it by its mask.

        A model that looks for its pad token from the end stops before padding with this id alone.
        """
        ids = inputs.get(TOKEN_IDS) if isinstance(inputs, Mapping) else None
        if not isinstance(ids, Tensor) or ids.dim() != 2 or not ids.numel():
            return
        self._check_words(where, ids, rows)
        mask = inputs.get(TOKEN_MASK) if isinstance(inputs, Mapping) else None
        mask = mask.bool() if isinstance(mask, Tensor) and mask.shape == ids.shape else None
        self._check_positions(where, ids, mask, rows)
        if self.reads_pad:
            self._check_padding(where, ids, mask, rows)
        if self.reads_last and mask is not None and not bool(mask[:, -1].all()):
            row = int((~mask[:, -1]).nonzero()[0])
            raise ValueError(
                f"{where}: {self.model} reads its answer at the last position, and row {int(rows[row])} is padded "
                "there; pass a mapping of tokens that are padded on the left, or texts of one length"
            )

    def holds(self, inputs: Inputs) -> bool:
        """Whether there are positions enough for a batch with all of its padding."""
        ids = inputs.get(TOKEN_IDS) if isinstance(inputs, Mapping) else None
        return self.positions is None or not isinstance(ids, Tensor) or ids.shape[-1] <= self.positions

    def _check_words(self, where: str, ids: Tensor, rows: Sequence[int] | Tensor) -> None:
        if self.words is None or int(ids.max()) < self.words:
            return
        row = int((ids >= self.words).any(1).nonzero()[0])
        raise ValueError(
            f"{where}: row {int(rows[row])} holds token id {int(ids[row].max())}, but {self.model} has embeddings of "
            f"{self.words} tokens; use the tokenizer that the model was saved with"
        )

    def _check_positions(self, where: str, ids: Tensor, mask: Tensor | None, rows: Sequence[int] | Tensor) -> None:
        if self.positions is None or ids.shape[1] <= self.positions:
            return
        row = 0 if mask is None else int(mask.long().sum(1).argmax())
        raise ValueError(
            f"{where}: row {int(rows[row])} is given as {ids.shape[1]} tokens, but {self.model} has {self.positions} "
            f"positions; cut texts to them, max_length={self.positions}"
        )

    def _check_padding(self, where: str, ids: Tensor, mask: Tensor | None, rows: Sequence[int] | Tensor) -> None:
        padded = None if mask is None or bool(mask.all()) else ids[~mask][0]
        if self.pad is None:
            if len(ids) > 1 or padded is not None:
                chosen = "the id that pads the texts" if padded is None else int(padded)
                raise ValueError(
                    f"{where}: {self.model} reads its answer at the last token before the padding, and its config has "
                    f"no pad_token_id to know it by; set config.pad_token_id = {chosen} ("
                    '"pad_token_id" in config.json)'
                )
            return
        wrong = None if mask is None else (ids != self.pad) & ~mask & (mask.long().cumsum(1) > 0)
        if wrong is not None and bool(wrong.any()):
            row = int(wrong.any(1).nonzero()[0])
            got = int(ids[row][wrong[row]][0])
            raise ValueError(
                f"{where}: row {int(rows[row])} is padded with id {got}, but {self.model} reads its answer before "
                f"padding with id {self.pad} (config.pad_token_id); pad with that id, tokenizer.pad_token_id = "
                f"{self.pad}, or set config.pad_token_id = {got}"
            )


def _is_transformers(part: nn.Module) -> bool:
    return hasattr(part, "config") and callable(getattr(part, "get_input_embeddings", None))


def _count_words(model: Any) -> int | None:
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # of images
        return None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def _count_model_positions(model: nn.Module) -> int | None:
    """The least number of positions that one of its embeddings of them has; some begin behind the padding's id."""
    found = [
        part.num_embeddings - (getattr(part, "offset", 0) if part.padding_idx is None else part.padding_idx + 1)
        for name, part in model.named_modules()
        if isinstance(part, nn.Embedding) and name.rpartition(".")[2] in POSITION_TABLES
    ]
    return min(found, default=None)


@cache
def _reads_pad_token(kind: type[nn.Module]) -> bool:
    """Whether a classifier's forward pass looks for its pad token, as those of decoders do."""
    if not kind.__name__.endswith("ForSequenceClassification"):
        return False
    try:
        return "pad_token_id" in inspect.getsource(inspect.unwrap(kind.forward))
    except (OSError, TypeError):  # no source to read
        return False
