"""Records: plain values that outlive the code that made them, with the versions and hardware they were made with."""

from __future__ import annotations

import base64
import os
import platform
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from mechconn.core._config import Config


class Record(Config):
    """A frozen, validated record that is JSON on disk; unknown fields are refused."""


class Environment(Record):
    """What a run ran on."""

    versions: dict[str, str]
    system: str
    processor: str
    cores: int
    threads: int
    device: str


class Picture(Record):
    """An RGB image as bytes in base64, row by row."""

    height: int
    width: int
    data: str

    @classmethod
    def of(cls, pixels: Tensor) -> Picture:
        """From uint8 pixels of shape [H, W, 3]."""
        height, width, _ = pixels.shape
        data = base64.b64encode(pixels.contiguous().numpy().tobytes()).decode()
        return cls(height=height, width=width, data=data)

    def pixels(self) -> np.ndarray:
        """uint8 of shape [H, W, 3]."""
        flat = np.frombuffer(base64.b64decode(self.data), dtype=np.uint8)
        return flat.reshape(self.height, self.width, 3)


def read_environment(device: str) -> Environment:
    """Versions and hardware of this process."""
    return Environment(
        versions={"python": platform.python_version()}
        | {package: version(package) for package in ("mechconn", "numpy", "scipy", "scikit-learn")}
        | {"torch": str(torch.__version__)},  # with its build, which the package's metadata may leave out
        system=f"{platform.system()} {platform.machine()}",
        processor=_read_processor_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
    )


def _read_processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
