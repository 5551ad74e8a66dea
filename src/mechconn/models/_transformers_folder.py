"""Classifiers in folders that Transformers saved: config.json and model.safetensors, read offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.core import require_extra
from mechconn.models._fill_weights import explain_other_names

AUTO_CLASSES = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForImageClassification": "AutoModelForImageClassification",
}
HEADS = ("classifier.", "score.")
"""Where Transformers' classifiers of sequences keep their heads."""


def load_folder(folder: Path, weights: bool, note: Callable[[str], object], outputs: int | None = None) -> nn.Module:
    """The classifier in a folder, in float32; no code of the folder runs and nothing is fetched.

    Args:
        folder: where `save_pretrained` put it.
        weights: whether to load the folder's own weights, or to build from its configuration alone.
        note: called with each remark, as one line.
        outputs: of a head for sequences that an adapter brings: then the folder may hold the network under another
            head, or none, and its own head is not read.

    Raises:
        ValueError: the folder is incomplete, holds no classifier, or its weights do not match its configuration.
        ImportError: Transformers is not installed.
    """
    architecture = _read_architecture(folder)
    loader = next((name for suffix, name in AUTO_CLASSES.items() if architecture.endswith(suffix)), None)
    if loader is None and outputs is not None:
        loader = AUTO_CLASSES["ForSequenceClassification"]
    if loader is None:
        wanted = " or ".join(AUTO_CLASSES)
        raise ValueError(
            f"{folder} holds a {architecture}, not a classifier; models whose architecture ends in {wanted} can be "
            "loaded"
        )
    _refuse_sound(folder, architecture)
    if weights and not any(folder.glob("model*.safetensors*")):
        raise ValueError(_explain_not_saved(folder, "there is no model.safetensors"))
    with require_extra(f"the model in {folder}", "transformers"):
        import transformers
    with _silence_transformers(transformers):
        if not weights:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            return getattr(transformers, loader).from_config(config, dtype=torch.float32)
        head: dict[str, Any] = {} if outputs is None else {"num_labels": outputs, "ignore_mismatched_sizes": True}
        model, info = getattr(transformers, loader).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **head
        )
    # A head that the file lacks would be drawn at random, with a line in a log.
    missing, unexpected = (sorted(map(str, info.get(kind, ()))) for kind in ("missing_keys", "unexpected_keys"))
    if outputs is not None:
        missing, unexpected = [name for name in missing if not name.startswith(HEADS)], []
    if missing or unexpected:
        raise explain_other_names(folder, missing, unexpected)
    saved = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("dtype") or "float32")
    if saved != "float32":
        note(f"the weights of {folder} are {saved} there and float32 in the model")
    return model


def _refuse_sound(folder: Path, architecture: str) -> None:
    """Raise where a classifier takes waveforms, which no reader here has, whatever its class is called."""
    with require_extra(f"the model in {folder}", "transformers"):
        from transformers.models.auto import modeling_auto
    if architecture in modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES.values():
        raise ValueError(
            f"{folder} holds a {architecture}, which takes sound, and sound is not read; load it with Transformers and "
            "pass the module, with batches of {'input_values': ..., 'labels': ...}, in Python"
        )


def _read_architecture(folder: Path) -> str:
    """The name of the class that was saved."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(_explain_not_saved(folder, "there is no config.json"))
    try:
        (architecture,) = json.loads(file.read_text(encoding="utf-8"))["architectures"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(_explain_not_saved(folder, "its config.json names no single architecture")) from error
    return str(architecture)


@contextmanager
def _silence_transformers(transformers: Any) -> Iterator[None]:
    """Context manager: switch off Transformers' progress bars."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _explain_not_saved(folder: Path, why: str) -> str:
    return f"{folder} is no model that Transformers saved ({why}); it needs config.json and model.safetensors"
