"""SHA-256 of bytes, of plain values, and of tensors and texts: equal on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def hash_to_int64(data: bytes) -> int:
    """The first 64 bits of SHA-256, as a signed integer."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def to_canonical_json(value: Any) -> bytes:
    """Plain values as JSON with sorted keys and no blanks; NaN and infinity are refused.

    Example:
        >>> to_canonical_json({"b": (1, 2.0), "a": None})
        b'{"a":null,"b":[1,2.0]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def hash_values(value: Any) -> str:
    """SHA-256 of plain values as canonical JSON."""
    return sha256(to_canonical_json(value))


def hash_settings(settings: dict[str, Any]) -> str:
    """SHA-256 of settings as JSON with sorted keys: equal settings have equal hashes.

    The ids of runs in stores on disk come from JSON with blanks, so that `hash_values` would find none of them again.
    """
    return sha256(json.dumps(settings, sort_keys=True).encode())


def hash_content(parts: Iterable[Tensor | str]) -> str:
    """SHA-256 of tensors, by type, shape and bytes, and of texts, in their order; on whatever device they are."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {len(part.encode())}:{part}".encode())
            continue
        tensor = part.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype} {list(tensor.shape)}:".encode())
        digest.update(tensor.flatten().view(dtype=torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
