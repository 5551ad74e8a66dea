"""`mechconn init`: what it finds, and a configuration that runs as it stands and explains all else."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from image_files import pixels, png, pngs, write, write_class_folder
from mechconn.cli import main
from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._config_text import find_table, write_value
from mechconn.core import Config, isolate_rng, read_config
from text_folders import make_bert, make_tokenizer, save_folder, sentences, write_csv

with isolate_rng(0, "import"):
    import transformers

SMALL: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CLASSES = ("bird", "fish")
NETWORK = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
"""


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, shown.err


def write_photos(folder: Path) -> None:
    """Folders of classes below train/ and test/, and two saved classifiers of them."""
    for number, split in enumerate(("train", "test")):
        for label, name in enumerate(CLASSES):
            images = {f"{row}.png": pixels(40 * number + 20 * label + row, side=8) for row in range(12)}
            write_class_folder(folder / "photos" / split / name, images)
    for seed, name in enumerate("ab"):
        with isolate_rng(seed, "vit"):
            config = transformers.ViTConfig(image_size=16, patch_size=8, id2label=dict(enumerate(CLASSES)), **SMALL)
            transformers.ViTForImageClassification(config).eval().save_pretrained(folder / name)
        scale = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (folder / name / "preprocessor_config.json").write_text(json.dumps(scale), encoding="utf-8")


def write_table(folder: Path) -> None:
    """A table of images with a column of places, one of patients, and one of fractions."""
    (folder / "images").mkdir()
    lines = ["file,label,place,patient,share,split"]
    for row in range(96):
        (folder / "images" / f"{row}.png").write_bytes(png(pixels(row, side=8)))
        place = ("land", "sea")[(row + (row // 2 % 3 == 0)) % 2]
        patient = row // 2
        split = "train" if row < 24 else "test"
        lines.append(f"images/{row}.png,{CLASSES[row % 2]},{place},{patient},0.{row},{split}")
    (folder / "birds.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tensors(folder: Path) -> None:
    """Rows of four numbers with a column that mostly agrees with the label, and weights of two networks."""
    y = torch.arange(80) % 2
    place = torch.where(torch.arange(80) % 10 < 7, y, 1 - y)
    x = torch.stack([y, place, y, place], 1).float()
    save_file({"x": x, "y": y, "place": place, "again": 3 - y}, folder / "rows.safetensors")
    for seed, name in enumerate("ab"):
        weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
        save_file({"1.weight": weight, "1.bias": torch.zeros(2)}, folder / f"{name}.safetensors")
    (folder / "init_models.py").write_text(NETWORK, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(name: str = "audit.toml") -> dict[str, Any]:
    return tomllib.loads(Path(name).read_text(encoding="utf-8"))


def list_settings(text: str) -> Iterator[tuple[str, str, str]]:
    """(line of the table or "", the commented line, its key) of every setting that is not made."""
    table = ""
    for line in text.splitlines():
        if re.match(r"#?\[", line):
            table = line
        elif found := re.match(r"#([\w-]+) = ", line):
            yield table, line, found[1]


def uncomment(text: str, chosen: Callable[[str, str], bool]) -> str:
    """The configuration with the settings (table, key) that are chosen, and their tables."""
    wanted = {(table, line) for table, line, key in list_settings(text) if chosen(table.strip("#[]"), key)}
    opened, lines, here = {table for table, _ in wanted}, [], ""
    for line in text.splitlines():
        here = line if re.match(r"#?\[", line) else here
        lines.append(line.removeprefix("#") if line in opened or (here, line) in wanted else line)
    return "\n".join(lines)


def test_folders_of_classes_and_saved_classifiers_are_audited_unchanged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(folder)
    code, shown, _ = run("init .", capsys)
    assert code == 0
    command = "mechconn audit a b --data audit.toml -o audit.html"
    assert shown.splitlines() == [
        "Found in .:",
        "  photos: images, train, test",
        "  a: a saved model",
        "  b: a saved model",
        "Wrote audit.toml: split test, and turned, moved, tinted made of it.",
        "The model that is named first is A: the one that B was made from, or that you use now.",
        f"Next: {command}",
        "Or, for one model: mechconn reliances a audit.toml -o reliances.html",
    ]
    found = read()
    assert found["splits"] == {"test": "photos#test"} and found["norm"] == {"data": "photos#train"}
    assert found["images"] == {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3} and found["reference"] == "test"
    assert read_config("audit.toml", AuditConfig).made_splits == found["interventions"]
    code, shown, error = run(f"{command.removeprefix('mechconn ')} --json", capsys)
    assert code == 0, error
    record = json.loads(shown)
    assert list(record["comparison"]["a"]["effects"]) == ["turned", "moved", "tinted"] and record["names"] == ["a", "b"]


NEEDED = {"agrees": {"by"}, "majority": {"by"}, "std": {"mean"}, "mean": {"std"}, "control": {"data", "split"}}
"""Setting -> what it cannot be set without."""
REQUIRED = {"relearn": {"data", "control", "split"}, "groups": {"columns"}}
"""Table -> what it needs."""


def test_every_setting_is_shown_and_each_comment_can_be_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(folder)
    assert run("init .", capsys)[0] == 0
    text = (
        (folder / "audit.toml")
        .read_text(encoding="utf-8")
        .replace("column_only", "moved")
        .replace("rand_image", "moved")
    )
    settings = [(table.strip("#[]"), key) for table, _, key in list_settings(text)]
    shown = {*settings, *(("", key) for key in read())}
    shown |= {(table, key) for table, part in read().items() if isinstance(part, dict) for key in part}
    tables = {name: find_table(part) for name, part in AuditConfig.model_fields.items()}
    expected = {("", name) for name, inner in tables.items() if inner is None} - {("", "metrics"), ("", "agrees")}
    expected |= {(name, key) for name, inner in tables.items() if inner for key in inner.model_fields}
    assert expected - shown == {("relearn", "placebo")}  # which no control goes with
    assert "# placebo: in place of a control" in text and "#[agrees]" in text and "#[metrics]" in text
    for table, key in settings:
        keys = {key} | NEEDED.get(key, set()) | NEEDED.get(table, set()) | REQUIRED.get(table, set())
        asked = uncomment(text, lambda t, k, table=table, keys=keys: k in keys and t in (table, ""))
        assert AuditConfig.model_validate(tomllib.loads(asked)), key
    every = uncomment(text, lambda table, key: True)
    assert AuditConfig.model_validate(tomllib.loads(every)).by == "place"


def test_a_table_with_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder)
    code, shown, _ = run("init . -o notes/../audit.toml", capsys)
    assert code == 2 and "cannot be written" in _
    code, shown, _ = run("init .", capsys)
    assert code == 0 and "birds.csv: images, test, train; columns file, label, place, patient, share, split" in shown
    assert "Next: mechconn audit A B --data audit.toml --model package.module:function -o audit.html\n" in shown
    text = (folder / "audit.toml").read_text(encoding="utf-8")
    assert "# test has the column place, of 2 values: land, sea" in text
    assert "has the column share" not in text  # of fractions
    assert '#by = "place"' in text and '#cluster = "patient"' in text and '#columns = ["label", "place"]' in text
    assert '#majority = "birds.csv#train"' in text
    asked = uncomment(text, lambda table, key: key in ("by", "cluster", "majority") or table == "groups")
    config = AuditConfig.model_validate(tomllib.loads(asked.replace('reference = "test"', "")))
    assert config.by == "place" and config.reference == "agree" and config.groups is not None
    assert (config.groups.columns, config.groups.train) == (["label", "place"], "birds.csv#train")


def test_the_column_that_names_the_shortcut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder)
    _, shown, _ = run("init .", capsys)
    (again,) = re.findall(r"^Is place the shortcut\? mechconn (.*)$", shown, re.MULTILINE)
    code, shown, _ = run(again, capsys)
    assert code == 0 and "Wrote audit.toml: split test, divided by place." in shown
    assert read() == {"by": "place", "splits": {"test": "birds.csv#test"}, "norm": {"data": "birds.csv#train"}}
    table = (folder / "birds.csv").read_text(encoding="utf-8").replace(",train\n", ",other\n")
    (folder / "birds.csv").write_text(table, encoding="utf-8")
    save_file({"1.running_mean": torch.zeros(2)}, folder / "a.safetensors")
    run(again, capsys)
    assert read()["norm"] == {"policy": "interpolate"}  # networks with statistics, and no training data
    code, _, error = run("init . --by plce --force", capsys)
    assert code == 2 and "has no column 'plce' that rows could be divided by" in error
    assert "did you mean 'place'?" in error and read()["by"] == "place"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def build(width=3):\n    raise RuntimeError('this ran')", "nets:build"),
        ("def loss(z, y):\n    pass\ndef _make():\n    pass", "package.module:function"),
        ("def build():\n    pass\ndef make_other():\n    pass", "package.module:function"),
        ("def helper():\n    pass\ndef make(*, width=1):\n    pass", "nets:make"),
        ("def main():\n    pass", "package.module:function"),
        ("def train_model():\n    pass\ndef build_dataset():\n    pass\ndef net():\n    pass", "nets:net"),
        ("def build(:", "package.module:function"),
    ],
)
def test_the_function_that_builds_is_found_and_not_run(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    for file in folder.glob("*.py"):
        file.unlink()
    (folder / "nets.py").write_text(text, encoding="utf-8")
    for other in ("conftest.py", "test_nets.py", "my-nets.py"):  # no modules of networks, or no modules
        (folder / other).write_text("def build():\n    pass\n", encoding="utf-8")
    code, shown, error = run("init .", capsys)
    assert (code, error) == (0, "") and f" --model {named} " in shown


def test_by_takes_the_table_that_has_the_column_and_the_training_majority(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(folder)
    table = folder / "birds.csv"
    head, *rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]

    def write(file: Path, lines: list[list[str]]) -> None:
        file.write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")

    write(folder / "a_copy.csv", [line[:2] + line[3:] for line in (head, *rows)])  # without the place, and found first
    assert run("init . --by place", capsys)[0] == 0
    assert read()["splits"] == {"test": "birds.csv#test"} and "majority" not in read()
    # As many of each place in every class of the test rows: only the training rows have a majority.
    even = [
        [*row[:2], ("land", "sea")[i // 2 % 2] if row[-1] == "test" else row[2], *row[3:]] for i, row in enumerate(rows)
    ]
    write(table, [head, *even])
    assert run("init . --by place --force", capsys)[0] == 0
    assert (read()["by"], read()["majority"]) == ("place", "birds.csv#train")
    write(table, [head, *(row for row in even if row[-1] == "test")])
    code, _, error = run("init . --by place --force", capsys)
    assert code == 2 and error.startswith("mechconn: birds.csv cannot be divided by 'place': in every class one value")


def test_what_is_read_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder)
    write_tensors(folder)
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    for name in ("birds.csv", "a.safetensors"):
        code, _, error = run(f"init . --force -o {name}", capsys)
        assert code == 2 and error == (
            f"mechconn: the result would overwrite {name}, which is read; name another file with -o\n"
        )
    words = "reliances a.safetensors birds.csv#test -o birds.csv --model init_models:build"
    assert "would overwrite birds.csv" in run(words, capsys)[2]
    assert {file: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


def test_raw_texts_and_saved_classifiers_are_audited_unchanged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate("ab"):
        save_folder(folder / name, make_bert(seed, id2label={0: "good", 1: "bad"}), make_tokenizer())
    texts, labels = sentences(60)
    rows = [
        {"text": text, "label": label, "place": "sea" if (label == "good") == (row % 10 < 7) else "land",
         "split": "train" if row < 10 else "test"}
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]  # fmt: skip
    (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    code, shown, _ = run("init .", capsys)
    assert code == 0 and "  reviews.jsonl: texts, test, train; columns label, place, split" in shown.splitlines()
    assert "Next: mechconn audit a b --data audit.toml -o audit.html" in shown
    assert read() == {
        "by": "place",
        "splits": {"test": "reviews.jsonl#test"},
        "text": {"column": "text", "max_length": 32},
    }
    code, shown, error = run("audit a b --data audit.toml --json", capsys)
    assert code == 0, error
    assert json.loads(shown)["comparison"]["a"]["interventions"] == ["conflict"]
    text = (folder / "audit.toml").read_text(encoding="utf-8")
    config = AuditConfig.model_validate(tomllib.loads(uncomment(text, lambda table, key: table != "images")))
    assert config.norm.data == "reviews.jsonl#train" and config.relearn is not None
    assert (config.relearn.split, config.text and config.text.label) == ("column_only", "label")


def test_splits_without_labels_are_left_out_and_all_that_is_missing_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As competitions give test data; the command is one that a shell reads."""
    rows = [*((f"text {row}", row % 2, "train") for row in range(20)), ("a film", "", "test"), ("dull", 1, "dev")]
    lines = ["text,label,split", *(",".join(map(str, row)) for row in rows)]
    (folder / "my texts").mkdir()
    (folder / "my texts" / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = run("init 'my texts' -o 'my audit.toml'", capsys)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        "  my texts/all.csv: texts, dev, train; columns label, split",
        "  my texts/all.csv#test: not read (my texts/all.csv row 20: column 'label' is empty; every row needs a label)",
        "Wrote my audit.toml: split dev, and shuffled made of it.",
        "To be added: a tokenizer for the texts: name its folder under [text], tokenizer.",
        "Next: mechconn audit A B --data 'my audit.toml' --model package.module:function -o audit.html",
        "Or, for one model: mechconn reliances A 'my audit.toml' --model package.module:function -o reliances.html",
    ]
    assert tomllib.loads((folder / "my audit.toml").read_text())["splits"] == {"dev": "my texts/all.csv#dev"}
    for row in (0, 21):
        rows[row] = (rows[row][0], "", rows[row][2])
    lines = ["text,label,split", *(",".join(map(str, row)) for row in rows)]
    (folder / "my texts" / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, _ = run("init 'my texts' --force", capsys)
    assert code == 0
    assert "  my texts/all.csv: not read (my texts/all.csv row 21: column 'label' is empty; every row needs a" in out


def test_many_folders_of_classes_are_looked_into_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in map(str, range(30)):
        write_class_folder(folder / "many" / "train" / name, {"a.png": pixels(1), "b.png": pixels(2)})
        write_class_folder(folder / "many" / "test" / name, {"c.png": pixels(3)})
    searched: list[str] = []
    rglob = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, what: (searched.append(what), rglob(self, what))[1])
    code, out, _ = run("init many", capsys)
    assert code == 0 and "  many: images, train, test" in out
    assert len(searched) < 30


def test_texts_without_a_tokenizer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(folder / "cue.csv")
    write_csv(folder / "other.csv")
    code, shown, _ = run("init .", capsys)
    assert code == 0 and "To be added: a tokenizer for the texts: name its folder under [text], tokenizer." in shown
    assert read() == {
        "reference": "cue", "splits": {"cue": "cue.csv", "other": "other.csv"}, "text": {"column": "text"}
    }  # fmt: skip
    make_tokenizer().save_pretrained(folder / "words")  # which is no model, so nobody knows whose it is
    (folder / "words" / "config.json").write_text("{}", encoding="utf-8")
    code, shown, _ = run("init . --force", capsys)
    assert code == 0 and "To be added" in shown


def test_tensors_are_divided_by_a_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tensors(folder)
    code, shown, _ = run("init .", capsys)
    assert code == 0 and "rows.safetensors: tensors, rows; columns again, place" in shown
    assert "Wrote audit.toml: split rows, divided by place." in shown
    assert read() == {"by": "place", "splits": {"rows": "rows.safetensors"}}  # `again` is the label by another name
    (command,) = re.findall("Next: mechconn (.*)", shown)
    assert command.startswith("audit a.safetensors b.safetensors --data audit.toml --model")
    code, shown, error = run(f"{command.replace('package.module:function', 'init_models:build')} --json", capsys)
    assert code == 0, error
    assert json.loads(shown)["comparison"]["a"]["interventions"] == ["conflict"]


def test_one_split_of_a_table_or_of_texts_gets_interventions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tensors(folder)
    x, y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    save_file({"x": x, "y": y}, folder / "rows.safetensors")
    code, shown, _ = run("init .", capsys)
    made = [f"column-{column}" for column in range(4)]
    assert code == 0 and f"Wrote audit.toml: split rows, and {', '.join(made)} made of it." in shown
    assert list(read()["interventions"]) == made
    assert "# Also: bin-column. mechconn data FILE shows" in (folder / "audit.toml").read_text(encoding="utf-8")
    (command,) = re.findall("Or, for one model: mechconn (.*)", shown)
    assert command == "reliances a.safetensors audit.toml --model init_models:build -o reliances.html"
    code, shown, error = run(f"{command.replace('package.module:function', 'init_models:build')} --json", capsys)
    assert code == 0, error
    assert {*json.loads(shown)["applied"]} == {*made}
    (folder / "films").mkdir()
    write_csv(folder / "films" / "films.csv", rows=12)
    save_folder(folder / "films" / "bert", make_bert(id2label={0: "good", 1: "bad"}), make_tokenizer())
    code, shown, _ = run("init films -o films.toml", capsys)
    assert code == 0 and list(read("films.toml")["interventions"]) == ["shuffled"]
    assert run("reliances films/bert films.toml --json", capsys)[0] == 0


def test_splits_of_a_cue_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rand_cue", "cue", "other", "train"):
        for label in CLASSES:
            write_class_folder(folder / "data" / name / label, {f"{row}.png": pixels(row) for row in range(3)})
    assert run("init data -o data/audit.toml", capsys)[0] == 0
    found = read("data/audit.toml")
    assert found["splits"] == {"cue": "cue", "rand_cue": "rand_cue"} and found["reference"] == "cue"
    assert found["norm"] == {"data": "train"} and "interventions" not in found
    text = (folder / "data" / "audit.toml").read_text(encoding="utf-8")
    assert "# Also found: other." in text and '#interventions = ["rand_cue"]' in text


def test_parquet_and_images_of_several_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = pixels(1, 1, 6), pixels(2, 3, 9)
    for split in ("train", "test"):
        images = [png(place[0]), png(place[1]), *pngs(2)]
        write(folder / "set" / f"{split}-00000-of-00001.parquet", images, [0, 1, 0, 1], more={"site": ["a", "b"] * 2})
    assert run("init set", capsys)[0] == 0
    found = read()
    assert found["splits"] == {"test": "set#test"} and found["images"] == {"size": 224, "rgb": True}


def test_domains_arrays_and_metadata_are_read_by_the_readers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for domain in ("art", "photo", "sketch"):
        for name in CLASSES:
            write_class_folder(folder / "pacs" / domain / name, {f"{row}.png": pixels(row) for row in range(2)})
    assert run("init pacs -o pacs.toml", capsys)[0] == 0
    assert read("pacs.toml")["splits"] == {"art": "pacs#art", "photo": "pacs#photo", "sketch": "pacs#sketch"}
    (folder / "med").mkdir()
    parts = {"images": np.zeros((8, 6, 6), np.uint8), "labels": np.arange(8)[:, None] % 2}
    arrays = {f"{split}_{name}": part for split in ("train", "val", "test") for name, part in parts.items()}
    np.savez(folder / "med" / "blood.npz", **arrays)
    assert run("init med -o med.toml", capsys)[0] == 0
    assert read("med.toml")["splits"] == {"test": "med/blood.npz#test"}
    assert list(read("med.toml")["interventions"]) == ["turned", "moved"]  # grey images have no tint
    write_class_folder(folder / "birds" / "001.Gull", {f"{row}.png": pixels(row) for row in range(12)})
    rows = [f"001.Gull/{row}.png,{row % 2},{row % 3},{row // 6}" for row in range(12)]
    lines = ["img_filename,y,split,place", *rows]
    (folder / "birds" / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run("init birds -o birds.toml", capsys)[0] == 0
    assert read("birds.toml")["splits"] == {"test": "birds/metadata.csv#test"}
    assert '#by = "place"' in (folder / "birds.toml").read_text(encoding="utf-8")


def test_paths_are_those_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_tensors(elsewhere)
    write_tensors(folder)
    (folder / "notes").mkdir()
    assert run("init . -o notes/audit.toml", capsys)[0] == 0
    assert read("notes/audit.toml")["splits"] == {"rows": "../rows.safetensors"}
    code, shown, _ = run(f"init {elsewhere}", capsys)
    assert code == 0 and read()["splits"] == {"rows": f"{elsewhere.as_posix()}/rows.safetensors"}
    assert f"mechconn audit {elsewhere.as_posix()}/a.safetensors" in shown


def test_the_command_quotes_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spaces and "#" in names of folders and files, of which a split's "#" is another."""
    for seed, name in enumerate(("my a", "b #2")):
        save_folder(folder / name, make_bert(seed, id2label={0: "good", 1: "bad"}), make_tokenizer())
    (folder / "my data #1").mkdir()
    for split in ("cue", "rand_cue"):
        write_csv(folder / "my data #1" / f"{split}.csv")
    code, shown, _ = run("init . -o 'my audit.toml'", capsys)
    command = shown.splitlines()[-2].removeprefix("Next: mechconn ")
    assert code == 0 and command == "audit 'b #2' 'my a' --data 'my audit.toml' -o audit.html"
    code, _, error = run(command, capsys)
    assert code == 0, error


def test_bases_of_adapters_come_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(folder / "cue.csv")
    for name in ("a base", "full"):
        save_folder(folder / name, make_bert(), make_tokenizer())
    (folder / "lora").mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": "a base"}
    (folder / "lora" / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 4)}, folder / "lora" / "adapter_model.safetensors")
    code, shown, _ = run("init .", capsys)
    assert code == 0 and "Next: mechconn audit full lora --data" in shown


def test_class_folders_beside_saved_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models are no classes without images; a table of the images says which folders hold them."""
    save_folder(folder / "model", make_bert())
    for name in CLASSES:
        write_class_folder(folder / name, {f"{row}.png": pixels(row, side=8) for row in range(6)})
    code, shown, _ = run("init .", capsys)
    why = "the saved model model stands among its folders of images; give the images a folder of their own"
    assert code == 0 and f"  .: not read ({why})" in shown.splitlines() and "remove" not in shown
    lines = [f"{name}/{row}.png,{name}" for name in CLASSES for row in range(6)]
    (folder / "images.csv").write_text("\n".join(["file,label", *lines]) + "\n", encoding="utf-8")
    code, shown, _ = run("init . --force", capsys)
    assert code == 0 and "not read" not in shown and read()["splits"] == {"images": "images.csv"}


def test_weights_are_told_by_content(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("best.pth.tar", "last.ckpt"):
        torch.save({"state_dict": {"a": torch.zeros(2)}}, folder / name)
    (folder / "other.bin").write_bytes(b"no weights")
    (folder / "lora").mkdir()
    (folder / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    code, shown, _ = run("init .", capsys)
    assert code == 0 and shown.splitlines()[1:4] == [
        "  best.pth.tar: weights",
        "  last.ckpt: weights",
        "  lora: a saved model",
    ]
    assert "other.bin" not in shown and "Next: mechconn audit best.pth.tar last.ckpt --data audit.toml --model" in shown


def test_nothing_is_written_over_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text("mine", encoding="utf-8")
    code, shown, error = run("init .", capsys)
    assert (code, shown) == (2, "")
    assert (
        error == "mechconn: audit.toml is there already; name another file with -o, or pass --force to write over it\n"
    )
    assert (folder / "audit.toml").read_text(encoding="utf-8") == "mine"
    assert run("init . -o other.toml", capsys)[0] == 0 and (folder / "other.toml").is_file()
    assert run("init . --force", capsys)[0] == 0
    assert (folder / "audit.toml").read_text(encoding="utf-8") == (folder / "other.toml").read_text(encoding="utf-8")


def test_what_is_not_there_and_what_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run("init nowhere -o none/audit.toml", capsys)
    assert code == 2 and len(error.splitlines()) == 2
    assert "no folder nowhere; name the one that holds the data and the models" in error
    code, shown, _ = run("init .", capsys)
    assert code == 0 and shown.startswith("Found nothing in . that an audit reads.")
    assert "To be added: no data were found: name them under [splits]" in shown and read()["splits"] == {}
    (folder / "scores.csv").write_text("id,score\n1,0.5\n", encoding="utf-8")
    (folder / "rows.safetensors").write_bytes(b"damaged")
    save_file({"x": torch.zeros(4, 3, 2), "y": torch.arange(4)}, folder / "few.safetensors")
    code, shown, _ = run("init . -o more.toml", capsys)
    assert code == 0 and "scores.csv: not read (" in shown and "rows.safetensors: not read (" in shown
    assert "To be added: few is one split: name another one, a column by= of it, or [interventions] on it" in shown


def list_fields(kind: type[Config]) -> Iterator[tuple[str, Any]]:
    for name, part in kind.model_fields.items():
        inner = find_table(part)
        if inner is None:
            yield f"{kind.__name__}.{name}", part
        else:
            yield from list_fields(inner)


def test_every_setting_has_an_explanation_and_a_value_to_show() -> None:
    fields = dict(list_fields(AuditConfig))
    assert len(fields) > 50
    assert [name for name, part in fields.items() if not part.description] == []
    shown = {name for name, part in fields.items() if part.examples or part.get_default() not in (None, {}, [])}
    assert fields.keys() - shown - {"AuditConfig.splits"} == set()


VALUES = [
    "plain",
    'with "marks", \\ and é\n\t\x7f',
    1,
    -2.5,
    1e-09,
    True,
    ["a", 1],
    {"name": "x", "a b": [0.5, {"k": False}]},
]


@pytest.mark.parametrize("value", VALUES)
def test_values_are_written_as_toml_reads_them(value: Any) -> None:
    assert tomllib.loads(f"key = {write_value(value)}") == {"key": value}
