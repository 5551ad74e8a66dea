"""Tokenizers that Transformers or Tokenizers saved, read offline, and texts as token ids."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import log, require_extra
from mechconn.datasets._label_names import read_names

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "spm.model", "source.spm", "tekken.json",
)  # fmt: skip
"""Files of which a tokenizer's folder holds one; without them Transformers makes one that knows no word."""
OF_BYTES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers that have no vocabulary."""
UNLIMITED = 1_000_000
"""From this number of tokens on, a tokenizer's limit is none."""
READ = 1000
"""Texts that are tokenised at a time."""
SPECIAL_NAMES = ("bos", "eos", "sep", "pad", "cls", "mask")
"""Tokens of a format; an unknown word is not among them, unless it shares the id of one."""
INNER_MARK, WORD_MARKS = "##", ("\u0120", "\u2581")
"""What marks a token within a word (WordPiece), or at its beginning (byte-level BPE; SentencePiece)."""
PROBE = "A b-C, 12 Éa \u4e2d\u6587 isn't."
"""What two tokenizers must read alike: case, accents, punctuation, digits, other scripts."""


@dataclass(frozen=True, eq=False)
class TextTokenizer:
    """A tokenizer, its padding and the tokens that its model can take.

    Attributes:
        name: what errors call it.
        own: Transformers' tokenizer, our own copy.
        pad_id: the id of padding.
        limit: the longest text that its model can take, in tokens; None where that is not known.
        classes: the names of its model's outputs, in order; None where none are known.
    """

    name: str
    own: Any
    pad_id: int
    limit: int | None
    classes: tuple[str, ...] | None = None

    def encode(self, first: list[str], second: list[str] | None, max_length: int | None) -> EncodedTexts:
        """The token ids of texts, or of pairs, with the special tokens of a model's format.

        Raises:
            ValueError: `max_length` leaves no room beside the special tokens.
        """
        special = self.own.num_special_tokens_to_add(second is not None)
        if max_length is not None and max_length <= special:
            raise ValueError(
                f"max_length must leave room beside the {special} special tokens of a text, got {max_length}; pass more"
            )
        parts = [
            self._encode_part(first[start : start + READ], second and second[start : start + READ], max_length)
            for start in range(0, len(first), READ)
        ]
        typed = all(part.types is not None for part in parts)
        return EncodedTexts(
            [row for part in parts for row in part.ids],
            [row for part in parts for row in part.types or ()] if typed else None,
            [row for part in parts for row in part.cut],
        )

    @cached_property
    def special(self) -> tuple[int, ...]:
        """Ids of the tokens that belong to the format, such as [CLS] and [SEP]; an unknown word is none of them."""
        named = [getattr(self.own, f"{name}_token_id", None) for name in SPECIAL_NAMES]
        listed = set(getattr(self.own, "all_special_ids", ())) - {getattr(self.own, "unk_token_id", None)}
        ids = listed | {token for token in named if isinstance(token, int)}
        for pair in (None, [""]):
            with suppress(Exception):  # a tokenizer of one's own that takes no pairs, or marks nothing
                found = self.own([""], pair, return_special_tokens_mask=True, verbose=False)
                marked = zip(found["input_ids"][0], found["special_tokens_mask"][0], strict=True)
                ids |= {token for token, is_special in marked if is_special}
        return tuple(sorted(ids))

    @cached_property
    def continuing(self) -> frozenset[int]:
        """Ids of the tokens that continue a word: "##ing" where others have no mark, "ing" where they begin by one."""
        vocabulary = self.own.get_vocab()
        if any(token.startswith(INNER_MARK) for token in vocabulary):
            return frozenset(id for token, id in vocabulary.items() if token.startswith(INNER_MARK))
        if any(token.startswith(WORD_MARKS) and len(token) > 1 for token in vocabulary):
            return frozenset(
                id for token, id in vocabulary.items() if token[:1].isalnum() and token[0] not in WORD_MARKS
            )
        return frozenset()

    def encode_phrase(self, phrase: str, inside: bool = True) -> tuple[int, ...]:
        """The ids of a phrase without the tokens of the format: as it stands behind another word, or at the start.

        Raises:
            ValueError: the tokenizer does not know a word of it, or finds no token in it.
        """
        ids = self._encode_plain(phrase)
        if inside:
            before, both = self._encode_plain("a"), self._encode_plain(f"a {phrase}")
            ids = both[len(before) :] if both[: len(before)] == before and len(both) > len(before) else ids
        unknown = getattr(self.own, "unk_token_id", None)
        if not ids:
            raise ValueError(f"the tokenizer {self.name} finds no token in {phrase!r}; pass words that it knows")
        if unknown in ids and unknown not in self.special:
            words = [word for word in phrase.split() if unknown in self._encode_plain(word)]
            raise ValueError(
                f"the tokenizer {self.name} does not know the word {(words or [phrase])[0]!r}; pass words that it knows"
            )
        return tuple(ids)

    def _encode_plain(self, text: str) -> list[int]:
        return list(self.own(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, the tokens of the format among them."""
        return str(self.own.decode(list(ids)))

    def cut_texts(self, first: list[str], second: list[str] | None, max_length: int) -> list[list[str]]:
        """The strings of one or two columns as far as `max_length` tokens of each row show them.

        Tokenizers without offsets (those that are slow) leave them whole.
        """
        columns = [first] if second is None else [first, second]
        if not getattr(self.own, "is_fast", False):
            return columns
        options = {"truncation": True, "max_length": max_length, "return_offsets_mapping": True, "verbose": False}
        found = self.own(first, second, padding=False, **options)
        return [
            [_cut_text(text, number, found.sequence_ids(row), found["offset_mapping"][row]) for row, text in rows]
            for number, rows in enumerate(map(enumerate, columns))
        ]

    def _encode_part(self, first: list[str], second: list[str] | None, max_length: int | None) -> EncodedTexts:
        found = self._call(first, second)
        cut = [max_length is not None and len(ids) > max_length for ids in found["input_ids"]]
        rows = [row for row, longer in enumerate(cut) if longer]
        if rows:
            texts, pairs = ([part[row] for row in rows] if part else None for part in (first, second))
            shorter = self._call(texts, pairs, truncation=True, max_length=max_length)
            for name, values in shorter.items():
                for row, own in zip(rows, values, strict=True):
                    found[name][row] = own
        ids, types = (
            [torch.tensor(row, dtype=torch.int64) for row in found[name]] if name in found else None
            for name in ("input_ids", "token_type_ids")
        )
        assert ids is not None
        return EncodedTexts(ids, types, cut)

    def _call(self, first: Any, second: Any, **options: Any) -> dict[str, list[list[int]]]:
        options = {"truncation": False, **options}
        found = self.own(first, second, padding=False, verbose=False, return_attention_mask=False, **options)
        return {name: list(found[name]) for name in ("input_ids", "token_type_ids") if name in found}


def _cut_text(text: str, number: int, parts: list[int | None], offsets: list[tuple[int, int]]) -> str:
    """What is shown of the text that is part `number` of a row."""
    shown = [place for part, place in zip(parts, offsets, strict=True) if part == number]
    return text[min(start for start, _ in shown) : max(end for _, end in shown)] if shown else ""


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Token ids, row by row, of different lengths.

    Attributes:
        ids: int64, of each row.
        types: int64, of each row, where the tokenizer gives them.
        cut: whether each row was cut.
    """

    ids: list[Tensor]
    types: list[Tensor] | None
    cut: list[bool]


def read_tokenizer(tokenizer: Any) -> TextTokenizer:
    """A tokenizer from a folder, a tokenizer.json, a name that is in the local cache of the hub, or an object.

    No code of a folder runs and nothing is fetched.

    Raises:
        ValueError: a folder without a tokenizer, or one that cannot be read.
        TypeError: neither a place nor a tokenizer.
        ImportError: Transformers is not installed.
    """
    if isinstance(tokenizer, str | Path):
        return _read_saved(tokenizer)
    with require_extra("reading texts", "transformers"):
        import transformers
    if type(tokenizer).__module__.partition(".")[0] == "tokenizers":
        padding = getattr(tokenizer, "padding", None) or {}
        own = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        return _wrap(type(tokenizer).__name__, own, {"pad_token_id": padding.get("pad_id")})
    if not (callable(tokenizer) and hasattr(tokenizer, "num_special_tokens_to_add")):
        raise TypeError(
            f"tokenizer must be a folder, a tokenizer.json, or a tokenizer of Transformers or Tokenizers, got "
            f"{type(tokenizer).__name__}"
        )
    return _wrap(type(tokenizer).__name__, copy.deepcopy(tokenizer), {})


def find_tokenizer_folder(model: str | Path, base: str | Path | None = None) -> Path:
    """The folder that holds a model's tokenizer: its own, or, of an adapter without one, that of its base.

    Args:
        model: a folder that Transformers or PEFT saved.
        base: the folder of an adapter's base; None: what its adapter_config.json names.

    Raises:
        ValueError: neither holds a tokenizer; the model is one of sound.
    """
    folder = Path(model)
    refuse_sound(folder)
    if holds_tokenizer(folder):
        return folder
    config = _read_json(folder / "adapter_config.json")
    named = str(base) if config and base is not None else config.get("base_model_name_or_path")
    places: list[Path] = []
    if isinstance(named, str) and named:
        places = [Path(named), folder / named, folder.parent / named, folder.parent / Path(named).name]
    found = next((place for place in places if place.is_dir() and holds_tokenizer(place)), None)
    if found is None:
        raise ValueError(_explain_no_tokenizer(folder, named))
    return found


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary, or the settings of one that needs none."""
    if any((folder / name).is_file() for name in VOCABULARIES):
        return True
    return str(_read_json(folder / "tokenizer_config.json").get("tokenizer_class", "")).startswith(OF_BYTES)


def refuse_sound(folder: Path) -> None:
    """Raise ValueError where a folder holds a classifier of sound, which no reader here has inputs for."""
    prepared = _read_json(folder / "preprocessor_config.json")
    if "sampling_rate" in prepared and not (folder / "tokenizer_config.json").is_file():
        kinds = _read_json(folder / "config.json").get("architectures") or ["model"]
        raise ValueError(
            f"{folder} holds a {kinds[0]}, which takes sound ({prepared.get('feature_extractor_type', 'waveforms')}), "
            "and sound is not read; compute the inputs yourself and pass batches of {'input_values': ..., 'labels': "
            "...} in Python"
        )


def explain_different_tokenizers(a: TextTokenizer, b: TextTokenizer) -> str:
    """Why two tokenizers do not give the same ids; empty where they do."""
    own, other = a.own.get_vocab(), b.own.get_vocab()
    if own != other:
        differs = sorted(word for word in own.keys() | other.keys() if own.get(word) != other.get(word))
        why = f"{len(differs)} tokens have other ids, the first of them {differs[0]!r}"
    elif (special := _list_special(a)) != _list_special(b):
        why = f"special tokens are {special} and {_list_special(b)}"
    elif _encode_probe(a) != _encode_probe(b):
        why = "they divide texts into tokens in other ways"
    else:
        return ""
    return (
        f"the tokenizers in {a.name} and {b.name} differ ({why}), so that one row of ids would be two texts; name the "
        'one that suits both models under [text], tokenizer = "folder"'
    )


def _encode_probe(tokenizer: TextTokenizer) -> list[list[int]]:
    """The probe alone and as a pair."""
    found = [tokenizer.encode([PROBE], pair, None) for pair in (None, [PROBE])]
    return [row.tolist() for part in found for row in part.ids]


def _list_special(tokenizer: TextTokenizer) -> dict[str, Any]:
    return dict(sorted((name, str(token)) for name, token in tokenizer.own.special_tokens_map.items()))


def _read_saved(place: str | Path) -> TextTokenizer:
    with require_extra("reading texts", "transformers"):
        import transformers
    path = Path(place)
    if path.is_dir():
        path = find_tokenizer_folder(path)
    elif path.suffix == ".json" and not path.is_file():
        raise FileNotFoundError(f"tokenizer: no file {path}; check its path")
    try:
        if path.is_file():
            own: Any = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        else:
            own = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the readers of its files meet
        if not path.exists():
            raise ValueError(
                f"tokenizer: {place} is no folder or file that is there, and no tokenizer of this name is in the local "
                "cache of the hub; nothing is fetched: save it in a folder with tokenizer.save_pretrained"
            ) from error
        why = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]
        raise ValueError(
            f"the tokenizer {place} cannot be read ({why}); save it again with tokenizer.save_pretrained, or load "
            "it yourself and pass the object"
        ) from error
    if len(own.get_vocab()) <= len(own.all_special_tokens):  # Transformers makes one where its files are missing
        raise ValueError(_explain_no_tokenizer(path, None))
    return _wrap(str(place), own, _read_json(path / "config.json") if path.is_dir() else {})


def _wrap(name: str, own: Any, config: dict[str, Any]) -> TextTokenizer:
    """Our own tokenizer, with its own padding, else that of its model's config, else its token of the end, else 0."""
    positions = next((config[key] for key in ("max_position_embeddings", "n_positions") if key in config), None)
    limits = [
        n for n in (positions, getattr(own, "model_max_length", None)) if isinstance(n, int) and 0 < n < UNLIMITED
    ]
    known = getattr(own, "pad_token_id", None)
    ends = getattr(own, "eos_token_id", None)
    chosen = next((value for value in (known, config.get("pad_token_id"), ends) if isinstance(value, int)), 0)
    if known is None:
        log(f"the tokenizer {name} has no pad token; texts are padded with id {chosen}, which is masked")
    return TextTokenizer(name, own, chosen, min(limits, default=None), read_names(config))


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object in a file; empty where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _explain_no_tokenizer(folder: Path, base: Any) -> str:
    own = f"{folder} holds no tokenizer (none of {', '.join(VOCABULARIES[:4])})"
    below = f", nor does its base {base!r} as a folder that is there" if base else ""
    return (
        f"{own}{below}; save it there with tokenizer.save_pretrained, or name the folder of the one that was trained on"
    )
