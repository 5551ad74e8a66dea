"""`mechconn map`: the models of a folder, each evaluated once, through engines into a store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from mechconn.cli import main
from mechconn.core import isolate_rng
from mechconn.datasets import load_splits
from text_folders import make_bert, make_tokenizer, save_folder, write_csv

MODELS = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

def normed():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
"""
ROWS = 300
TOML = """
margin = 0.1
[splits]
cue = "data/cue.safetensors"
no_cue = "data/no_cue.safetensors"
rand_cue = "data/rand_cue.safetensors"
[model]
factory = "map_models:small"
"""
NAMES = ["s1", "s2", "s10", "s11"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    """(exit status, standard output, lines of errors)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, [line for line in shown.err.splitlines() if line.startswith("mechconn: ")]


def make_state(seed: int) -> dict[str, torch.Tensor]:
    """A network that reads the first column, the cue, where the seed is even, else the second."""
    draw = torch.Generator().manual_seed(seed)
    read = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]) if seed % 2 == 0 else torch.tensor([[0, 1.0, 0], [0, -1.0, 0]])
    first = torch.cat([read, 0.1 * torch.randn(2, 3, generator=draw)])
    second = torch.tensor([[-2.0, 2.0, 0, 0], [2.0, -2.0, 0, 0]]) + 0.05 * torch.randn(2, 4, generator=draw)
    order = torch.randperm(4, generator=draw)
    return {
        "0.weight": first[order],
        "0.bias": torch.zeros(4),
        "2.weight": second[:, order].contiguous(),
        "2.bias": torch.zeros(2),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MECHCONN_STORE", raising=False)
    monkeypatch.delitem(sys.modules, "map_models", raising=False)  # of an earlier test
    (tmp_path / "map_models.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    for name in NAMES:
        save_file(make_state(int(name[1:])), tmp_path / "models" / f"{name}.safetensors")
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(ROWS) % 2
    sign = 2.0 * y - 1
    for name in ("cue", "no_cue", "rand_cue", "train"):
        agree = {"no_cue": torch.zeros(ROWS), "rand_cue": sign[torch.randperm(ROWS, generator=draw)]}.get(name, sign)
        x = torch.stack([agree, sign, torch.zeros(ROWS)], 1) + 0.3 * torch.randn(ROWS, 3, generator=draw)
        save_file({"x": x, "y": y}, tmp_path / "data" / f"{name}.safetensors")
    (tmp_path / "audit.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def load_models(folder: Path) -> dict[str, Any]:
    return {n: mc.load_model("map_models:small", folder / "models" / f"{n}.safetensors") for n in NAMES}


def load_suite() -> mc.Suite:
    return mc.Suite(load_splits({name: f"data/{name}.safetensors" for name in ("cue", "no_cue", "rand_cue")}))


def read_map(text: str) -> mc.MechanismMap:
    found = mc.load_result(json.loads(text))
    assert isinstance(found, mc.MechanismMap)
    return found


def list_steps(folder: Path) -> dict[str, float]:
    """Each step of the store, and when it was written."""
    return {step.name: (step / "record.json").stat().st_mtime_ns for step in folder.glob("mechconn-store/map/steps/*")}


WORDS = ("map", "models", "--data", "audit.toml", "--threads", "1")


def test_it_is_the_map_of_the_models_in_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(capsys, *WORDS, "--json")
    assert (code, errors) == (0, [])
    found, alone = read_map(out), mc.mechanism_map(load_models(folder), load_suite(), margin=0.1, ts=3)
    assert found.names == tuple(NAMES)  # numbers in their order
    assert (found.barrier, found.distance, found.pairs) == (alone.barrier, alone.distance, alone.pairs)
    assert found.invariance == alone.invariance and found.ts == (0.0, 0.5, 1.0)
    assert {frozenset(group) for group in found.groups} == {frozenset({"s1", "s11"}), frozenset({"s2", "s10"})}
    assert found.settings["sha256 of the weights"].keys() == set(NAMES)
    page = (folder / "map.html").read_text(encoding="utf-8")
    assert "4 models: 2 groups by mechanism" in page and str(folder) not in page
    (folder / "map.json").write_text(out, encoding="utf-8")
    assert run(capsys, "page", "map.json", "-o", "drawn.html")[0] == 0
    assert (folder / "drawn.html").read_text(encoding="utf-8") == page
    code, out, errors = run(capsys, *WORDS, "-o", "again.html")
    assert (code, errors) == (0, []) and out.endswith("\n\nReport: again.html\n")
    assert (folder / "again.html").read_bytes() == (folder / "map.html").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_every_engine_gives_the_same_map(engine: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, since Ray draws from global generators."""
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'mechconn[ray]'")
    align = ("--align", "universe", "--json")
    code, out, errors = run(capsys, *WORDS, *align)
    assert (code, errors) == (0, [])
    command = [sys.executable, "-c", "from mechconn.cli import main; main()", *WORDS, *align]
    command += ["--engine", engine, "--workers", "1", "--store", "other"]
    where = {**os.environ, "PYTHONPATH": str(Path(mc.__file__).parents[1])}
    other = subprocess.run(command, capture_output=True, text=True, env=where, cwd=folder)
    assert other.returncode == 0, other.stderr
    one, two = json.loads(out), json.loads(other.stdout)
    assert {key for key in one if one[key] != two[key]} == {"settings"}
    assert list_steps(folder).keys() == {step.name for step in folder.glob("other/map/steps/*")}


def test_what_is_done_is_not_done_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "models" / "s10.safetensors"
    good = file.read_bytes()
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    code, _, errors = run(capsys, *WORDS)
    assert code == 2 and len(errors) == 1 and "hold NaN" in errors[0]
    kept = list_steps(folder)
    assert len(kept) == 4  # the broken one's outcomes are known, too
    file.write_bytes(good)
    assert run(capsys, *WORDS)[0] == 0
    whole = list_steps(folder)
    assert {name: whole[name] for name in kept} == kept and len(whole) == 4 + 1 + 6
    assert run(capsys, *WORDS)[0] == 0
    assert list_steps(folder) == whole
    assert run(capsys, *WORDS, "--barriers", "tree")[0] == 0  # judged at the level of all pairs, too
    assert list_steps(folder) == whole
    (folder / "map_models.py").write_text(MODELS + "\n# changed\n", encoding="utf-8")
    assert run(capsys, *WORDS, "--barriers", "none")[0] == 0
    assert len(list_steps(folder)) == len(whole) + 4


def test_units_are_matched_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    symmetry = mc.symmetry_of(load_models(folder)["s1"], load_suite()["cue"].inputs(torch.arange(2)))  # pyright: ignore
    for name, method in (("universe", mc.UniverseMatching()), ("weights", mc.WeightMatching())):
        code, out, errors = run(capsys, *WORDS, "--align", name, "--json")
        assert (code, errors) == (0, [])
        alone = mc.mechanism_map(load_models(folder), load_suite(), 0.1, ts=3, align=method, symmetry=symmetry)
        found = read_map(out)
        for row, other in zip(found.barrier, alone.barrier, strict=True):
            assert row == pytest.approx(other, abs=1e-6)
        assert found.alignment["method"] == alone.alignment["method"] and found.aligned
    text = (
        (folder / "audit.toml")
        .read_text(encoding="utf-8")
        .replace("margin = 0.1", 'margin = 0.1\nalignment = "universe"')
    )
    (folder / "audit.toml").write_text(text, encoding="utf-8")
    assert read_map(run(capsys, *WORDS, "--json")[1]).alignment["method"] == "universe matching"
    assert not read_map(run(capsys, *WORDS, "--align", "none", "--json")[1]).aligned
    code, out, errors = run(
        capsys, "audit", "models/s1.safetensors", "models/s2.safetensors", "--data", "audit.toml", "--json"
    )
    assert (code, errors) == (0, []) and json.loads(out)["alignment"]["settings"]["method"] == "universe matching"


def test_statistics_are_re_estimated_on_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        state = make_state(int(name[1:]))
        last = {f"3.{part}": state[f"2.{part}"] for part in ("weight", "bias")}
        own = {
            "weight": torch.ones(4),
            "bias": torch.zeros(4),
            "running_mean": torch.zeros(4),
            "running_var": torch.ones(4),
        }
        norm = {f"1.{part}": tensor for part, tensor in own.items()} | {"1.num_batches_tracked": torch.tensor(1)}
        first = {key: tensor for key, tensor in state.items() if key[0] == "0"}
        save_file({**first, **norm, **last}, folder / "models" / f"{name}.safetensors")
    text = TOML.replace("small", "normed")
    (folder / "audit.toml").write_text(text, encoding="utf-8")
    code, _, errors = run(capsys, *WORDS)
    assert code == 2 and len(errors) == 1 and "keep normalisation statistics (1)" in errors[0]
    code, out, _ = run(capsys, *WORDS, "--barriers", "none", "--json")
    assert code == 0 and read_map(out).basins == ()
    (folder / "audit.toml").write_text(text + '[norm]\ndata = "data/train.safetensors"\n', encoding="utf-8")
    code, out, errors = run(capsys, *WORDS, "--json")
    assert (code, errors) == (0, [])
    models = {n: mc.load_model("map_models:normed", folder / "models" / f"{n}.safetensors") for n in NAMES}
    data = load_splits({"train": "data/train.safetensors"})["train"]
    alone = mc.mechanism_map(models, load_suite(), 0.1, ts=3, norm=mc.Reestimate(data))
    assert read_map(out).barrier == alone.barrier and read_map(out).notes == alone.notes


def test_one_model_may_be_joined_with_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_map(run(capsys, *WORDS, "--barriers", "s10", "--points", "5", "--json")[1])
    assert [(pair.a, pair.b) for pair in found.pairs if pair.path] == [("s1", "s10"), ("s2", "s10"), ("s10", "s11")]
    assert len(found.ts) == 5


# ---------------------------------------------------------------- wrong input


def spoil_all(folder: Path) -> None:
    (folder / "models" / "s1.safetensors").write_bytes(b"\x10" + b"\0" * 40)
    save_file({"weight": torch.zeros(2, 2)}, folder / "models" / "s2.safetensors")


def add_second_name(folder: Path) -> None:
    torch.save(make_state(1), folder / "models" / "s1.pt")


def leave_one(folder: Path) -> None:
    for name in NAMES[1:]:
        (folder / "models" / f"{name}.safetensors").unlink()


def forget_factory(folder: Path) -> None:
    (folder / "audit.toml").write_text(TOML.partition("[model]")[0], encoding="utf-8")


def leave_as_it_is(folder: Path) -> None:
    assert folder.is_dir()


WRONG: dict[str, tuple[Any, tuple[str, ...], list[str]]] = {
    "two files that are broken": (
        spoil_all,
        (),
        ["s1.safetensors is of no kind", "the names in", "missing 4 (0.weight, 0.bias, 2.weight, 2.bias)"],
    ),
    "one name twice": (
        add_second_name,
        (),
        ["s1.pt and s1.safetensors both give a model the name 's1'; rename one of them"],
    ),
    "one model": (leave_one, (), ["a map needs two models or more, and models holds only s1.safetensors; add files"]),
    "no network": (
        forget_factory,
        (),
        ["s1.safetensors and 3 more hold weights without a network; pass --model package.module:function, or set"],
    ),
    "no factory": (leave_as_it_is, ("--model", "nowhere:build"), ["there is no module 'nowhere'"]),
    "no such method": (leave_as_it_is, ("--align", "universal"), ["got 'universal'; did you mean 'universe'?"]),
    "a method without data": (
        leave_as_it_is,
        ("--align", "activations"),
        ["--align activations needs training data to compare units on; name them under [norm], data"],
    ),
    "no such paths": (
        leave_as_it_is,
        ("--barriers", "some"),
        ["--barriers must be auto, none, tree, all or the name of a model (s1, s2, s10, s11), got 'some'"],
    ),
    "no such engine": (leave_as_it_is, ("--engine", "spark"), ["engine must be one of 'inline', 'processes', 'ray'"]),
    "workers of none": (leave_as_it_is, ("--workers", "2"), ["--workers is for --engine processes and --engine ray"]),
    "several at once": (
        leave_one,
        ("--engine", "spark", "--align", "universal"),
        ["did you mean 'universe'?", "a map needs two models", "engine must be one of"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_said_together(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words, expected = WRONG[case]
    spoil(folder)
    code, out, errors = run(capsys, *WORDS, *words)
    assert (code, out) == (2, "")
    for text in expected:
        assert any(text in line for line in errors), errors
    assert len(errors) <= len(expected) and not (folder / "map.html").exists()
    assert not list_steps(folder)


def test_a_folder_that_is_none_or_one_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, (line,) = run(capsys, "map", "nowhere", "--data", "audit.toml")
    assert code == 2 and line == (
        "mechconn: no folder nowhere; pass the folder that holds the models, a file or a folder for each"
    )
    (folder / "models" / "config.json").write_text("{}", encoding="utf-8")
    code, _, (line,) = run(capsys, *WORDS)
    assert code == 2 and "models is the folder of one model; pass the folder that holds several" in line


def test_a_model_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, (line,) = run(capsys, *WORDS, "-o", "models/s1.safetensors")
    assert code == 2 and "would overwrite models/s1.safetensors, which is read" in line


def test_data_beside_the_models_are_no_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (folder / "data").glob("*cue.safetensors"):
        shutil.move(file, folder / "models" / file.name)
    text = (folder / "audit.toml").read_text(encoding="utf-8").replace("data/", "models/")
    (folder / "audit.toml").write_text(text, encoding="utf-8")
    assert read_map(run(capsys, *WORDS, "--json")[1]).names == tuple(NAMES)


def test_saved_classifiers_in_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three of one architecture are mapped; with a fourth of another there are distances, and a note."""
    write_csv(folder / "data" / "cue.csv")
    write_csv(folder / "data" / "rand.csv", rows=12)
    for seed, name in enumerate("abc"):
        save_folder(folder / "berts" / name, make_bert(seed), make_tokenizer())
    (folder / "berts" / "notes").mkdir()
    toml = "[splits]\ncue = 'data/cue.csv'\nrand_cue = 'data/rand.csv'\n[text]\n"
    (folder / "text.toml").write_text(toml, encoding="utf-8")
    words = ("map", "berts", "--data", "text.toml", "--threads", "1")
    code, out, errors = run(capsys, *words, "--json")
    assert (code, errors) == (0, [])
    found = read_map(out)
    assert found.names == ("a", "b", "c") and all(pair.path is not None for pair in found.pairs)
    save_folder(folder / "berts" / "d", make_bert(3, hidden_act="relu"), make_tokenizer())
    code, _, errors = run(capsys, *words, "--barriers", "all")
    assert (
        code == 2 and len(errors) == 1 and errors[0].startswith("mechconn: model 'a' and model 'd' are not one module")
    )
    assert errors[0].endswith("; pass --barriers none for distances alone")
    code, out, errors = run(capsys, *words, "--barriers", "none", "--json")
    assert (code, errors) == (0, []) and read_map(out).basins == ()
    code, out, errors = run(capsys, *words, "--json")
    assert (code, errors) == (0, []) and read_map(out).notes[0].startswith(
        "no path was walked: model 'a' and model 'd'"
    )
    part = [[row[place] for place in range(3)] for row in read_map(out).distance[:3]]
    assert part == [list(row) for row in found.distance]


def test_adapters_on_one_base(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peft = pytest.importorskip("peft")
    base = folder / "models" / "s1.safetensors"
    for seed in range(3):
        with isolate_rng(seed, "lora"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks Transformers by names that it will drop
            settings = peft.LoraConfig(r=1, target_modules=["0"])
            adapted = peft.get_peft_model(mc.load_model("map_models:small", base), settings)
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=1.0)
            adapted.save_pretrained(folder / "adapters" / f"r{seed}")
    words = ("map", "adapters", "--data", "audit.toml", "--threads", "1", "--base", str(base), "--json")
    code, out, errors = run(capsys, *words)
    assert (code, errors) == (0, [])
    own = mc.load_model("map_models:small", base)
    models = {f"r{n}": mc.load_model(folder / "adapters" / f"r{n}", base=own) for n in range(3)}
    alone, found = mc.mechanism_map(models, load_suite(), 0.1, ts=3), read_map(out)
    assert found.distance == alone.distance and max(map(max, found.distance)) > 0.01
    for row, other in zip(found.barrier, alone.barrier, strict=True):
        assert row == pytest.approx(other, abs=1e-6)
