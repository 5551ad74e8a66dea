"""How a merged folder was made: what mergekit, or this library, wrote beside the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechconn.core import require_extra

MERGE_RECORD = "mechconn_merge.json"
MERGEKIT_RECORD = "mergekit_config.yml"
WITHOUT_BASE = ("linear", "karcher", "slerp", "nearswap", "arcee_fusion", "passthrough")
"""mergekit's methods that subtract no base: a base_model is one of the networks that they merge."""


@dataclass(frozen=True)
class MergeOrigin:
    """How a folder was merged.

    Attributes:
        file: what says so.
        tool: "mergekit" or "mechconn".
        method: its name under "method", and its settings.
        parents: name -> where it is.
        base: what the parents were fine-tuned from; None where the method has none.
        hashes: name -> SHA-256 of a parent's weights when they were merged; of mergekit's folders none are known.
    """

    file: Path
    tool: str
    method: Mapping[str, Any]
    parents: Mapping[str, Path]
    base: Path | None
    hashes: Mapping[str, str] = field(default_factory=dict)


def is_merged_folder(folder: Path) -> bool:
    """Whether the folder says of what it was merged."""
    return any((folder / name).is_file() for name in (MERGE_RECORD, MERGEKIT_RECORD))


def read_merge_origin(folder: Path) -> MergeOrigin:
    """How a folder was merged; its parents are looked for from here, from the folder, and beside it.

    Raises:
        ValueError: the folder does not say, the file cannot be read, or parents are not on this machine.
        ImportError: PyYAML, which reads mergekit's file, is not installed.
    """
    if (folder / MERGE_RECORD).is_file():
        return _read_own(folder / MERGE_RECORD)
    if (folder / MERGEKIT_RECORD).is_file():
        return _read_mergekit(folder / MERGEKIT_RECORD)
    raise ValueError(
        f"{folder} does not say what it was merged of: there is no {MERGE_RECORD} and no {MERGEKIT_RECORD}"
    )


def _read_own(file: Path) -> MergeOrigin:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        named = {str(name): str(own["path"]) for name, own in record["parents"].items()}
        hashes = {str(name): str(own["sha256"]) for name, own in record["parents"].items()}
        method, base = dict(record["method"]), record["base"]
        base = None if base is None else str(base["path"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read as the record of a merge ({error}); merge again") from error
    parents, base = _find_parents(file, named, base)
    return MergeOrigin(file, "mechconn", method, parents, base, hashes)


def _read_mergekit(file: Path) -> MergeOrigin:
    with require_extra(f"{file}, which mergekit wrote,", "transformers"):
        import yaml
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{file} is no YAML ({why}); copy it again") from error
    if not isinstance(config, dict) or "merge_method" not in config:
        raise ValueError(f"{file} is no configuration of mergekit: expected a table with merge_method; copy it again")
    used = list(_list_entries(config))
    others, own = _part_base(file, config, used)
    names = _name_parents(others)
    weights = {_read_reference(file, entry["model"]): (entry.get("parameters") or {}).get("weight") for entry in used}
    method = {
        "method": str(config["merge_method"]),
        "parameters": config.get("parameters"),
        "weights": {names[place]: weights.get(place) for place in others},
        "dtype": config.get("dtype"),
        "parts": "slices" if "slices" in config or "modules" in config else None,
    }
    parents, found = _find_parents(file, {names[place]: place for place in others}, own)
    return MergeOrigin(file, "mergekit", {k: v for k, v in method.items() if v is not None}, parents, found)


def _part_base(file: Path, config: Mapping[str, Any], used: list[Mapping[str, Any]]) -> tuple[list[str], str | None]:
    """(places of the networks that were merged, that of the base whose difference to each was taken, or None)."""
    base = config.get("base_model")
    own = None if base is None else _read_reference(file, base)
    places = list(dict.fromkeys([_read_reference(file, entry["model"]) for entry in used]))
    others = [place for place in places if place != own]
    if own is not None and config["merge_method"] in WITHOUT_BASE:  # mergekit adds it to models that lack it
        parts = (config, *(config.get("modules") or {}).values())
        whole = own in places or (len(others) > 1 and not any("models" in part for part in parts))
        return (places if whole else [own, *others]), None
    if len(others) < 2:  # of one changed network the base is the other
        return list(dict.fromkeys([own, *others] if own else others)), None
    return others, own


def _list_entries(part: Any) -> Iterator[Mapping[str, Any]]:
    """The entries of models in a part of a configuration, in slices and modules of it too."""
    if isinstance(part, Mapping):
        if "model" in part:
            yield part
        for key in ("models", "slices", "sources", "modules"):
            inner = part.get(key)
            for entry in inner.values() if isinstance(inner, Mapping) else inner or ():
                yield from _list_entries(entry)


def _read_reference(file: Path, reference: Any) -> str:
    """The path, or the name on the hub, of a model in a configuration.

    Raises:
        ValueError: it is a network with an adapter, which is no folder of one network.
    """
    adapter = None
    if isinstance(reference, Mapping):
        adapter, reference = reference.get("lora"), reference.get("model")
        reference = reference.get("path") if isinstance(reference, Mapping) else reference
    name = str(reference)
    if not Path(name).exists():
        name, plus, own = name.partition("+")
        name, adapter = name.partition("@")[0], own if plus else adapter
    if adapter is not None:
        raise ValueError(
            f"{file} merged {name} with an adapter ({adapter}) on it; merge the adapter into it, and pass the folders "
            f"of all parents: mechconn merge A B --judge {file.parent} --data audit.toml"
        )
    return name


def _name_parents(places: list[str]) -> dict[str, str]:
    """Place -> the last part of it, or all of it where several have that."""
    short = [Path(place).name for place in places]
    return {place: own if short.count(own) == 1 else place for place, own in zip(places, short, strict=True)}


def _find_parents(file: Path, named: Mapping[str, str], base: str | None) -> tuple[dict[str, Path], Path | None]:
    """Where parents and base are.

    Raises:
        ValueError: some are not on this machine; all of them are named.
    """
    wanted = dict(named) | ({} if base is None else {"": base})
    found = {name: _find_place(file.parent, place) for name, place in wanted.items()}
    if missing := [wanted[name] for name, place in found.items() if place is None]:
        raise ValueError(
            f"{file} names {', '.join(map(repr, missing))}, and there is no such file or folder here, in "
            f"{file.parent} or beside it; pass the folders of all parents: mechconn merge A B --judge {file.parent} "
            "--data audit.toml"
        )
    own = {name: place for name, place in found.items() if place is not None}
    return own, own.pop("", None)


def _find_place(folder: Path, named: str) -> Path | None:
    """From the merged folder, from here, beside the folder, or under its last name beside it."""
    places = [folder.resolve() / named, Path(named), folder.parent / named, folder.parent / Path(named).name]
    found = next((place for place in places if place.exists() and place.resolve() != folder.resolve()), None)
    return None if found is None else _shorten(found)


def _shorten(place: Path) -> Path:
    """The path without steps up, from here where it lies here."""
    plain = Path(os.path.normpath(place.absolute()))
    if not (plain.exists() and plain.samefile(place)):  # a link lies on the way
        return place
    return plain.relative_to(Path.cwd()) if plain.is_relative_to(Path.cwd()) else plain
