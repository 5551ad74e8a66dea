"""In what a run's settings differ from those that the source states, so that a small run is not read as the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mechconn.paper._published import IMAGES, LEFT_OUT, NETWORKS, ROWS, TEST_ROWS
from mechconn.paper._recipe import find_recipe_of
from mechconn.paper._run_tables import name_dataset_kind

if TYPE_CHECKING:
    from mechconn.paper._run_record import RunRecord

SETTING_WORDS = {
    "training.epochs": "{got} epochs of training",
    "training.batch_size": "training batches of {got}",
    "training.lr": "a training rate of {got}",
    "training.milestones": "rate steps at epochs {got}",
    "fit.epochs": "{got} epochs of path fitting",
    "fit.batch_size": "path-fitting batches of {got}",
    "fit.lr": "a path-fitting rate of {got}",
    "fit.decay_every": "its steps every {got} epochs",
    "proportions": "cue proportions {got}",
    "clean_samples": "{got} clean samples",
    "epochs": "{got} epochs of {who}",
    "batch_size": "batches of {got} for {who}",
    "lr": "a rate of {got} for {who}",
}
"""Setting -> words; any other is called by its name."""

RULE = "min(30, c / lambda)"
"""The rate of a method that takes it from the features, where its settings name none."""

HEAD_ONLY = ("LLRT", "LPFT")
"""Methods with settings of their own for the head."""


def list_departures(record: RunRecord) -> list[str]:
    """Every difference as "<ours> instead of <the source's>"; empty where all that is stated agrees."""
    settings, stated = record.settings, find_recipe_of(record).stated
    if stated is None:
        return []
    return [
        *_list_data_departures(settings),
        *_list_seed_departures(settings, stated),
        *_list_plain_departures(settings, stated),
        *_list_method_departures(settings, stated.get("methods", {})),
    ]


def write_departures(record: RunRecord) -> str:
    """The departures in a sentence."""
    if find_recipe_of(record).stated is None:
        return ""
    found = list_departures(record)
    if not found:
        return (
            "No difference from the paper's settings in what was compared: data, network, seeds, and the settings of "
            "training, path fitting and fine-tuning that it states."
        )
    return f"Not the paper's settings: {'; '.join(found)}."


def _list_data_departures(settings: Mapping[str, Any]) -> Iterator[str]:
    other = [kind for data in settings["datasets"] if (kind := name_dataset_kind(data)) not in IMAGES]
    if other:
        yield f"{', '.join(other)} instead of CIFAR-10"
    for key, what, whole in (("rows", "training", ROWS), ("test_rows", "test", TEST_ROWS)):
        if settings.get(key) is not None and not other:
            yield f"{settings[key]:,} {what} images instead of {whole:,}"
    if settings["network"] not in NETWORKS:
        yield f"{settings['network']} of width {settings['width']} instead of VGG-13 or ResNet-18"


def _list_seed_departures(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    seeds, wanted = len(settings["seeds"]), stated.get("seeds")
    if wanted is not None and seeds != wanted:
        yield f"{seeds} seed{'s' if seeds > 1 else ''} instead of {wanted}"


def _list_plain_departures(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    own = {key: value for key, value in stated.items() if key not in ("methods", "seeds")}
    for key, got, wanted in _find_differences(settings, own):
        words = SETTING_WORDS.get(key, f"{_to_words(key)} {{got}}")
        yield f"{words.format(got=_format_value(got))} instead of {_format_value(wanted)}"


def _list_method_departures(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    """What differs in the methods that the source has, each listed once for all that share it."""
    own = {name: method for name, method in settings.get("methods", {}).items() if name in stated}
    tuned = [name for name in own if name not in HEAD_ONLY]
    shared: dict[tuple[str, str, str], list[str]] = {}
    for name, method in own.items():
        if method["method"] != stated[name]["method"]:
            shared[("method", method["method"], stated[name]["method"])] = [name]
            continue
        for key, got, wanted in _find_differences(method, stated[name]):
            shared.setdefault((key, _format_value(got), _format_value(wanted)), []).append(name)
    for (key, got, wanted), names in shared.items():
        who = "fine-tuning" if names == tuned else ", ".join(names)
        words = SETTING_WORDS.get(key, f"{_to_words(key)} {{got}} for {{who}}")
        yield f"{words.format(got=got, who=who)} instead of {wanted}"


def _find_differences(
    settings: Mapping[str, Any], stated: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, ours, the source's) of all that is stated otherwise."""
    for key, wanted in stated.items():
        got = RULE if key == "lr" and settings.get(key) is None else settings.get(key, LEFT_OUT.get(key))
        if isinstance(wanted, Mapping) and isinstance(got, Mapping):
            yield from _find_differences(got, wanted, f"{prefix}{key}.")
        elif got != wanted:
            yield prefix + key, got, wanted


def _to_words(key: str) -> str:
    return key.replace(".", " ").replace("_", " ")


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join("all" if part is None else _format_value(part) for part in value)
    if isinstance(value, bool | str):
        return str(value)
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
