"""Small networks on disk to merge: tensors of several types, and folders that Transformers saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechconn.core import isolate_rng
from text_folders import make_bert, make_decoder, make_tokenizer, save_folder

SHAPES: dict[str, tuple[int, ...]] = {
    "embed": (40, 3),
    "layer.weight": (5, 3),
    "layer.bias": (5,),
    "scale": (),
    "none": (0, 3),
}


def make_tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def write_weights(file: Path, tensors: Mapping[str, Tensor]) -> Path:
    """A file of safetensors, or of torch.save where its name does not end so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    else:
        torch.save(dict(tensors), file)
    return file


def write_parents(folder: Path, dtype: torch.dtype = torch.float32, count: int = 2) -> dict[str, Path]:
    """Name -> file of networks with the same names and shapes."""
    names = "abcdefg"[:count]
    return {
        name: write_weights(folder / f"{name}.safetensors", make_tensors(seed, dtype))
        for seed, name in enumerate(names)
    }


def write_berts(folder: Path, count: int = 2, **options: Any) -> dict[str, Path]:
    """Name -> folder of a classifier with a tokenizer."""
    with isolate_rng(0, "tokenizer"):
        tokenizer = make_tokenizer()
    return {
        name: save_folder(folder / name, make_bert(seed, **options), tokenizer)
        for seed, name in enumerate("abcdefg"[:count])
    }


def write_llamas(folder: Path, **options: Any) -> dict[str, Path]:
    return {name: save_folder(folder / name, make_decoder("llama", seed, **options)) for seed, name in enumerate("ab")}


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by the library that defined the format."""
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def change_json(file: Path, **values: Any) -> None:
    """Set keys of a table, or remove those that are None."""
    told = json.loads(file.read_text(encoding="utf-8")) | values
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}), encoding="utf-8")
