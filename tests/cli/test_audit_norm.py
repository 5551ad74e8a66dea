"""`[norm]` in audit.toml: every policy end to end, what is refused, and how many passes each takes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from mechconn.cli import main

MODELS = """
import torch
from torch import nn

ROWS = []


class Counted(nn.Sequential):
    def forward(self, x):
        if type(x) is torch.Tensor and len(x) >= 20:  # a split, and not a few rows of an example
            ROWS.append(len(x))
        return super().forward(x)


def build(norm=True):
    middle = [nn.BatchNorm1d(6)] if norm else []
    return Counted(nn.Linear(4, 6), *middle, nn.ReLU(), nn.Linear(6, 2))
"""
COMMAND = "audit a.safetensors b.safetensors --data audit.toml --model norm_models:build -o audit.html --json"
CUE, RAND_CUE, TRAIN, R = 24, 20, 30, 44
TIMED = 2 * CUE
"""Rows of the batches that the estimate itself runs."""
SPLITS = "[splits]\ncue = 'cue.safetensors'\nrand_cue = 'rand_cue.safetensors'\n"
DATA = "data = 'train.safetensors'\n"
PLAIN = "[model]\narguments = {norm = false}\n"


def rows(count: int, seed: int) -> dict[str, torch.Tensor]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return {"x": x, "y": (x[:, 0] > 0).long()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two networks with BatchNorm whose statistics are those of other data, and two without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "norm_models", raising=False)
    (tmp_path / "norm_models.py").write_text(MODELS, encoding="utf-8")
    for seed, (split, count) in enumerate({"cue": CUE, "rand_cue": RAND_CUE, "train": TRAIN}.items()):
        save_file(rows(count, seed), tmp_path / f"{split}.safetensors")
    for seed, name in enumerate("ab", 1):
        model = mc.load_model("norm_models:build", seed=seed).train()
        with torch.no_grad():
            for _ in range(20):
                model(4.0 * seed * rows(40, seed)["x"] + seed)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
        plain = mc.load_model("norm_models:build", arguments={"norm": False}, seed=seed)
        save_file(plain.state_dict(), tmp_path / f"plain_{name}.safetensors")
    return tmp_path


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def write(folder: Path, keys: str = "", norm: str = "", model: str = "") -> str:
    """The file, and the command on it."""
    table = f"[norm]\n{norm}" if norm else ""
    (folder / "audit.toml").write_text(f"points = 4\n{keys}{SPLITS}{table}{model}", encoding="utf-8")
    return COMMAND if not model else COMMAND.replace("a.saf", "plain_a.saf").replace("b.saf", "plain_b.saf")


def audited(folder: Path, capsys: pytest.CaptureFixture[str], **keys: str) -> dict[str, Any]:
    assert run(write(folder, **keys)) == 0
    return json.loads(capsys.readouterr().out)


ENDS = "Its ends are not the networks as saved: "


def test_interpolation_has_both_ends_as_saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(folder, capsys, keys="alignment = 'none'\n", norm="policy = 'interpolate'\n")
    path = found["paths"]["before"]
    assert found["settings"]["norm"] == {"policy": "interpolate"} and found["connections"]["before"]["shifted"] == []
    for place, end in ((0, "a"), (-1, "b")):
        assert path["saved"][place]["loss"] == {split: values[place] for split, values in path["loss"].items()}
        assert found["comparison"][end]["accuracy"] == {s: v[place] for s, v in path["accuracy"].items()}
    assert not any(ENDS in sentence for sentence in found["findings"])


def test_keeping_makes_the_other_end_another_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(folder, capsys, norm="policy = 'keep'\n")
    assert list(found["paths"]) == ["before", "after"]
    path = found["paths"]["before"]
    assert found["settings"]["norm"] == {"policy": "keep"}
    shifted = found["connections"]["before"]["shifted"]
    assert {shift["end"] for shift in shifted} == {"B"} and path["names"] == ["a", "b"]
    assert path["saved"][0]["loss"] == {split: values[0] for split, values in path["loss"].items()}
    (said,) = [s for s in found["findings"] if s.startswith("The straight path from a to b, as it is")]
    shift = shifted[0]
    assert f"{ENDS}b is right on {100 * shift['saved']:.1f} % of {shift['split']} as saved, and on " in said
    assert "between networks with other statistics than those saved" in said
    # A's statistics with B's weights, run by hand.
    model = mc.load_model("norm_models:build", folder / "b.safetensors").eval()
    first = mc.load_model("norm_models:build", folder / "a.safetensors").eval()
    model[1].load_state_dict({**model[1].state_dict(), **dict(first[1].named_buffers())})  # pyright: ignore
    data = rows(CUE, 0)
    share = float((model(data["x"]).argmax(1) == data["y"]).double().mean())
    assert path["accuracy"]["cue"][-1] == pytest.approx(share, abs=1e-12)
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert ENDS.strip() in page and "as saved" in page


@pytest.mark.parametrize("named", [True, False])
def test_statistics_are_reestimated_by_default(folder: Path, capsys: pytest.CaptureFixture[str], named: bool) -> None:
    policy = "policy = 'reestimate'\naverage = 'exponential'\n" if named else ""
    found = audited(folder, capsys, keys="alignment = 'none'\n", norm=DATA + policy)
    norm = found["settings"]["norm"]
    assert norm["policy"] == "reestimate" and norm["data"] == "train.safetensors"
    assert norm["average"] == ("exponential" if named else "cumulative")
    assert found["settings"]["config"]["norm"]["policy"] == ("reestimate" if named else None)


def test_repair_for_networks_without_statistics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(folder, capsys, norm=f"{DATA}policy = 'repair'\n", model=PLAIN)
    assert found["settings"]["norm"]["policy"] == "repair" and found["settings"]["norm"]["data"] == "train.safetensors"
    assert found["connections"]["before"]["shifted"] == []


OWN = {
    "keys": "alignment = {name = 'user_defined:SortedMatching', power = 1.0}\n",
    "norm": "policy = {name = 'user_defined:NearestNorm', until = 0.25}\n",
}


def test_a_policy_and_an_alignment_method_of_the_users_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = write(folder, **OWN)
    sys.modules["norm_models"].ROWS.clear()
    assert run(command) == 0
    done = capsys.readouterr()
    settings = json.loads(done.out)["settings"]
    assert settings["norm"] == {"policy": "nearest", "until": 0.25}
    assert (settings["alignment"]["method"], settings["alignment"]["power"]) == ("sorted matching", 1.0)
    assert settings["config"]["norm"]["policy"] == {"name": "user_defined:NearestNorm", "until": 0.25}
    estimated = int(done.err.split(" forward passes")[0].rsplit("\n", 1)[-1].replace(",", ""))
    assert 0 < sum(sys.modules["norm_models"].ROWS) - TIMED <= estimated


def test_options_of_our_own_stand_in_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, policy = "alignment = {name = 'weights', restarts = 2}\n", "{name = 'reestimate', batch_size = 7}"
    settings = audited(folder, capsys, keys=keys, norm=f"{DATA}policy = {policy}\n")["settings"]
    assert settings["alignment"]["restarts"] == 2
    assert (settings["norm"]["batch_size"], settings["norm"]["data"]) == (7, "train.safetensors")


def refused(folder: Path, capsys: pytest.CaptureFixture[str], **keys: str) -> str:
    """The one line that says what is wrong."""
    assert run(write(folder, **keys)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_statistics_without_a_policy_are_refused_and_every_way_out_works(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(folder, capsys)
    assert line.startswith("mechconn: the networks keep normalisation statistics (1), which do not fit elsewhere")
    ways = re.findall(r'(data|policy) = "([\w.]+)"', line)
    assert ways == [("data", "..."), ("policy", "interpolate"), ("policy", "keep")]
    for key, value in ways:
        place = "train.safetensors" if value == "..." else value
        found = audited(folder, capsys, keys="alignment = 'none'\n", norm=f'{key} = "{place}"\n')
        assert found["settings"]["norm"]["policy"] == (value if key == "policy" else "reestimate")


REFUSED = {
    "re-estimation without data": (
        {"norm": "policy = 'reestimate'\n"},
        "audit.toml: norm.policy: 'reestimate' reads training data; name them under [norm], data = \"...\"",
    ),
    "repair without data": (
        {"norm": "policy = 'repair'\n", "model": PLAIN},
        "audit.toml: norm.policy: 'repair' reads training data; name them under [norm], data = \"...\"",
    ),
    "repair of statistics, in a table": (
        {"norm": f"{DATA}policy = {{name = 'repair', batch_size = 8}}\n"},
        "policy = 'repair' is for networks without normalisation statistics, and these keep some (1); set policy = "
        "'reestimate' under [norm]",
    ),
    "repair of statistics": (
        {"norm": f"{DATA}policy = 'repair'\n"},
        "policy = 'repair' is for networks without normalisation statistics, and these keep some (1); set policy = "
        "'reestimate' under [norm]",
    ),
    "data that nobody reads": (
        {"norm": f"{DATA}policy = 'interpolate'\n"},
        "audit.toml: norm: policy = 'interpolate' reads no data, and alignment = 'auto' does not either; leave out "
        "data = 'train.safetensors', or set alignment = 'activations'",
    ),
    "an average of nothing": (
        {"norm": "policy = 'keep'\naverage = 'cumulative'\n"},
        "audit.toml: norm.average: goes with policy = 'reestimate', and policy = 'keep' averages no batches",
    ),
    "blocks between no two networks": (
        {"keys": "blocks = 1\n", "norm": "policy = 'interpolate'\n"},
        "policy = 'interpolate' needs a path between two networks, which a block that moves alone "
        "does not have; leave out blocks, or set policy = 'reestimate' or 'keep'",
    ),
    "blocks by a user's policy": (
        {"keys": "blocks = 1\n", "norm": "policy = 'user_defined:NearestNorm'\n"},
        "policy = 'user_defined:NearestNorm' needs a path between two networks, which a block that moves alone does "
        "not have; leave out blocks, or set policy = 'reestimate' or 'keep'",
    ),
    "data that no method of the user's reads": (
        {"keys": OWN["keys"], "norm": f"{DATA}policy = 'keep'\n"},
        "audit.toml: norm: policy = 'keep' reads no data, and alignment = {'name': 'user_defined:SortedMatching', "
        "'power': 1.0} does not either; leave out data = 'train.safetensors', or set alignment = 'activations'",
    ),
    "an option that it does not have": (
        {"norm": "policy = {name = 'user_defined:NearestNorm', untill = 1.0}\n"},
        "audit.toml: norm.policy: policy 'user_defined:NearestNorm' has no option 'untill'; it has until; did you mean "
        "'until'?",
    ),
    "no alignment method": (
        {"keys": "alignment = 'user_defined:NearestNorm'\n"},
        "audit.toml: alignment: alignment 'user_defined:NearestNorm' must be a subclass of mechconn's AlignmentMethod, "
        "or an instance of one",
    ),
}


UNKNOWN = {
    "alignment": (
        {"keys": "alignment = 'wights'\n"},
        r"alignment: alignment must be one of 'auto', 'none', 'activations', 'gradients', 'input_covariance', "
        r"'learned', 'merge-many', 'universe', 'weights', "
        r".*got 'wights'; did you mean 'weights'?",
    ),
    "policy": (
        {"norm": "policy = 'kept'\n"},
        r"norm.policy: policy must be one of 'interpolate', 'keep', 'reestimate', 'repair', .*or a class of your own "
        "as 'package.module:Class', got 'kept'; did you mean 'keep'?",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_names_are_refused_with_the_known_ones(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """Beside ours those of other modules that were imported."""
    keys, said = UNKNOWN[case]
    before, behind = said.split(".*")
    line = refused(folder, capsys, **keys)
    assert line.startswith(f"mechconn: audit.toml: {before}") and line.endswith(behind)


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    keys, said = REFUSED[case]
    assert refused(folder, capsys, **keys) == f"mechconn: {said}"


def test_learned_matching_gets_the_training_data_and_the_loss(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = "alignment = {name = 'learned', steps = 4, batch_size = 8}\n"
    found = audited(folder, capsys, keys=keys, norm=DATA)
    settings = found["settings"]["alignment"]
    assert (settings["method"], settings["data"], settings["steps"]) == ("learned matching", "train.safetensors", 4)
    assert settings["loss"] == "cross_entropy"
    assert any("learned matching" in note for note in found["alignment"]["notes"])


WAYS_OUT = {
    "repair of statistics": {"norm": f"{DATA}policy = 'reestimate'\n"},
    "data left out": {"norm": "policy = 'interpolate'\n"},
    "units matched on the data": {"keys": "alignment = 'activations'\n", "norm": f"{DATA}policy = 'interpolate'\n"},
    "blocks, kept": {"keys": "blocks = 1\n", "norm": "policy = 'keep'\n"},
    "blocks, re-estimated": {"keys": "blocks = 1\n", "norm": f"{DATA}policy = 'reestimate'\n"},
}


@pytest.mark.parametrize("case", WAYS_OUT)
def test_what_the_errors_advise_works(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    found = audited(folder, capsys, **WAYS_OUT[case])
    assert list(found["paths"]) == ["before", "after"]
    data = found["settings"]["alignment"].get("data")
    assert data == (None if case in ("data left out", "blocks, kept") else "train.safetensors")


def test_the_schema_names_the_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema audit") == 0
    policy = json.loads(capsys.readouterr().out)["$defs"]["NormConfig"]["properties"]["policy"]
    assert policy["anyOf"][0]["enum"] == ["interpolate", "keep", "reestimate", "repair"]


# (keys, [norm], network) -> (rows estimated, rows that the networks see): 4 points, R = 24 + 20 rows, 30 of training.
ALL = R + TRAIN
COSTS: dict[str, tuple[dict[str, str], int, int]] = {
    # Effects, then the two inner points: the ends are the networks as saved.
    "no statistics": ({"keys": "alignment = 'none'\n", "model": PLAIN}, 4 * R, 4 * R),
    "no statistics, aligned": ({"keys": "alignment = 'weights'\n", "model": PLAIN}, 6 * R, 6 * R),
    # Each of three blocks pays for all points but the still end.
    "no statistics, blocks": ({"keys": "alignment = 'none'\nblocks = 1\n", "model": PLAIN}, 10 * R, 10 * R),
    "interpolated": ({"keys": "alignment = 'none'\n", "norm": "policy = 'interpolate'\n"}, 4 * R, 4 * R),
    "interpolated, aligned": ({"norm": "policy = 'interpolate'\n"}, 6 * R, 6 * R),
    # B's end with A's statistics is another network, and once more where its units were permuted.
    "kept": ({"keys": "alignment = 'none'\n", "norm": "policy = 'keep'\n"}, 5 * R, 5 * R),
    "kept, aligned": ({"norm": "policy = 'keep'\n"}, 8 * R, 8 * R),
    "re-estimated": ({"keys": "alignment = 'none'\n", "norm": DATA}, 2 * R + 4 * ALL, 2 * R + 4 * ALL),
    "re-estimated, aligned": (
        {"keys": "alignment = 'weights'\n", "norm": DATA},
        2 * R + 6 * ALL,
        2 * R + 6 * ALL,
    ),
    # Matching runs the graph of both, operation by operation, and the module once to write the graph down.
    "re-estimated, matched": ({"norm": DATA}, 2 * R + 6 * ALL + 4 * TRAIN, 2 * R + 6 * ALL + TRAIN),
    # What BatchNorm reads moves with the first block alone: the others share statistics at their two inner points.
    "re-estimated, blocks": (
        {"keys": "alignment = 'none'\nblocks = 1\n", "norm": DATA},
        2 * R + 13 * ALL,
        2 * R + 13 * ALL - 4 * TRAIN,
    ),
    "repaired": (
        {"keys": "alignment = 'none'\n", "norm": f"{DATA}policy = 'repair'\n", "model": PLAIN},
        2 * R + 2 * ALL + 4 * TRAIN,
        2 * R + 2 * ALL + 4 * TRAIN,
    ),
    "repaired, aligned": (
        {"norm": f"{DATA}policy = 'repair'\n", "model": PLAIN},
        2 * R + 4 * ALL + 6 * TRAIN,
        2 * R + 4 * ALL + 6 * TRAIN,
    ),
    # 4 steps, each as 3 passes, one of them with up to 6 more; 6 rows kept back, at 4 + 3 points. Small batches, which
    # the networks do not count.
    "learned": (
        {"keys": "alignment = {name = 'learned', steps = 4, batch_size = 8}\n", "norm": DATA, "model": PLAIN},
        6 * R + 4 * 3 * 8 + 6 * 8 + 7 * 6,
        6 * R,
    ),
    # One gradient of each network on one batch, a backward pass as two.
    "gradients": (
        {"keys": "alignment = {name = 'gradients', batch_size = 8}\n", "norm": DATA, "model": PLAIN},
        6 * R + 2 * 3 * 8,
        6 * R,
    ),
    # CKA: one watched pass of both, which counts double.
    "layers": ({"keys": "alignment = 'none'\nlayers = 'all'\n", "model": PLAIN}, 4 * R + 4 * CUE, 4 * R + 2 * CUE),
}  # fmt: skip


@pytest.mark.parametrize("case", COSTS)
def test_the_estimate_is_what_the_networks_see(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    keys, estimated, seen = COSTS[case]
    command = write(folder, **keys)
    sys.modules["norm_models"].ROWS.clear()
    assert run(command) == 0
    said = capsys.readouterr().err.split(" forward passes")[0].rsplit("\n", 1)[-1]
    assert int(said.replace(",", "")) == estimated
    assert sum(sys.modules["norm_models"].ROWS) - TIMED == seen
