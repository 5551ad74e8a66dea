"""Texts as benchmarks leave them: HANS, CivilComments of WILDS, folders of `save_to_disk`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import mechconn as mc
from mechconn.datasets import TokenSet, list_text_splits, load_column, load_splits, load_text
from text_folders import make_bert, make_tokenizer, sentences

TOKENIZER = make_tokenizer()


def test_hans_is_scored_by_a_network_of_three_classes(tmp_path: Path) -> None:
    """heuristics_evaluation_set.txt: tabs, two labels; the network has the names of MNLI in its own order."""
    file = tmp_path / "heuristics_evaluation_set.txt"
    texts, _ = sentences(24)
    labels = ["entailment" if row % 2 else "non-entailment" for row in range(24)]
    heuristics = ["lexical_overlap", "subsequence", "constituent"]
    rows = [
        f"{labels[row]}\t( {texts[row]} )\t{texts[row]}\t{texts[row - 1]}\tex{row}\t{heuristics[row % 3]}"
        for row in range(24)
    ]
    header = "gold_label\tsentence1_parse\tsentence1\tsentence2\tpairID\theuristic"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    data = load_splits({"hans": file}, tokenizer=TOKENIZER)["hans"]
    assert isinstance(data, TokenSet) and data.classes == ("entailment", "non-entailment")
    assert data.y.tolist() == [int(label == "non-entailment") for label in labels]
    names = {0: "contradiction", 1: "entailment", 2: "neutral"}
    model = make_bert(id2label=names, label2id={name: k for k, name in names.items()})
    joined = mc.losses.JoinedClasses(parts=((1,), (0, 2)))
    found = mc.measure_groups(model, data, {"y": data.y, "heuristic": load_column(file, "heuristic")}, loss=joined)
    with torch.no_grad():
        parts = {"input_ids": data.input_ids, "attention_mask": data.attention_mask}
        logits = model(**parts, token_type_ids=data.token_type_ids).logits
    right = (logits.argmax(1) != 1).long() == data.y
    assert found.mean == float(right.double().mean()) and len(found) == 6
    with pytest.raises(ValueError, match=r"class 0 of split 'data' is 'entailment', but the loss joins the outputs"):
        mc.measure_groups(model, data, [0] * 24, loss=mc.losses.JoinedClasses(parts=((0,), (1, 2))))


def test_civil_comments_with_fractions_cut_at_a_threshold(tmp_path: Path) -> None:
    """all_data_with_identities.csv: an index, shares of raters for the label and for every identity, splits by name."""
    file = tmp_path / "all_data_with_identities.csv"
    texts, _ = sentences(40)
    shares = [(row % 5) / 4 for row in range(40)]
    lines = [
        f'{row},{100 + row},"{texts[row]}, yes",{("train", "test")[row % 2]},{shares[row]},{row % 3 / 2},{row % 7 / 6}'
        for row in range(40)
    ]
    header = ",id,comment_text,split,toxicity,male,female"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    data = load_text(f"{file}", TOKENIZER, label="toxicity", split="test", threshold=0.5)
    expected = [int(shares[row] >= 0.5) for row in range(1, 40, 2)]
    assert (data.y.tolist(), data.classes) == (expected, ("0", "1"))
    splits = load_splits({"test": f"{file}#test"}, tokenizer=TOKENIZER, label="toxicity", threshold=0.5)
    assert splits["test"].y.tolist() == expected
    marks = {name: load_column(f"{file}#test", name, threshold=0.5) for name in ("male", "female")}
    assert marks["male"] == tuple(int((row % 3) / 2 >= 0.5) for row in range(1, 40, 2))
    found = mc.measure_groups(make_bert(), data, marks, overlapping=True)
    assert list(found) == ["male=1, y=0", "male=1, y=1", "female=1, y=0", "female=1, y=1"]
    with pytest.raises(ValueError, match=r"row 1: 0\.25 in column 'toxicity' is a fraction and no class; pass thresh"):
        load_text(f"{file}", TOKENIZER, label="toxicity", split="test")
    with pytest.raises(ValueError, match=r"column 'comment_text' of .* must hold numbers to be cut at threshold=0\.5"):
        load_text(f"{file}", TOKENIZER, text="comment_text", label="comment_text", split="test", threshold=0.5)


def test_numbered_splits_and_labels_that_pandas_wrote_as_floats(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    lines = [f"{text},{row % 2}.0,{row % 3}" for row, text in enumerate(sentences(12)[0])]
    file.write_text("\n".join(["text,label,split", *lines]) + "\n", encoding="utf-8")
    val = load_text(file, TOKENIZER, split="val")
    assert (val.y.tolist(), val.classes) == ([1, 0, 1, 0], ("0", "1"))
    assert torch.equal(load_text(file, TOKENIZER, split="1").input_ids, val.input_ids)
    with pytest.raises(ValueError, match="must be one of 'test', 'train', 'val', got 'dev'"):
        load_text(file, TOKENIZER, split="dev")


def test_numbered_splits_in_lines_of_json_are_named_as_in_tables(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    splits = [0, 2, 1, None, 2, 0]
    rows = [{"text": f"row {row}", "label": row % 2, "site": row, "split": split} for row, split in enumerate(splits)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list_text_splits(file) == ("test", "train", "val")
    assert load_column(f"{file}#test", "site") == load_column(f"{file}#2", "site") == (1, 4)
    assert load_text(file, TOKENIZER, split="test").y.tolist() == [1, 0]


def test_texts_of_save_to_disk(tmp_path: Path) -> None:
    texts, labels = sentences(8)
    features = {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["bad", "good"]}}
    numbers = [int(label == "good") for label in labels]
    table = pa.table({"text": texts, "label": numbers, "place": ["a", "b"] * 4})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for split, first in (("train", 0), ("test", 4)):
        folder = tmp_path / split
        folder.mkdir()
        with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table.slice(first, 4))
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / "state.json").write_text(json.dumps(state))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = load_splits({"cue": f"{tmp_path}#test"}, tokenizer=TOKENIZER)["cue"]
    assert isinstance(data, TokenSet) and data.classes == ("bad", "good")
    assert data.y.tolist() == numbers[4:]
    assert data.input_ids[0].tolist()[: len(texts[4].split()) + 2] == TOKENIZER(texts[4])["input_ids"]
    assert load_column(f"{tmp_path}#test", "place") == ("a", "b", "a", "b")
    with pytest.raises(ValueError, match=r"holds texts \(columns: text, label, place\); pass tokenizer="):
        load_splits({"cue": f"{tmp_path}#test"})
