"""`mechconn merge` on classifiers of texts: merged and judged, merged alone, and judged when merged before."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import mechconn as mc
from mechconn.cli import main
from merge_files import change_json, read_folder, write_berts
from page import Page
from text_folders import write_csv

TOML = 'reference = "test"\n[splits]\ntest = "test.csv"\nother = "other.csv"\n[text]\n'


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classifiers with tokenizers, a base, and an audit.toml of two splits."""
    folder = tmp_path_factory.mktemp("merge")
    write_berts(folder, count=3, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    for seed, name in enumerate(("test", "other")):
        write_csv(folder / f"{name}.csv", 40 + 10 * seed)
    (folder / "audit.toml").write_text(TOML, encoding="utf-8")
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory of its own, with everything in it; links, since nothing of it is written to."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_with_its_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("merge a b c --data audit.toml -o merged --tolerance 0.2") == 0
    shown = capsys.readouterr()
    assert "360 forward passes of one row" in shown.err  # three parents and the merged one on 40 and 50 rows
    assert shown.out.startswith("May I merge a, b and c? ")
    assert shown.out.endswith("Folder: merged\nReport: merged/merge.html\n")
    names = ["config.json", "mechconn_merge.json", "merge.html", "merge.json", "model.safetensors"]
    assert sorted(file.name for file in Path("merged").iterdir()) == [*names, "tokenizer.json", "tokenizer_config.json"]
    states = [load_file(Path(name) / "model.safetensors") for name in "abc"]
    got = load_file("merged/model.safetensors")
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, sum(own[name] for own in states) / 3, rtol=1e-5, atol=1e-6)
    found: Any = mc.load_result("merged/merge.json")
    told = json.loads(Path("merged/mechconn_merge.json").read_text(encoding="utf-8"))
    assert told["verdict"] == {"verdict": found.verdict, "headline": found.headline}
    assert list(told["parents"]) == ["a", "b", "c"] and found.tolerance == 0.2
    assert "May I merge a, b and c?" in Page(Path("merged/merge.html").read_text(encoding="utf-8")).text
    model = transformers.BertForSequenceClassification.from_pretrained("merged")
    assert model.config.id2label == {0: "bad", 1: "good"}


def test_what_was_merged_here_is_judged_again_with_the_same_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("merge a b --data audit.toml -o merged --json") == 0
    first = json.loads(capsys.readouterr().out)
    assert run("merge merged --data audit.toml -o page.html --json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["before"]["differences"] == first["before"]["differences"] and again["names"] == ["a", "b"]
    assert again["method"] == {"method": "mean", "weights": None, "merged by": "mechconn"}
    assert Path("page.html").is_file()
    Path("b").unlink()
    Path("b").symlink_to("c")
    assert run("merge merged --data audit.toml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mechconn: the weights of b are not those that merged was merged of (SHA-256 in mechconn_me")
    advised = line.split("judge it against: mechconn ")[1]
    assert advised == "merge a b --judge merged --data audit.toml"
    assert run(f"{advised} --json") == 0
    assert json.loads(capsys.readouterr().out)["names"] == ["a", "b"]


CONFIGS = {
    "linear": "models:\n  - {model: ./a, parameters: {weight: 0.6}}\n  - {model: ./b, parameters: {weight: 0.4}}\n"
    "merge_method: linear\ndtype: float32\n",
    "ties": "models:\n  - model: PLACE/a\n    parameters: {weight: 1, density: 0.5}\n  - model: {model: {path: b}}\n"
    "  - model: c\nmerge_method: ties\nbase_model: c\n",
    "slerp": "slices:\n  - sources:\n    - {model: a, layer_range: [0, 1]}\n    - {model: b, layer_range: [0, 1]}\n"
    "merge_method: slerp\nbase_model: a\nparameters: {t: 0.5}\n",
}


@pytest.mark.parametrize("method", CONFIGS)
def test_what_mergekit_wrote_is_judged_against_the_parents_that_its_configuration_names(
    folder: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    mc.merge_folders({"a": "a", "b": "b"}, mc.Mean({"a": 0.6, "b": 0.4}), "theirs")
    Path("theirs/mechconn_merge.json").unlink()
    text = CONFIGS[method].replace("PLACE", str(folder))
    Path("theirs/mergekit_config.yml").write_text(text, encoding="utf-8")
    assert run("merge theirs --data audit.toml -o page.html --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["names"] == ["a", "b"] and found["method"]["method"] == method
    assert found["method"]["merged by"] == "mergekit"
    assert Page(Path("page.html").read_text(encoding="utf-8")).text.count("May I merge a and b?") >= 1


def test_parents_of_the_hub_must_be_passed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mc.merge_folders({"a": "a", "b": "b"}, mc.Mean(), "theirs")
    Path("theirs/mechconn_merge.json").unlink()
    config = "models:\n  - model: someone/x\n  - model: someone/y\nmerge_method: linear\n"
    Path("theirs/mergekit_config.yml").write_text(config, encoding="utf-8")
    assert run("merge theirs --data audit.toml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "mechconn: theirs/mergekit_config.yml names 'someone/x', 'someone/y', and there is no such file or folder "
        "here, in theirs or beside it; pass the folders of all parents: mechconn merge A B --judge theirs "
        "--data audit.toml"
    )
    advised = line.split("all parents: mechconn ")[1].replace("A B", "a b")
    assert run(f"{advised} --json") == 0
    assert json.loads(capsys.readouterr().out)["names"] == ["a", "b"]


def test_without_data_nothing_is_judged_and_no_network_is_built(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers, "AutoModelForSequenceClassification", None)
    assert run("merge a b -o merged --weights a=3,b=1 --shard-size 2KB") == 0
    shown = capsys.readouterr().out
    assert "merged: a and b merged by mean (weights {'a': 3.0, 'b': 1.0}); " in shown
    assert "Nothing was judged: pass --data audit.toml to know whether" in shown and "merging tensors" not in shown
    a, b = (load_file(f"{name}/model.safetensors") for name in "ab")
    for name, tensor in read_folder(Path("merged")).items():
        torch.testing.assert_close(tensor, 0.75 * a[name] + 0.25 * b[name], rtol=1e-5, atol=1e-6)
    assert run("merge a b -o again --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] is None and told["folder"] == "again" and told["parents"] == ["a", "b"]


def test_methods_and_their_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = TOML + '[merge]\nmethod = {name = "ties", density = 0.5}\ntolerance = 0.3\n'
    Path("own.toml").write_text(toml, encoding="utf-8")
    assert run("merge a b --base c --data own.toml -o ties --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["method"]["density"] == 0.5 and found["tolerance"] == 0.3
    assert run("merge a b --base c -o alone --method '{name=\"ties\", density=0.5}'") == 0
    one, other = read_folder(Path("ties")), read_folder(Path("alone"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    told = json.loads(Path("ties/mechconn_merge.json").read_text(encoding="utf-8"))
    assert told["base"]["path"] == "../c"


def test_rows_that_choose_networks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("choose.csv"), 20)
    toml = TOML + '[merge]\nmethod = "greedy_soup"\ndata = "choose.csv"\n'
    Path("own.toml").write_text(toml, encoding="utf-8")
    assert run("merge a b c --data own.toml -o soup --json") == 0
    assert json.loads(capsys.readouterr().out)["method"]["data"] == "choose.csv"
    Path("none.toml").write_text(TOML + '[merge]\nmethod = "greedy_soup"\n', encoding="utf-8")
    assert run("merge a b c --data none.toml -o other") == 2
    assert (
        "'greedy_soup' reads rows that choose or weigh the networks; name them under [merge]" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_one_order_of_units(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("merge a b --align universe --data audit.toml -o merged --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["after"] is not None and found["alignment"]
    toml = TOML + '[merge]\nalign = "weights"\nonto = "b"\n'
    Path("own.toml").write_text(toml, encoding="utf-8")
    assert run("merge a b --data own.toml -o onto --json") == 0
    assert json.loads(capsys.readouterr().out)["alignment"]["settings"]["onto"] == "b"
    assert run("merge a b --data audit.toml --align weights -o first --json") == 0
    assert json.loads(capsys.readouterr().out)["alignment"]["settings"]["onto"] == "a"


def test_numbers_keep_their_type(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        model = transformers.BertForSequenceClassification.from_pretrained(name, dtype=torch.bfloat16)
        model.save_pretrained(f"{name}16")
    change_json(Path("a16/config.json"), tie_word_embeddings=True)
    change_json(Path("b16/config.json"), tie_word_embeddings=True)
    Path("own.toml").write_text(TOML + 'tokenizer = "a"\n', encoding="utf-8")
    assert run("merge a16 b16 --data own.toml -o merged") == 0
    assert "what was judged is float32, and is written in bfloat16 as its parents are" in capsys.readouterr().out
    assert {tensor.dtype for tensor in read_folder(Path("merged")).values()} == {torch.bfloat16}
    assert transformers.AutoConfig.from_pretrained("merged").dtype == torch.bfloat16


def test_rows_are_read_until_the_verdicts_are_settled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of splits below the first look all rows are read, and everything is as without."""
    assert run("merge a b --data audit.toml -o merged --json --until settled") == 0
    shown = capsys.readouterr()
    found, told = json.loads(shown.out), "rows were read as far as the verdicts needed them: test all 40, other all 50"
    assert "at most 270 forward passes of one row" in shown.err and told in found["notes"]
    assert found["settings"]["until"] == "settled"
    Path("settled.toml").write_text(f'until = "settled"\n{TOML}', encoding="utf-8")
    assert run("merge merged --data settled.toml -o page.html --json") == 0
    assert json.loads(capsys.readouterr().out)["before"]["differences"] == found["before"]["differences"]
    for words, says in {
        "merge a b -o other --until settled": "--until needs --data audit.toml: without it nothing is judged",
        "merge a b -o other --data audit.toml --until now": "--until must be one of 'end', 'settled', got 'now'",
    }.items():
        assert run(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
