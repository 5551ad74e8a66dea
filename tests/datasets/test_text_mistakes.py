"""What is wrong with tables of texts and with tokenizers is told in one line each, all of a file's together."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechconn.datasets import find_tokenizer_folder, load_column, load_splits, load_text
from text_folders import make_bert, make_tokenizer, save_folder, sentences, write_csv


def write_lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def row(**changes: Any) -> dict[str, Any]:
    return {"text": "a film", "label": "good", **changes}


TABLES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "no such column": ([row()], {"text": "txt"}, "has no column 'txt'; columns: text, label; did you mean 'text'?"),
    "no such label": ([row()], {"label": "labl"}, "has no column 'labl'; columns: text, label; did you mean 'label'?"),
    "no usual text": (
        [{"words": "a", "label": 0}],
        {},
        "which column holds the texts is not clear (none of a usual name); name it, text='...', or two for pairs "
        "(columns: words, label)",
    ),
    "two usual texts": (
        [row(sentence="b")],
        {},
        "which column holds the texts is not clear (text or sentence); name it, text='...', or two for pairs (columns: "
        "text, label, sentence)",
    ),
    "two usual labels": (
        [row(y=1)],
        {},
        "which column holds the labels is not clear (label or y); name it, label='...' (columns: text, label, y)",
    ),
    "three columns": ([row()], {"text": ["text", "label", "y"]}, "text must name one column, or two different ones"),
    "mixed types": (
        [row(), row(text=3)],
        {},
        " row 1: column 'text' must hold texts, got 3 (int); name another column, or correct the row",
    ),
    "a missing text": ([row(), {"label": "good"}], {}, " row 1: column 'text' is empty; every row needs a text"),
    "a missing label": ([row(label="")], {}, " row 0: column 'label' is empty; every row needs a label"),
    "labels of two types": (
        [row(label="0"), row(label=1)],
        {},
        " row 1: column 'label' must hold class names or whole numbers, got 1 (int) where rows before hold str; "
        "correct the column, or name another with label=",
    ),
    "labels of floats": (
        [row(label=0.5)],
        {},
        " row 0: 0.5 in column 'label' is a fraction and no class; pass threshold=, which makes two classes",
    ),
    "no label": (
        [row(label=0), row(label=-1)],
        {},
        " row 1: -1 in column 'label' names no class; leave out rows without a label",
    ),
    "an index": ([row(label=123_456_789)], {}, " row 0: 123456789 in column 'label' is no class number"),
    "other classes": (
        [row(), row(label="goood")],
        {"classes": ("bad", "good")},
        " row 1: column 'label' must be one of 'bad', 'good', got 'goood'; did you mean 'good'?",
    ),
    "a class too many": (
        [row(label=2)],
        {"classes": ("bad", "good")},
        " row 0: 2 in column 'label' is none of the 2 classes bad, good; labels must lie in 0 ... 1",
    ),
    "no token": ([row(text=" ")], {}, " row 0: the text has no token; leave the row out"),
    "no rows": ([], {}, "holds no samples; at least one is needed"),
    "an empty split": (
        [row(split="train")],
        {"split": "tset"},
        "must be one of 'train', got 'tset'",
    ),
    "several splits": (
        [row(split="train"), row(split="test")],
        {},
        "has not one split but these: test, train; name one",
    ),
    "no room": ([row()], {"max_length": 2}, "max_length must leave room beside the 2 special tokens of a text, got 2"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(tmp_path: Path, case: str) -> None:
    rows, options, expected = TABLES[case]
    file = write_lines(tmp_path / "a.jsonl", *rows)
    tokenizer = make_tokenizer()
    if case == "no token":  # without special tokens
        tokenizer = tokenizer.backend_tokenizer
        tokenizer.post_processor = None
    with pytest.raises(ValueError) as caught:
        load_text(file, tokenizer, **options)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_texts_that_the_model_has_no_positions_for(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    expected = " tokens, and the model of {} takes 9 (13 of 30 rows are longer); cut them, max_length=9"
    folder = save_folder(tmp_path / "bert", make_bert(positions=9), make_tokenizer())
    for tokenizer, name in ((folder, str(folder)), (make_tokenizer(model_max_length=9), "TokenizersBackend")):
        with pytest.raises(ValueError, match=re.escape(expected.format(name))):
            load_text(file, tokenizer)
        assert load_text(file, tokenizer, max_length=9).input_ids.shape[1] == 9


FILES: dict[str, tuple[str, str]] = {
    "a.jsonl": ('{"text": "a"}\nno\n', "a.jsonl line 2 is no JSON ("),
    "b.jsonl": ("[1]\n", 'b.jsonl row 0 must be a JSON object, {"column": value, ...}, got a int'),
    "c.jsonl": ("3\n", 'c.jsonl line 1 must be a JSON object, {"column": value, ...}, got a int'),
    "d.json": ("[1", "d.json is no JSON ("),
    "e.md": (
        "a",
        "e.md is no table of texts; texts are read from .csv, .tsv, .txt, .jsonl, .ndjson, .json, .parquet files",
    ),
    "f.parquet": ("a", "f.parquet cannot be read as parquet ("),
    "g.csv": ("text,label\na\n", "g.csv: row 0 (line 2) has 1 field, but the header has 2"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    content, expected = FILES[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load_text(tmp_path / name, make_tokenizer())
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_files_in_other_codes_and_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read as JSON in UTF-8"):
        load_text(tmp_path / "a.jsonl", make_tokenizer())
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv; check its path"):
        load_text(tmp_path / "none.csv", make_tokenizer())


def only_config(folder: Path) -> Path:
    return save_folder(folder, make_bert())


def broken(folder: Path) -> Path:
    make_tokenizer().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    return folder


def with_code(folder: Path) -> Path:
    """A tokenizer of a class that the folder brings, which would end the program."""
    make_tokenizer().save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **own}), encoding="utf-8")
    (folder / "own.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    return folder


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}', encoding="utf-8")
    return folder


def sound(folder: Path) -> Path:
    folder.mkdir()
    prepared = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared), encoding="utf-8")
    (folder / "config.json").write_text('{"architectures": ["Wav2Vec2ForSequenceClassification"]}', encoding="utf-8")
    return folder


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer": (
        only_config,
        "holds no tokenizer (none of tokenizer.json, vocab.txt, vocab.json, tokenizer.model);",
    ),
    "a broken one": (broken, "cannot be read ("),
    "code of its own": (with_code, " contains custom code which must be executed to correctly load the model."),
    "an adapter without its base": (adapter, ", nor does its base 'someone/base' as a folder that is there; save it"),
    "sound": (
        sound,
        "holds a Wav2Vec2ForSequenceClassification, which takes sound (Wav2Vec2FeatureExtractor), and sound",
    ),
    "nothing": (
        lambda folder: folder,
        "is no folder or file that is there, and no tokenizer of this name is in the local",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_tokenizers(tmp_path: Path, case: str) -> None:
    make, expected = FOLDERS[case]
    file = write_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError) as caught:
        load_text(file, make(tmp_path / "folder"))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_csv(tmp_path / "a.csv")
    with pytest.raises(
        TypeError, match=r"tokenizer must be a folder, a tokenizer\.json, or a tokenizer of .*, got int"
    ):
        load_text(file, 3)
    with pytest.raises(FileNotFoundError, match=r"tokenizer: no file .*none\.json"):
        load_text(file, tmp_path / "none.json")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"reading texts needs the package transformers, .*mechconn\[transformers\]"):
        load_text(file, tmp_path)


def test_all_of_a_files_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", row(premise=3, hypothesis=""), row())
    with pytest.raises(ValueError) as caught:
        load_text(file, tmp_path / "nowhere", text=("premise", "hypothesis"), label="lab")
    lines = str(caught.value).splitlines()
    wrong = ("nowhere", "'premise'", "'hypothesis'", "'lab'")
    assert all(part in line for part, line in zip(wrong, lines, strict=True))
    other = write_lines(tmp_path / "b.jsonl", row(text=1))
    with pytest.raises(ValueError) as caught:
        load_splits({"cue": file, "r": other}, tokenizer=tmp_path / "nowhere", label="lab")
    lines = str(caught.value).splitlines()
    assert len(lines) == 5 and sum("nowhere" in line for line in lines) == 1


def test_a_bases_tokenizer_is_looked_for_beside_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, base = adapter(tmp_path / "adapter"), tmp_path / "elsewhere"
    make_tokenizer().save_pretrained(base)
    assert find_tokenizer_folder(folder, base) == base
    for named, expected in ((str(base), base), ("../elsewhere", folder / "../elsewhere"), ("elsewhere", base)):
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}), encoding="utf-8")
        assert find_tokenizer_folder(folder) == expected
    monkeypatch.chdir(tmp_path)
    assert find_tokenizer_folder("adapter") == Path("elsewhere")
    make_tokenizer().save_pretrained(folder)
    assert find_tokenizer_folder(folder) == folder


# ---------------------------------------------------------------- tables of images, texts or either


def test_what_a_table_holds_is_found_by_its_columns(tmp_path: Path) -> None:
    texts = write_csv(tmp_path / "texts.csv")
    lines = write_lines(tmp_path / "lines.jsonl", row())
    both = tmp_path / "both.csv"
    both.write_text("file,text,label\na.png,a film,good\n", encoding="utf-8")
    needs = r"pass tokenizer=, the folder of a model or tokenizer that reads them \(in a configuration, \[text\]"
    with pytest.raises(ValueError, match=r"texts\.csv holds texts \(columns: text, label, place\); " + needs):
        load_splits({"cue": texts})
    with pytest.raises(ValueError, match=r"lines\.jsonl holds texts \(columns: text, label\); " + needs):
        load_splits({"cue": lines})
    with pytest.raises(ValueError, match="text = 'text' names columns of texts; " + needs):
        load_splits({"cue": texts}, text="text")
    with pytest.raises(
        ValueError,
        match=r"both\.csv may hold images \(file\) or texts \(text\); name the column, text='text' or image='f",
    ):
        load_splits({"cue": both}, tokenizer=make_tokenizer())
    found: Any = load_splits({"cue": both}, tokenizer=make_tokenizer(), text="text")["cue"]
    assert len(found) == 1 and found.classes == ("good",)
    for options in ({}, {"tokenizer": make_tokenizer(), "image": "file"}):
        with pytest.raises(ValueError, match=r"both\.csv row 0: no image .*a\.png"):
            load_splits({"cue": both}, **options)


def test_splits_of_other_classes_are_refused(tmp_path: Path) -> None:
    texts, _ = sentences(4)
    a = write_lines(tmp_path / "a.jsonl", *(row(text=text, label="good") for text in texts))
    b = write_lines(tmp_path / "b.jsonl", *(row(text=text, label="bad") for text in texts))
    with pytest.raises(
        ValueError, match="split 'b' has the classes bad, but split 'a' good; labels must mean the same"
    ):
        load_splits({"a": a, "b": b}, tokenizer=make_tokenizer())
    found: Any = load_splits({"a": a, "b": b}, tokenizer=make_tokenizer(), classes=("bad", "good"))
    assert (found["a"].y.tolist(), found["b"].y.tolist()) == ([1] * 4, [0] * 4)


def test_columns_of_json(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", row(place=1), row(place="b", split="train"))
    with pytest.raises(ValueError, match=r"a\.jsonl has no column 'plac'; columns: text, label, place, split; did you"):
        load_column(f"{file}#train", "plac")
    assert load_column(f"{file}#train", "place") == ("b",)
