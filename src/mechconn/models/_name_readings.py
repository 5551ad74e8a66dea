"""How the names in a file may be read as the names of a model: by states, and by prefixes that wrappers leave."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from torch import Tensor

from mechconn.core import list_first
from mechconn.models._saved_states import MODULE, Checkpoint, SavedState

INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpoints put before the names of whatever they wrap, at any depth."""
WRAPPERS = ("module.", "model.")
"""What a model may have before all of its own names, where a function gives it wrapped."""
WEIGHT_NORM = re.compile(r"(^|\.)parametrizations\.(\w+)\.original([01])$")
"""Names of torch.nn.utils.parametrizations.weight_norm; those of the older weight_norm end in _g and _v."""
TRIED = 64
"""How many prefixes are tried, those first that leave the most names of the model."""
UNUSED = "num_batches_tracked"
"""Counters that older versions did not save, and that no forward pass uses."""


@dataclass(frozen=True)
class ShortNames:
    """Names after parts were taken out at any depth: the shorter name -> the whole one, and all that was removed."""

    whole: Mapping[str, str]
    removed: tuple[str, ...]
    parts: tuple[str, ...] = INSIDE

    def shorten(self, name: str) -> str:
        """Another name, shortened in the same way."""
        return _shorten_name(name, self.parts)


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a state as the model's: what a prefix of its names leaves."""

    state: SavedState
    prefix: str
    mine: ShortNames
    theirs: ShortNames
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    counters: int

    @property
    def label(self) -> str:
        """What `key` names it by."""
        return ".".join(part for part in (self.state.key, self.prefix.removesuffix(".")) if part)

    @property
    def distance(self) -> int:
        """How many names differ."""
        return len(self.missing) + len(self.unexpected)

    @property
    def source(self) -> dict[str, str]:
        """The model's name -> the file's name, of all that both have."""
        short = {name: self.theirs.whole.get(self.prefix + name) for name in self.mine.whole}
        return {self.mine.whole[name]: theirs for name, theirs in short.items() if theirs is not None}

    @property
    def outside(self) -> list[str]:
        """The names in the file that the model does not take."""
        taken = set(self.source.values())
        return [name for name in self.theirs.whole.values() if name not in taken]

    @property
    def wrapper(self) -> str:
        """What was taken off all of the model's names."""
        return "".join(part for part in self.mine.removed if part in WRAPPERS)

    @property
    def removed(self) -> list[str]:
        """What was taken off the names in the file."""
        return [*self.theirs.removed, *(f"{part}." for part in self.prefix.split(".") if part)]


def choose_reading(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], ties: Sequence[tuple[str, ...]], key: str | None
) -> Reading:
    """The reading that fits the names of the model; the nearest one where none does.

    Raises:
        ValueError: the file holds no state, none of that key, or several that fit.
    """
    if not checkpoint.states:
        raise ValueError(_explain_no_state(checkpoint))
    best, whole = None, list[Reading]()
    for mine in _iterate_unwrapped(own):
        all_readings = _list_readings(checkpoint.states, mine, ties)
        whole += [reading for reading in all_readings if not reading.missing]
        readings = _choose_by_key(all_readings, key)
        fitting = [reading for reading in readings if not reading.distance]
        if fitting and key is None:  # one that holds the whole model and more may be meant as well
            fitting = [reading for reading in readings if not reading.missing]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ValueError(_explain_several(checkpoint.file, _list_labels(fitting)))
        for reading in readings:
            best = reading if best is None or reading.distance < best.distance else best
    if best is None:
        raise ValueError(_explain_no_key(checkpoint, str(key), list(dict.fromkeys(_list_labels(whole)))))
    return best


def _iterate_unwrapped(own: Mapping[str, Tensor]) -> Iterator[ShortNames]:
    """The model's names, then with ever more of the prefixes that wrappers leave taken off."""
    short = _shorten(own)
    yield short
    whole, removed = short.whole, short.removed
    while prefix := next((p for p in WRAPPERS if whole and all(name.startswith(p) for name in whole)), None):
        whole, removed = {name.removeprefix(prefix): full for name, full in whole.items()}, (*removed, prefix)
        yield ShortNames(whole, removed)


def _shorten(names: Collection[str], parts: tuple[str, ...] = INSIDE) -> ShortNames:
    """Names without what stands within them, and with the older names of weight normalisation."""
    whole = {_shorten_name(name, parts): name for name in names}
    if len(whole) < len(names):
        return ShortNames({name: name for name in names}, (), ())
    return ShortNames(whole, tuple(part for part in parts if any(part in name for name in names)), parts)


def _shorten_name(name: str, parts: tuple[str, ...]) -> str:
    for part in parts:
        name = re.sub(rf"(^|\.){re.escape(part)}", r"\1", name)
    return WEIGHT_NORM.sub(lambda found: f"{found[1]}{found[2]}_{'gv'[int(found[3])]}", name)


def _list_readings(states: Sequence[SavedState], mine: ShortNames, ties: Sequence[tuple[str, ...]]) -> list[Reading]:
    groups = [{short for short, whole in mine.whole.items() if whole in group} for group in ties]
    return [reading for state in states for reading in _read_state(state, mine, groups)]


def _read_state(state: SavedState, mine: ShortNames, groups: list[set[str]]) -> list[Reading]:
    """The readings of a state; where none fits, also those of networks that are parallel in parts ("a.module.b")."""
    readings = _read_prefixes(state, _shorten(state.tensors), mine, groups)
    if all(reading.distance for reading in readings) and any(".module." in name for name in state.tensors):
        readings += _read_prefixes(state, _shorten(state.tensors, (*INSIDE, "module.")), mine, groups)
    return readings


def _read_prefixes(state: SavedState, theirs: ShortNames, mine: ShortNames, groups: list[set[str]]) -> list[Reading]:
    """A reading for each prefix that leaves many names of the model, and for none."""
    hits = Counter(name[:at] for name in theirs.whole for at in _list_starts(name) if name[at:] in mine.whole)
    prefixes = dict.fromkeys(("", *(prefix for prefix, _ in hits.most_common(TRIED))))
    missing = {prefix: [sorted(group) for group in groups if not _has(theirs, prefix, group)] for prefix in prefixes}
    whole = [prefix for prefix in prefixes if all(map(_are_counters, missing[prefix]))]
    readings = []
    for prefix in prefixes:
        # Names under a longer prefix that fits by itself are another reading, not names in excess.
        nested = tuple(longer for longer in whole if longer != prefix and longer.startswith(prefix))
        absent = [name for names in missing[prefix] if not _are_counters(names) for name in names]
        inside = [name for name in theirs.whole if name.startswith(prefix) and not name.startswith(nested)]
        unexpected = [name[len(prefix) :] for name in inside if name[len(prefix) :] not in mine.whole]
        counters = sum(map(_are_counters, missing[prefix]))
        readings.append(Reading(state, prefix, mine, theirs, tuple(absent), tuple(unexpected), counters))
    return readings


def _list_starts(name: str) -> list[int]:
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]


def list_common_prefixes(names: Collection[str]) -> list[str]:
    """What all names begin with, up to each of its dots, and nothing."""
    first, last = min(names).split("."), max(names).split(".")
    common = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return ["".join(f"{part}." for part in common[:count]) for count in range(len(common) + 1)]


def _has(theirs: ShortNames, prefix: str, group: set[str]) -> bool:
    return any(prefix + name in theirs.whole for name in group)


def _are_counters(names: list[str]) -> bool:
    return all(name.endswith(UNUSED) for name in names)


def _choose_by_key(readings: list[Reading], key: str | None) -> list[Reading]:
    """The readings that a key names: by the keys that lead to a state, by a prefix, or by both."""
    if key is None:
        return readings
    key = key.removesuffix(".")
    for named in (
        [reading for reading in readings if reading.label == key and not reading.distance],
        [reading for reading in readings if reading.state.key == key],
        [reading for reading in readings if reading.label == key],
        [reading for reading in readings if reading.prefix.removesuffix(".") == key],
    ):
        if named:
            return named
    return []


def _list_labels(readings: Sequence[Reading]) -> list[str]:
    """What `key` names each reading by: the keys of its state where it is the only one of that state."""
    counts = Counter(reading.state.key for reading in readings)
    return [r.state.key if r.state.key and counts[r.state.key] == 1 else r.label for r in readings]


def _explain_no_key(checkpoint: Checkpoint, key: str, fitting: list[str]) -> str:
    keys = [label for label in fitting or [state.key for state in checkpoint.states] if label]
    there = f"it holds {list_first([*map(repr, keys)])}" if keys else "it holds one state, without a key; leave out key"
    return f"{checkpoint.file} holds no state under {key!r}; {there}"


def _explain_several(file: Path, labels: list[str]) -> str:
    first = next(label for label in labels if label)
    return (
        f"{file} holds {len(labels)} states that fit the model, {list_first([*map(repr, labels)])}; name the "
        f"one to take: key={first!r} (--key {first})"
    )


def _explain_no_state(checkpoint: Checkpoint) -> str:
    what = f"{checkpoint.file} holds no state_dict, tensors by name (found: {checkpoint.found})"
    if any(MODULE in text for text in checkpoint.left_out.values()):
        return (
            f"{what}; a pickled module needs its own code to be read, which is not run; load it where it was made and "
            "save model.state_dict()"
        )
    return f"{what}; save model.state_dict()"
