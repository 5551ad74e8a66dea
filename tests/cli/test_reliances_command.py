"""`mechconn reliances` and `mechconn dose`: what one model relies on, from files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, write_class_folder, write_set
from mechconn.cli import main
from mechconn.core import isolate_rng, select_rows
from mechconn.datasets import load, load_column, load_splits
from mechconn.interventions import SwapColumn
from text_folders import make_bert, make_tokenizer, save_folder, write_csv

with isolate_rng(0, "import"):
    import transformers

MODELS = """
from torch import nn

def first():
    return nn.Linear(3, 2)

def images():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
ROWS = 800
TOML = """
margin = 0.1
cluster = "patient"
[splits]
test = "rows.safetensors"
[interventions]
read = { name = "swap-column", columns = 0, donors = "others.safetensors" }
unread = { name = "swap-column", columns = 1, donors = "others.safetensors" }
[model]
factory = "reliance_models:first"
"""
SMALL: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    """(exit status, standard output, lines of errors)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, [line for line in shown.err.splitlines() if line.startswith("mechconn: ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network that reads the sign of the first of three columns, and rows for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reliance_models.py").write_text(MODELS, encoding="utf-8")
    weight = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    save_file({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "first.safetensors")
    draw = torch.Generator().manual_seed(0)
    for name in ("rows", "others"):
        x, row = torch.randn(ROWS, 3, generator=draw), torch.arange(ROWS)
        tensors = {"x": x, "y": (x[:, 0] > 0).long(), "place": row % 3, "patient": row // 4}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    (tmp_path / "audit.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def write_photos(folder: Path) -> None:
    for label, name in enumerate(("bird", "fish")):
        write_class_folder(
            folder / "photos" / name, {f"{row}.png": pixels(20 * label + row, side=8) for row in range(12)}
        )


def test_it_finds_the_column_that_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("first.safetensors", "rows.safetensors", "--model", "reliance_models:first", "--seed", "3")
    code, out, _ = run(capsys, "reliances", *words, "--json")
    assert code == 0
    found = mc.load_result(json.loads(out))
    assert isinstance(found, mc.Reliances)
    assert (found.relies_on, found.invariant_to) == (("swap-column 0",), ("swap-column 1", "swap-column 2"))
    alone = mc.reliances(
        mc.load_model("reliance_models:first", "first.safetensors"),
        load_splits({"data": "rows.safetensors"})["data"],
        seed=3,
    )
    assert {name: found[name] for name in found} == {name: alone[name] for name in alone}
    (note,) = set(found.invariance.notes) - set(alone.invariance.notes)
    assert re.fullmatch(r"first\.safetensors \(SHA-256 [0-9a-f]{12}\) on 800 rows of rows\.safetensors", note)
    code, out, _ = run(capsys, "reliances", *words, "--rows", "100", "--margin", "0.2", "-o", "few.html")
    assert code == 0 and out.endswith("\n\nReport: few.html\n") and "on 100 rows" in out and "margin 0.2" in out
    page = (folder / "few.html").read_text(encoding="utf-8")
    assert "swap-column 0" in page and "on 100 rows of rows.safetensors" in page


def test_a_configuration_says_what_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(capsys, "reliances", "first.safetensors", "audit.toml", "--json")
    assert (code, errors) == (0, [])
    found = mc.load_result(json.loads(out))
    assert isinstance(found, mc.Reliances)
    assert list(found) == ["read", "unread"] and found.invariance.margin == 0.1
    assert found.invariance.clusters["unread"] == ROWS // 4
    data, others = (load_splits({"": f"{name}.safetensors"})[""] for name in ("rows", "others"))
    model, rows = mc.load_model("reliance_models:first", "first.safetensors"), torch.arange(ROWS)
    named = {name: SwapColumn(columns=column, donors=others) for column, name in enumerate(found)}
    alone = mc.reliances(model, data, named, margin=0.1, cluster=rows // 4)
    assert {name: found[name] for name in found} == {name: alone[name] for name in alone}


def test_some_rows_keep_their_side_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = TOML.replace('donors = "others.safetensors"', 'within = "place"').replace('cluster = "patient"', "")
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    code, out, errors = run(capsys, "reliances", "first.safetensors", "audit.toml", "--rows", "400", "--json")
    assert (code, errors) == (0, [])
    found = mc.load_result(json.loads(out))
    model, rows = mc.load_model("reliance_models:first", "first.safetensors"), torch.arange(ROWS)[::2]
    half = select_rows(load_splits({"": "rows.safetensors"})[""], rows)
    named = {name: SwapColumn(columns=column, within=rows % 3) for column, name in enumerate(("read", "unread"))}
    alone = mc.reliances(model, half, named, margin=0.1)
    assert isinstance(found, mc.Reliances) and {name: found[name] for name in found} == {n: alone[n] for n in alone}
    (folder / "audit.toml").write_text(TOML, encoding="utf-8")
    code, out, _ = run(capsys, "reliances", "first.safetensors", "audit.toml", "--rows", "400", "--json")
    assert {*json.loads(out)["invariance"]["clusters"].values()} == {ROWS // 4}  # two rows of each


def test_those_of_a_configuration_can_be_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(TOML.replace('cluster = "patient"', ""), encoding="utf-8")
    _, out, _ = run(capsys, "reliances", "first.safetensors", "audit.toml", "--interventions", "all", "--json")
    assert [*json.loads(out)["applied"]] == ["swap-column 0", "swap-column 1", "swap-column 2"]


def test_clusters_go_with_donors_from_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("reliances", "first.safetensors", "audit.toml", "--json", "--interventions")
    code, _, errors = run(capsys, *words, "all")
    assert code == 2 and len(errors) == 1
    assert errors[0].endswith(
        "stand in for each other; leave cluster= out, or name them with donors=, or with within= the clusters"
    )
    code, out, _ = run(capsys, *words, '{name="swap-column", donors="others.safetensors"}')
    assert code == 0 and len(json.loads(out)["applied"]) == 3


def test_what_changes_labels_is_left_out_unless_it_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = mc.load_model("reliance_models:images").state_dict()
    save_file(network, folder / "images.safetensors")
    for label, name in enumerate("27"):
        write_class_folder(folder / "signs" / name, {f"{row}.png": pixels(20 * label + row) for row in range(6)})
    words = ("images.safetensors", "signs", "--model", "reliance_models:images", "--interventions", "flip,grey")
    code, out, _ = run(capsys, "reliances", *words)
    assert code == 0 and "  left out: flip (it changes the label for people: classes are digits" in out
    code, out, _ = run(capsys, "reliances", *words, "--keep-label-changing")
    assert code == 0 and "left out" not in out and "flip changes the label for people, and is kept" in out
    assert (folder / "reliances.html").read_text(encoding="utf-8").count('class="strip"') == 3  # with those unchanged


def test_a_saved_classifier_of_images_gets_its_own_inputs_and_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(folder)
    with isolate_rng(0, "vit"):
        config = transformers.ViTConfig(image_size=16, patch_size=8, id2label={0: "fish", 1: "bird"}, **SMALL)
        transformers.ViTForImageClassification(config).eval().save_pretrained(folder / "vit")
    scale = {"size": {"height": 16, "width": 16}, "image_mean": [0.2, 0.3, 0.4], "image_std": [0.5] * 3}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(scale), encoding="utf-8")
    code, out, errors = run(capsys, "reliances", "vit", "photos", "--interventions", "grey,blur", "--json")
    assert (code, errors) == (0, [])
    record = json.loads(out)
    assert any("put into the order that the data gives their names" in n for n in record["invariance"]["notes"])
    data = load_splits({"": "photos"}, size=16, mean=[0.2, 0.3, 0.4], std=[0.5] * 3)[""]
    swapped = mc.load_model("vit")
    head: Any = swapped.classifier
    with torch.no_grad():
        for part in (head.weight, head.bias):
            part.copy_(part.flip(0).clone())
    swapped.config.id2label = {0: "bird", 1: "fish"}  # pyright: ignore
    alone = mc.reliances(swapped, data, ["grey", "blur"])
    assert record["invariance"]["accuracy"] == pytest.approx(dict(alone.invariance.accuracy))


def test_a_saved_classifier_of_texts_brings_its_tokenizer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(folder / "bert", make_bert(), make_tokenizer())
    write_csv(folder / "films.csv")
    words = ("reliances", "bert", "films.csv", "--interventions", "user_defined_data:MaskTokens")
    code, out, errors = run(capsys, *words, "--rows", "20", "--json")
    assert (code, errors) == (0, [])
    record = json.loads(out)
    assert [*record["applied"]] == ["MaskTokens"] and record["invariance"]["samples"]["MaskTokens"] == 20
    assert len(load_column("films.csv", "place")) == 30


def test_dose_runs_along_the_strength(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = '{name="swap-column", columns=0}'
    words = ("first.safetensors", "rows.safetensors", named, "--model", "reliance_models:first", "--strengths", "3")
    code, out, errors = run(capsys, "dose", *words, "--json")
    assert (code, errors) == (0, [])
    found = mc.load_result(json.loads(out))
    assert isinstance(found, mc.DoseResponse) and [dose.strength for dose in found] == [0.0, 0.5, 1.0]
    model = mc.load_model("reliance_models:first", "first.safetensors")
    data = load_splits({"data": "rows.safetensors"})["data"]
    alone = mc.measure_dose_response(model, data, SwapColumn(columns=0), 3)
    assert found.doses == alone.doses
    code, out, _ = run(capsys, "dose", "first.safetensors", "audit.toml", "unread", "--strengths", "3")
    assert code == 0 and "is within the margin of 10 points at every strength up to 1" in out
    assert (folder / "dose.html").is_file()


def test_a_set_by_name_is_measured_on_its_test_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(folder / "sets" / "cifar10", train=12, test=10, classes=2)
    save_file(mc.load_model("reliance_models:images").state_dict(), folder / "images.safetensors")
    words = ("images.safetensors", "cifar10", "--root", "sets", "--model", "reliance_models:images")
    code, out, _ = run(capsys, "reliances", *words, "--interventions", "grey")
    assert code == 0 and "on 10 rows of cifar10#test" in out
    assert len(load("cifar10", root="sets", split="test")) == 10


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("none.safetensors nothing --model reliance_models:first", ["no file or folder nothing", "none.safetensors"]),
        (
            "none.safetensors rows.safetensors --model reliance_models:first --interventions gray",
            ["none.safetensors", "'gray' must be one of .*; did you mean 'grey'"],
        ),
        ("first.safetensors rows.safetensors", ["holds weights without a network; pass --model"]),
        ("first.safetensors rows.safetensors --model reliance_models:images", ["reliance_models:images|missing"]),
        (
            "first.safetensors rows.safetensors --model reliance_models:first --interventions grey",
            ["Grey needs images of shape"],
        ),
        (
            "first.safetensors rows.safetensors --margin 0 --rows 0 --device tpu -o no/page.html",
            ["device must be one of", "cannot be written to no/page.html", "margin must be a", "rows must be"],
        ),
        ("first.safetensors audit.tml", ["dataset must be one of .*'audit.tml'"]),
        ("first.safetensors other.toml", ["no configuration file other.toml"]),
        ("first.safetensors rows.safetensors -o rows.safetensors", ["the result would overwrite rows.safetensors"]),
    ],
)  # fmt: skip
def test_mistakes_are_told_together_a_line_each(
    folder: Path, words: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "reliances", *words.split())
    assert code == 2 and out == "" and len(errors) == len(texts), errors
    for line, text in zip(errors, texts, strict=True):
        assert re.search(text, line), line


def test_dose_needs_one_intervention_with_a_strength(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "user_made.py").write_text("def same(x, draws):\n    return x.clone()\n", encoding="utf-8")
    words = ("dose", "first.safetensors", "rows.safetensors")
    for named, text in (
        ("all", "one intervention is needed, by its name or as a table, got 'all'"),
        ("user_made:same", "strength"),
    ):
        code, _, errors = run(capsys, *words, named, "--model", "reliance_models:first")
        assert code == 2 and len(errors) == 1 and text in errors[0], errors


def test_the_scale_of_images_is_noted_where_nothing_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(folder)
    (folder / "flat_models.py").write_text(
        "from torch import nn\ndef flat(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n", encoding="utf-8"
    )
    save_file({"1.weight": torch.ones(2, 192), "1.bias": torch.zeros(2)}, folder / "flat.safetensors")
    words = ("flat.safetensors", "--model", "flat_models:flat", "--interventions", "blur")
    code, out, errors = run(capsys, "reliances", words[0], "photos", *words[1:])
    assert code == 0, errors
    assert "note: images are in [-1, 1]; of a network that was trained with a mean and std pass --mean and --std" in out
    scale = "[splits]\ntest = 'photos'\n[images]\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\n"
    (folder / "scaled.toml").write_text(scale, encoding="utf-8")
    code, out, errors = run(capsys, "reliances", words[0], "scaled.toml", *words[1:])  # the remedy
    assert code == 0 and "images are in [-1, 1]" not in out, errors
    named = ("--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2")
    code, by_options, errors = run(capsys, "reliances", words[0], "photos", *words[1:], *named)  # the other
    assert code == 0 and "images are in [-1, 1]" not in by_options, errors
    assert by_options.splitlines()[:6] == out.splitlines()[:6]
    for wrong, text in (
        (("--mean", "0.5"), "--mean and --std go together"),
        (("--mean", "a,b,c", "--std", "1,1,1"), "must be numbers with commas between, got a,b,c and 1,1,1"),
        (("--mean", "0,0", "--std", "1,1"), "mean and std must be one number or one for each channel"),
    ):
        code, _, errors = run(capsys, "reliances", words[0], "photos", *words[1:], *wrong)
        assert code == 2 and len(errors) == 1 and text in errors[0]


def test_files_of_features_that_are_not_read_name_the_one_that_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "table.csv").write_text("age,debt,label\n1,2,0\n3,4,1\n", encoding="utf-8")
    torch.save({"x": torch.zeros(2, 3)}, folder / "table.pt")
    for name, text in (
        ("table.csv", "a table of features is read from a .safetensors file of x [N, D] and labels y [N]"),
        ("table.pt", "table.pt is no file of images, texts or a table that is read; save tensors as .safetensors"),
        ("none.csv", "no folder none.csv"),
    ):
        code, _, errors = run(capsys, "reliances", "first.safetensors", name, "--model", "reliance_models:first")
        assert code == 2 and text in errors[0]
