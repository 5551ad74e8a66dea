"""What stands beside the weights in the folder of a merged network: configuration and tokenizer of one parent."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import torch

BESIDE_WEIGHTS = re.compile(
    r"(generation_|\w*processor_|video_)?config\.json|(special_tokens_map|added_tokens|normalizer)\.json"
    r"|tokenizer[\w.]*|vocab[\w.-]*|merges\.txt|chat_template[\w.]*|[\w.-]*\.(tiktoken|model)|\w*\.jinja"
)
"""Files that Transformers reads beside weights; code of a folder (*.py) is none of them."""
NOT_COPIED = re.compile(r".*\.py|.*\.(bin|pt|pth|safetensors|index\.json)")
TEMPLATES = "additional_chat_templates"


def list_further_files(parent: Path) -> list[Path]:
    """The files beside a parent's weights that its merged network needs too; of a file of weights none."""
    if not parent.is_dir():
        return []
    files = sorted(file for file in parent.iterdir() if file.is_file())
    return [file for file in files if BESIDE_WEIGHTS.fullmatch(file.name) and not NOT_COPIED.fullmatch(file.name)]


def copy_further_files(parent: Path, out: Path) -> None:
    """Copy them into a folder."""
    for file in list_further_files(parent):
        shutil.copyfile(file, out / file.name)
    if parent.is_dir() and (templates := parent / TEMPLATES).is_dir():
        (out / TEMPLATES).mkdir()
        for file in sorted(templates.glob("*.jinja")):
            shutil.copyfile(file, out / TEMPLATES / file.name)


def name_type(folder: Path, kinds: Collection[torch.dtype]) -> None:
    """Let config.json in a folder name the number type of its weights, where it names one and they have one."""
    file, floating = folder / "config.json", {kind for kind in kinds if kind.is_floating_point}
    if len(floating) != 1 or not file.is_file():
        return
    name = str(floating.pop()).removeprefix("torch.")
    config = json.loads(file.read_text(encoding="utf-8"))
    wrong = {key for key in ("dtype", "torch_dtype") if config.get(key) not in (None, name)}
    if wrong:
        text = json.dumps({**config, **dict.fromkeys(wrong, name)}, indent=2, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
