"""In what a run's settings differ from those that the source states: so that nobody takes a small run for the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mechconn._report._published import IMAGES, NETWORKS, ROWS, STATED, TEST_ROWS
from mechconn._store import RunRecord

WORDS = {
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
    "seeds": "{got}",
}
HEAD_ONLY = ("LastLayerRetraining", "LPFT")


def departures(record: RunRecord) -> list[str]:
    """Every difference as "<ours> instead of <the source's>"; empty where all that is stated agrees."""
    settings = record.settings
    if record.recipe not in STATED:
        return []
    stated = {**STATED["all"], **STATED[record.recipe]}
    return [*_data(settings), *_plain(settings, stated), *_methods(settings, stated.get("methods.*", {}))]


def sentence(record: RunRecord) -> str:
    """The departures in a sentence."""
    if record.recipe not in STATED:
        return ""
    found = departures(record)
    if not found:
        return "Settings as the paper states them."
    return f"Not the paper's settings: {'; '.join(found)}."


def _data(settings: Mapping[str, Any]) -> Iterator[str]:
    names = [data["name"] for data in settings["datasets"]]
    other = [name for name in names if name not in IMAGES]
    if other:
        yield f"{', '.join(other)} instead of CIFAR-10"
    for key, what, whole in (("rows", "training", ROWS), ("test_rows", "test", TEST_ROWS)):
        if settings.get(key) is not None and not other:
            yield f"{settings[key]:,} {what} images instead of {whole:,}"
    if settings["network"] not in NETWORKS:
        yield f"{settings['network']} of width {settings['width']} instead of VGG-13 or ResNet-18"


def _plain(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    for key, wanted in stated.items():
        if key == "methods.*":
            continue
        got = _at(settings, key)
        if key == "seeds":
            if len(got) != wanted:
                yield f"{len(got)} seed{'s' if len(got) > 1 else ''} instead of {wanted}"
        elif got != wanted:
            yield f"{WORDS[key].format(got=_written(got))} instead of {_written(wanted)}"


def _methods(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    """Epochs and batches of fine-tuning, each said once for all methods that share them."""
    gathered: dict[str, list[str]] = {}
    own = {n: m for n, m in settings.get("methods", {}).items() if m["method"] not in HEAD_ONLY}
    for name, method in own.items():
        for key, wanted in stated.items():
            got = method.get(key, wanted)
            if got != wanted:
                what = f"{got} epochs of" if key == "epochs" else f"batches of {got} for"
                gathered.setdefault(f"{what}|{wanted}", []).append(name)
    for text, names in gathered.items():
        what, wanted = text.split("|")
        who = "fine-tuning" if len(names) == len(own) else ", ".join(names)
        yield f"{what} {who} instead of {wanted}"


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return list(value) if isinstance(value, tuple) else value


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_written(part) for part in value)
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
