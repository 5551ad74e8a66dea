"""Classifiers in folders that Transformers saved: config.json and their weights, read offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.core import require_extra
from mechconn.models._unfit_weights import explain_other_names, list_names
from mechconn.models._weight_files import find_own, read_checkpoint

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
    _refuse_foreign_code(folder, _read_config(folder))
    own = _check_folder(folder, note) if weights else None
    with require_extra(f"the model in {folder}", "transformers"):
        import transformers
    with silence_transformers():
        if own is None:
            return _build_by_transformers(transformers.AutoConfig, getattr(transformers, loader), folder)
        model, info = _fill_by_transformers(getattr(transformers, loader), folder, own, outputs)
    # A head that the file lacks would be drawn at random, with a line in a log.
    missing, unexpected = (sorted(map(str, info.get(kind, ()))) for kind in ("missing_keys", "unexpected_keys"))
    mismatched = list(info.get("mismatched_keys", ()))
    if outputs is not None:
        missing, unexpected = [name for name in missing if not name.startswith(HEADS)], []
        mismatched = [found for found in mismatched if not str(found[0]).startswith(HEADS)]
    if missing or unexpected:
        raise explain_other_names(folder, missing, unexpected)
    if others := sorted(map(_describe_mismatch, mismatched)):
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: {list_names(others)} (file against configuration); "
            "correct the configuration (num_labels, id2label, sizes), or save the model again"
        )
    config = _read_config(folder)
    saved = str(config.get("dtype") or config.get("torch_dtype") or "float32")  # as before Transformers 4.56
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


def _refuse_foreign_code(folder: Path, config: Any) -> None:
    """Raise where a configuration, or one within it, names code of a hub ("owner/name") to compute layers with."""
    for name, value in config.items():
        if isinstance(value, dict):
            _refuse_foreign_code(folder, value)
        elif "_implementation" in str(name) and "/" in str(value):
            raise ValueError(
                f"config.json in {folder} asks for {name} = {value!r}, code of a hub, which is not run; remove that "
                "line, so that Transformers' own is used"
            )


def _check_folder(folder: Path, note: Callable[[str], object]) -> Path:
    """The folder's weights or their index, once they are known to be whole, in floating point, and to run nothing.

    Raises:
        ValueError: there are none, shards are missing, or the weights are quantised.
    """
    method = _read_config(folder).get("quantization_config")
    if isinstance(method, dict):
        raise ValueError(
            f"the weights in {folder} are quantised ({method.get('quant_method', 'unknown method')}), and paths are "
            "computed in floating point; pass the model before quantisation, or dequantise it where it was made "
            "(model.dequantize()) and save it"
        )
    own = next(iter(find_own(folder)), None)
    if own is None:
        raise ValueError(_explain_not_saved(folder, "there is no model.safetensors"))
    read_checkpoint(own, note)
    return own


def _build_by_transformers(configs: Any, loader: Any, folder: Path) -> nn.Module:
    """The model of a configuration, with weights that are drawn."""
    try:
        config = configs.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return loader.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # whatever Transformers meets
        raise _explain_not_built(folder, error) from error


def _fill_by_transformers(
    loader: Any, folder: Path, own: Path, outputs: int | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The model, and what Transformers says of the names; layouts of experts are converted by its own rules."""
    head = {} if outputs is None else {"num_labels": outputs}
    try:
        return loader.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,  # by default it asks whether code in the folder may run
            use_safetensors="safetensors" in own.name,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told by us, in one line
            **head,
        )
    except Exception as error:  # whatever Transformers meets
        raise _explain_not_built(folder, error) from error


def _explain_not_built(folder: Path, error: Exception) -> ValueError:
    why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
    return ValueError(
        f"Transformers cannot load the model in {folder} ({why}); save it again with the version that is installed"
    )


def _describe_mismatch(found: Any) -> str:
    name, got, wanted = found
    return f"{name} {list(got)} against {list(wanted)}"


def _read_architecture(folder: Path) -> str:
    """The name of the class that was saved."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(_explain_not_saved(folder, "there is no config.json"))
    try:
        (architecture,) = _read_config(folder)["architectures"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(_explain_not_saved(folder, "its config.json names no single architecture")) from error
    return str(architecture)


def _read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Context manager: switch off Transformers' progress bars, and the tables that it prints of what does not fit."""
    import transformers

    logging = transformers.utils.logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(max(verbosity, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def _explain_not_saved(folder: Path, why: str) -> str:
    return (
        f"{folder} is no model that Transformers saved ({why}); it needs config.json and model.safetensors, shards "
        "with their index, or pytorch_model.bin; for weights alone pass the function that builds the model too, "
        "load_model(function, folder), or --model"
    )
