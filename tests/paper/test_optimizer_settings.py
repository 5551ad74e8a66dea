"""Optimizers in recipes and in audit.toml: read by name, part of the run's id, and refused where they have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from mechconn.cli._relearn_config import RelearnConfig
from mechconn.core import raise_mistakes_as_lines
from mechconn.paper import TuningSettings, find_recipe, resolve_settings
from mechconn.paper._departures import _find_differences  # pyright: ignore[reportPrivateUsage]


def resolved(*changes: Any, what: str = "table1") -> TuningSettings:
    return resolve_settings(what, "smoke", changes)[2]


def test_a_recipe_reads_them_from_words_tables_and_files(tmp_path: Path) -> None:
    assert resolved("training.optimizer=adamw").training.optimizer == "adamw"
    betas = resolved({"methods": {"CBFT": {"optimizer": {"name": "adamw", "betas": [0.9, 0.98]}, "warmup": 0.1}}})
    found: Any = betas.methods["CBFT"]
    assert (found.optimizer, found.warmup, found.lr) == (mc.AdamW((0.9, 0.98)), 0.1, 0.001)
    file = tmp_path / "run.toml"
    file.write_text(
        "recipe = 'table1'\n[training]\noptimizer = 'adam'\nwarmup = 3\n[methods.new]\nmethod = 'VREx'\n"
        "clip_norm = 1.0\noptimizer = {name = 'torch.optim:RMSprop', alpha = 0.9}\n"
        "weight_decay = 0.05\nweight_decay_on = 'matrices'\n",
        encoding="utf-8",
    )
    read = resolved(what=str(file))
    assert read.training.settings()["optimizer"] == "adam" and read.training.warmup == 3
    new: Any = read.methods["new"]
    assert new.settings()["optimizer"] == {"name": "torch.optim.rmsprop:RMSprop", "alpha": 0.9} and new.lr == 0.01
    assert type(read).model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("changes", "lr"),
    [
        ((), 0.1),
        (("training.optimizer=adamw",), 0.001),
        (("training.optimizer=adamw", "training.lr=0.1"), 0.1),
        (("training.lr=0.1", "training.optimizer=adamw"), 0.1),
        (({"training": {"lr": 0.3, "optimizer": "adam"}},), 0.3),
        (("training.optimizer=adamw", "training.optimizer=sgd"), 0.1),
        (("training.lr=0.3",), 0.3),
    ],
)
def test_a_rate_of_sgd_is_taken_over_only_where_it_is_asked_for(changes: tuple[Any, ...], lr: float) -> None:
    assert resolved(*changes).training.lr == lr


def test_those_of_heads_and_teachers_too() -> None:
    found: Any = resolved({"methods": {"LPFT": {"tuning": {"optimizer": "adam"}}}}).methods["LPFT"]
    assert (found.tuning.lr, found.tuning.optimizer, found.probe.optimizer) == (0.001, "adam", "sgd")


def test_a_function_without_a_name_is_refused_in_one_line() -> None:
    def local(groups: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr)

    text = "has no name by which a file or a store could call it"
    for change in (
        {"training": {"optimizer": local, "lr": 0.1}},
        {"methods": {"mine": mc.CBFT(optimizer=local, lr=0.1)}},
        {"methods": {"mine": mc.LPFT(tuning=mc.NaiveFineTuning(optimizer=local, lr=0.1))}},
        {"relearn": mc.Relearning(optimizer=local, lr=0.1)},
    ):
        with pytest.raises(ValueError, match=text) as caught:
            resolved(change)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("training.optimizer=adamww", "training.optimizer: optimizer must be one of 'adam', 'adamw', 'sgd'"),
        ({"training": {"optimizer": {"name": "adamw", "betas": 0.9}}}, "betas must be a tuple or a list, got 0.9"),
        (
            {"training": {"optimizer": {"name": "adamw", "betas": [0.9, 2]}}},
            "betas must be two numbers from 0 to below 1",
        ),
        ("training.warmup=-1", "training: warmup must be a number of iterations from 0 on"),
        ("methods.CBFT.weight_decay_on=bias", r"weight_decay_on: Input should be 'all' or 'matrices'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(change: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        resolved(change)
    assert "\n" not in str(caught.value)


def test_another_optimizer_is_a_departure_from_the_paper() -> None:
    """SGD, which records leave out, is none."""
    stated: Any = find_recipe("table1").stated
    plain = resolved().model_dump(mode="json")["methods"]["CBFT"]
    changed = resolved("methods.CBFT.optimizer=adamw").model_dump(mode="json")["methods"]["CBFT"]
    before, after = (
        {key: got for key, got, _ in _find_differences(own, stated["methods"]["CBFT"])} for own in (plain, changed)
    )
    assert "optimizer" not in plain and not {"optimizer", "warmup", "weight_decay_on"} & before.keys()
    assert {key: got for key, got in after.items() if before.get(key, "") != got} == {
        "optimizer": "adamw", "lr": 0.001, "momentum": None,
    }  # fmt: skip


AUDIT: dict[str, Any] = {"data": "rows", "split": "cue", "control": "never.safetensors"}


def test_the_relearning_of_an_audit_reads_them() -> None:
    read = RelearnConfig(**AUDIT, optimizer="adamw", warmup=5)  # pyright: ignore[reportArgumentType]
    assert (read.relearning.optimizer, read.relearning.lr, read.relearning.warmup) == ("adamw", 0.001, 5)
    assert read.model_dump(mode="json")["optimizer"] == "adamw"
    table = RelearnConfig(**AUDIT, optimizer={"name": "adam", "betas": [0.8, 0.9]}, lr=0.1)  # pyright: ignore
    assert (table.relearning.optimizer, table.relearning.lr) == (mc.Adam((0.8, 0.9)), 0.1)
    assert table.model_dump(mode="json")["optimizer"] == {"name": "adam", "betas": [0.8, 0.9], "eps": 1e-8}
    plain = RelearnConfig(**AUDIT)
    assert plain.relearning == mc.Relearning() and not {"optimizer", "warmup"} & plain.model_dump(mode="json").keys()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"optimizer": "adamww"}, "optimizer: optimizer must be one of 'adam', 'adamw', 'sgd'"),
        ({"warmup": 101}, r"warmup must be a number of steps, at most the last \(100\), got 101"),
        ({"warmup": 0.5}, "warmup: Input should be a valid integer"),
    ],
)
def test_and_refuses_them_by_name(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text), raise_mistakes_as_lines(RelearnConfig):
        RelearnConfig(**AUDIT, **given)
