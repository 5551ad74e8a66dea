"""From what a user gives, a recipe's name or a file, `a.b=value` words and values, to validated settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from mechconn.core import Config, check_choice, collect_errors, raise_mistakes_as_lines, read_values
from mechconn.datasets import ROOT_VARIABLE
from mechconn.paper._recipe import OWN, SCALES, Recipe, Scale, find_recipe

REAL = "cifar10"
"""The folder of `root` that recipes look for before they fall back on digits."""


Change: TypeAlias = str | Mapping[str, Any]
"""A word like "training.epochs=3", or settings by name as values of their own types."""


def resolve_settings(
    what: str,
    scale: str | None = None,
    changes: Mapping[str, Any] | Sequence[Change] = (),
    *,
    root: str | Path | None = None,
) -> tuple[str, Scale, Any, list[str]]:
    """(recipe, scale, settings, what the user should know).

    Args:
        what: a recipe, or a .toml or .json file with `recipe = "..."`, perhaps `scale = "..."`, and any settings.
        scale: smoke, small or paper; by default the file's, else smoke.
        changes: settings by name, such as {"seeds": (0, 1)}, or several of such tables and of words like
            "training.epochs=3", of which later ones are stronger; all are stronger than the file.
        root: the folder of the named image sets.

    Raises:
        ValueError: every mistake in file and words, a line each.
        FileNotFoundError: no such file.
    """
    given: dict[str, Any] = {"recipe": what}
    if what.endswith((".toml", ".json")):
        given = _replace_none_text(read_values(what))
        if "recipe" not in given:
            raise ValueError(
                f'{what} names no recipe; write recipe = "...", with one of {", ".join(Recipe.registered)}; {OWN}'
            )
    own_scale = given.pop("scale", "smoke")
    name, asked = str(given.pop("recipe")), str(own_scale if scale is None else scale)
    steps, known = [given], list[Recipe]()

    def take(change: Change) -> None:
        steps.append(_parse_change(change) if isinstance(change, str) else dict(change))

    def settled() -> Any:
        """A wrong scale, or a word that is no change, hides no mistake in the settings; a wrong recipe does."""
        if not known:
            return None
        defaults = known[0].settings(cast(Scale, asked if asked in SCALES else SCALES[0]), has_images(root))
        return _apply_changes(type(defaults), defaults.model_dump(mode="json"), steps)

    _, size, *_, settings = collect_errors(
        lambda: known.append(find_recipe(name)),
        lambda: cast(Scale, check_choice("scale", asked, SCALES)),
        *(partial(take, change) for change in ([changes] if isinstance(changes, Mapping) else changes)),
        settled,
    )
    notes = [] if has_images(root) or any("datasets" in step for step in steps) else _note_stand_in(known[0], size)
    return name, size, settings, notes


def _note_stand_in(recipe: Recipe, scale: Scale) -> list[str]:
    """What to know where no real images are at hand, of a recipe that would read them at this scale."""
    if scale != "smoke" or recipe.settings(scale, True) == recipe.settings(scale, False):
        return []
    return [
        f"no CIFAR-10 at hand, so {recipe.name} takes the embedded digits at this scale; --root DIR, or the "
        f"variable {ROOT_VARIABLE}, names the folder that holds cifar10/"
    ]


def _apply_changes(kind: type[Config], plain: dict[str, Any], steps: Sequence[dict[str, Any]]) -> Any:
    """Settings from plain ones, changed step by step.

    Raises:
        ValueError: every mistake, a line each.
    """

    def put(step: dict[str, Any]) -> None:
        nonlocal plain
        names = step.get("methods") if "methods" in plain else None
        if not isinstance(names, str | list):
            plain = merge_changes(plain, step)
            return
        plain = merge_changes(plain, {key: value for key, value in step.items() if key != "methods"})
        plain |= {"methods": _pick_methods(plain["methods"], names)}

    before = plain

    def validated() -> Any:
        with raise_mistakes_as_lines(kind):
            return kind.model_validate(_drop_rates(before, plain, steps))

    return collect_errors(*(partial(put, step) for step in steps), validated)[-1]


def _drop_rates(old: Any, new: Mapping[str, Any], steps: Sequence[Any]) -> dict[str, Any]:
    """Settings without the learning rates of tables whose optimizer the steps changed and whose rate they did not.

    The old optimizer's rate is not the new one's, which then takes its own.

    Example:
        >>> _drop_rates({"lr": 0.1}, {"lr": 0.1, "optimizer": "adamw"}, [{"optimizer": "adamw"}])
        {'optimizer': 'adamw'}
    """
    given = [step for step in steps if isinstance(step, Mapping)]
    old = old if isinstance(old, Mapping) else {}
    whole = dict(new)
    for key, value in new.items():
        if isinstance(value, Mapping):
            whole[key] = _drop_rates(old.get(key), value, [step.get(key) for step in given])
    changed = new.get("optimizer", "sgd") != old.get("optimizer", "sgd")
    if changed and not any("lr" in step for step in given):
        whole.pop("lr", None)
    return whole


def has_images(root: str | Path | None) -> bool:
    """Whether the folder of named image sets holds CIFAR-10."""
    place = root if root is not None else os.environ.get(ROOT_VARIABLE)
    return bool(place) and (Path(str(place)) / REAL).is_dir()


def merge_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the changes put in, table by table.

    A table whose `method` changes is replaced whole: the old one's settings are not the new one's. One that has no
    `method` yet is merged.

    Example:
        >>> merge_changes({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}})
        {'a': {'b': 5, 'c': 2}, 'd': 3}
    """
    whole = dict(base)
    for key, value in changes.items():
        old = whole.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            kind = old.get("method")
            value = merge_changes(old, value) if kind is None or value.get("method", kind) == kind else value
        whole[key] = value
    return whole


def _pick_methods(own: Mapping[str, Any], names: str | list[Any]) -> dict[str, Any]:
    """Of a recipe's methods those that `methods = "CBFT,FT-M"` names."""
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    known = collect_errors(*(partial(check_choice, "methods", str(name), list(own)) for name in wanted))
    return {name: own[name] for name in known}


def _parse_change(word: str) -> dict[str, Any]:
    """The word "a.b=value" as {"a": {"b": value}}; values are JSON where they can be, else text; "none" is None."""
    name, equals, text = word.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--set {word!r} must be name=value, as in --set training.epochs=3")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    value = _replace_none_text(value)
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return cast(dict[str, Any], value)


def _replace_none_text(value: Any) -> Any:
    """Plain values with None for the text "none", which TOML and the command line have no other word for."""
    if isinstance(value, Mapping):
        return {key: _replace_none_text(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_replace_none_text(part) for part in value]
    return None if value == "none" else value
