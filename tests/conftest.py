"""What every test runs under: checked shapes, derandomised draws, a proof that it leaves no global trace."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Types and shapes are checked at run time in every module whose annotations tell shapes; all others are the static type
# checker's, which makes calls into them cheaper. Before anything imports mechconn: the hook works while modules load.
PACKAGE = Path(__file__).parents[1] / "src"
SHAPED = [
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    for file in sorted(PACKAGE.rglob("*.py"))
    if "from jaxtyping import" in file.read_text(encoding="utf-8")
]
install_import_hook(SHAPED, "typecheck.checked")

# Same examples on every machine, and no limit of time for any of them, nor for drawing them: machines may be busy.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", action="store_true", help="run the tests marked `network`")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist: the workers share the cores
        torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    no_gpu = pytest.mark.skip(reason="needs CUDA")
    no_network = pytest.mark.skip(reason="needs --network")
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("network") and not config.getoption("--network"):
            item.add_marker(no_network)


def _equal(state: Any, other: Any) -> bool:
    """Equality of two states of numpy's global generator: tuples with an array among their entries."""
    return all(np.array_equal(a, b) for a, b in zip(state, other, strict=True))


@pytest.fixture(autouse=True)
def _world_as_found() -> Iterator[None]:
    """Fail a test that changes global state, and repair the state, so that the next test is not blamed."""
    python, legacy, generator = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    yield
    changed = {
        "Python's random state": random.getstate() != python,
        "numpy's global random state": not _equal(np.random.get_state(), legacy),
        "torch's global random state": not torch.equal(torch.get_rng_state(), generator),
        "the default dtype": torch.get_default_dtype() != dtype,
        "the grad mode": torch.is_grad_enabled() != grad,
    }
    random.setstate(python)
    np.random.set_state(legacy)
    torch.set_rng_state(generator)
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    found = [what for what, moved in changed.items() if moved]
    assert not found, f"the test changed {', '.join(found)}; draw from a generator, build models in isolate_rng"


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time checks of types and shapes, as users run: what the library itself says of wrong types."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real datasets, for the tests that need more than the embedded digits."""
    root = os.environ.get("MECHCONN_DATA")
    if not root:
        pytest.skip("MECHCONN_DATA names no folder of datasets")
    return Path(root)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported lives to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
