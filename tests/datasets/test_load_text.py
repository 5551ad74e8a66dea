"""Raw texts of tables: every format alike, padded by batch, with the numbers of padding to the whole."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets import TokenSet, load_column, load_splits, load_text
from text_folders import CLS, PAD, SEP, make_bert, make_decoder, make_tokenizer, save_folder, sentences, write_csv

ROWS = 30


def rows_of(seed: int = 0) -> list[dict[str, Any]]:
    texts, labels = sentences(ROWS)
    return [
        {"text": t, "label": y, "place": (row + seed) % 3} for row, (t, y) in enumerate(zip(texts, labels, strict=True))
    ]


def write_tsv(folder: Path) -> Path:
    file = folder / "a.tsv"
    lines = ["\t".join(map(str, row.values())) for row in rows_of()]
    file.write_text("\n".join(["text\tlabel\tplace", *lines]), encoding="utf-8")
    return file


def write_lines(folder: Path) -> Path:
    file = folder / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of())) + "\n\n", encoding="utf-8")
    return file


def write_list(folder: Path) -> Path:
    file = folder / "a.json"
    file.write_text(json.dumps(rows_of(), indent=1), encoding="utf-8")
    return file


def write_parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows_of()), folder / "a.parquet")
    return folder / "a.parquet"


def write_shards(folder: Path) -> Path:
    """As the hub keeps them: numbers of classes, whose names stand in the file."""
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    names = ["bad", "good"]
    features = {"label": {"names": names, "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    note = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    (folder / "hub" / "data").mkdir(parents=True)
    for number, part in enumerate((slice(0, 20), slice(20, None))):
        rows = [{**row, "label": names.index(row["label"])} for row in rows_of()[part]]
        table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(note)
        parquet.write_table(table, folder / "hub" / "data" / f"test-0000{number}-of-00002.parquet")
    return folder / "hub"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "tsv": write_tsv,
    "jsonl": write_lines,
    "json": write_list,
    "parquet": write_parquet,
    "folder of parquet": write_shards,
}


def assert_equal_texts(a: TokenSet, b: TokenSet) -> None:
    index = torch.arange(len(a))
    assert all(torch.equal(part, b.inputs(index)[name]) for name, part in a.inputs(index).items())
    assert torch.equal(a.y, b.y) and a.classes == b.classes


@pytest.fixture
def texts(tmp_path: Path) -> TokenSet:
    return load_text(write_csv(tmp_path / "a.csv"), make_tokenizer())


def as_whole(data: TokenSet) -> TokenSet:
    """The same rows, every batch with all positions."""
    return replace(data, pads_by_batch=False)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read_alike(tmp_path: Path, texts: TokenSet, name: str) -> None:
    file = FORMATS[name](tmp_path)
    assert_equal_texts(texts, load_text(file, make_tokenizer(), text="text", label="label"))
    assert list(map(int, load_column(file, "place"))) == [row["place"] for row in rows_of()]


def test_texts_are_what_the_tokenizer_gives(tmp_path: Path, texts: TokenSet) -> None:
    own, labels = sentences(1003)  # more than are tokenised at a time
    data = load_text(write_csv(tmp_path / "a.csv", rows=1003), make_tokenizer())
    expected = make_tokenizer()(own)["input_ids"]
    width = max(map(len, expected))
    assert data.input_ids.tolist() == [ids + [PAD] * (width - len(ids)) for ids in expected]
    assert data.attention_mask.sum(1).tolist() == list(map(len, expected))
    assert [data.classes[label] for label in data.y.tolist()] == labels
    assert "2 classes (bad, good)" in repr(texts) and "cut" not in repr(texts)


def test_pairs_by_usual_names(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("premise,hypothesis,label,split\na film,no plot,1,dev\nfine,bad,0,test\n", encoding="utf-8")
    tokenizer = make_tokenizer()
    data = load_text(file, tokenizer, split="dev")
    expected = tokenizer(["a film"], ["no plot"])
    assert data.input_ids.tolist() == expected["input_ids"] and data.classes == ("0", "1")
    assert data.token_type_ids is not None and data.token_type_ids.tolist() == expected["token_type_ids"]
    turned = load_text(file, tokenizer, text=("hypothesis", "premise"), split="dev")
    assert turned.input_ids.tolist() == tokenizer(["no plot"], ["a film"])["input_ids"]


def test_a_column_of_splits_divides_a_parquet_file_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = [{**row, "split": ("train", "test")[number % 2]} for number, row in enumerate(rows_of())]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    test = load_text(tmp_path / "b.parquet", make_tokenizer(), split="test")
    whole = load_text(write_csv(tmp_path / "c.csv"), make_tokenizer())
    assert_equal_texts(test.widened(whole.input_ids.shape[1]), whole.subset(torch.arange(1, ROWS, 2)))
    assert list(map(int, load_column(f"{tmp_path}/b.parquet#test", "place"))) == [row["place"] for row in rows[1::2]]
    with pytest.raises(ValueError, match="has not one split but these: test, train; name one after '#'"):
        load_text(tmp_path / "b.parquet", make_tokenizer())


def test_classes_in_an_order_that_is_given(tmp_path: Path, texts: TokenSet) -> None:
    turned = load_text(tmp_path / "a.csv", make_tokenizer(), classes=("good", "bad", "none"))
    assert turned.classes == ("good", "bad", "none") and torch.equal(turned.y, 1 - texts.y)


def test_numbers_whose_names_the_file_tells_follow_the_order_that_is_given(tmp_path: Path) -> None:
    folder = write_shards(tmp_path)
    told = load_text(folder, make_tokenizer())
    turned = load_text(folder, make_tokenizer(), classes=("good", "bad"))
    assert told.classes == ("bad", "good") and turned.classes == ("good", "bad")
    assert torch.equal(turned.y, 1 - told.y)
    with pytest.raises(ValueError, match="column 'label' has the classes bad, good, and classes= names fine, poor; na"):
        load_text(folder, make_tokenizer(), classes=("fine", "poor"))


def test_a_split_without_rows_of_a_class_counts_it(tmp_path: Path) -> None:
    """Else class 0 of one split would be class 1 of another."""
    rows = [("a film", "bad", "train"), ("dull", "good", "train"), ("fine", "good", "test")]
    lines = [json.dumps({"text": text, "label": label, "split": split}) for text, label, split in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "a.csv").write_text("\n".join(["text,label,split", *map(",".join, rows)]), encoding="utf-8")
    for file in ("a.jsonl", "a.csv"):
        test = load_text(tmp_path / file, make_tokenizer(), split="test")
        assert test.classes == ("bad", "good") and test.y.tolist() == [1]


def test_classes_in_the_order_of_the_model_in_the_tokenizers_folder(tmp_path: Path, texts: TokenSet) -> None:
    names: dict[str, Any] = {"id2label": {0: "Good", 1: "none", 2: "BAD"}}
    folder = save_folder(tmp_path / "bert", make_bert(**names), make_tokenizer())
    data = load_text(tmp_path / "a.csv", folder)
    assert data.classes == ("Good", "none", "BAD") and torch.equal(data.y, 2 * (1 - texts.y))
    sets = load_splits({"cue": tmp_path / "a.csv"}, tokenizer=folder)
    assert mc.measure_invariance(mc.load_model(folder), mc.Suite(sets, reference="cue")).samples == {"cue": ROWS}
    others: tuple[dict[str, Any], ...] = ({"id2label": {0: "fine", 1: "bad"}}, {})
    for other in others:
        save_folder(folder, make_bert(**other))
        assert load_text(tmp_path / "a.csv", folder).classes == ("bad", "good")


def test_what_pads_where_the_tokenizer_has_no_such_token(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    cases: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        ({}, {}, 0),
        ({"eos_token": "[SEP]"}, {}, SEP),
        ({}, {"pad_token_id": 9}, 9),
    ]
    for options, config, pad_id in cases:
        tokenizer = make_tokenizer(pad_token=None, **options)
        folder = save_folder(tmp_path / "bert", make_bert(**config), tokenizer)
        if not config:  # Transformers' own default
            (folder / "config.json").unlink()
        data = load_text(file, folder)
        assert data.pad_id == pad_id and bool((data.input_ids[~data.attention_mask.bool()] == pad_id).all())


def test_what_was_cut_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_csv(tmp_path / "a.csv")
    whole = load_text(file, make_tokenizer())
    with caplog.at_level(logging.INFO, "mechconn"):
        data = load_text(file, make_tokenizer(), max_length=6)
    longer = whole.attention_mask.sum(1) > 6
    assert data.cut is not None and torch.equal(data.cut, longer) and data.input_ids.shape[1] == 6
    told = f"{int(longer.sum())} of {ROWS} rows cut to 6 tokens"
    assert 0 < int(longer.sum()) < ROWS and told in repr(data) and caplog.messages == [f"{file}: {told}"]
    assert bool((data.input_ids[longer][:, -1] == SEP).all())
    assert f"{int(longer[:7].sum())} of 7 rows cut to 6 tokens" in repr(data.first(7))
    assert "0 of 30 rows cut to 40 tokens" in repr(load_text(file, make_tokenizer(), max_length=40))


def test_tokenizers_in_any_form(tmp_path: Path, texts: TokenSet) -> None:
    file, own = tmp_path / "a.csv", make_tokenizer()
    own.save_pretrained(tmp_path / "tokenizer")
    before = own.backend_tokenizer.to_str()
    for given in (own, str(tmp_path / "tokenizer"), tmp_path / "tokenizer"):
        assert_equal_texts(load_text(file, given, max_length=9), load_text(file, make_tokenizer(), max_length=9))
    assert own.backend_tokenizer.to_str() == before  # the caller's, which cutting sets up
    bare = load_text(file, tmp_path / "tokenizer" / "tokenizer.json")
    assert torch.equal(bare.input_ids, texts.input_ids)
    assert torch.equal(load_text(file, own.backend_tokenizer).input_ids, texts.input_ids)
    (tmp_path / "adapter").mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "tokenizer"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert_equal_texts(load_text(file, tmp_path / "adapter"), texts)


# ---------------------------------------------------------------- padding by batch

MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": make_bert,
    "gpt2": lambda: make_decoder("gpt2", pad_token_id=PAD),
    "llama": lambda: make_decoder("llama", pad_token_id=PAD),
}


SEEN: list[int] = []
"""The number of token ids of every forward pass; no closure, which copies of the model would have a copy of."""


def count_positions(model: Any) -> list[int]:
    """From now on every forward pass adds the number of its token ids to the list."""
    SEEN.clear()
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: SEEN.append(args[0].numel()))
    return SEEN


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_each_text_alone(texts: TokenSet, name: str) -> None:
    model = MODELS[name]()
    by_length = texts.subset(texts.attention_mask.sum(1).argsort(stable=True))
    expected, each = [], {}
    with torch.no_grad():
        for row in range(ROWS):
            one = by_length.inputs(torch.tensor([row]))
            own = {part: values[:, : int(one["attention_mask"].sum())] for part, values in one.items()}
            own = {part: values for part, values in own.items() if name != "llama" or part != "token_type_ids"}
            expected.append(float(cross_entropy(model(**own).logits, by_length.y[row : row + 1])))
    for data in (by_length, as_whole(by_length)):
        counted = copy.deepcopy(model)
        seen = count_positions(counted)
        compute = mc.Compute(batch_size=10)
        found = mc.measure_invariance(counted, mc.Suite({"cue": data, "r": data}, reference="cue"), compute=compute)
        assert found.loss["cue"] == pytest.approx(sum(expected) / ROWS, rel=1e-5)
        each[data.pads_by_batch] = sum(seen)
    longest = texts.input_ids.shape[1]
    passes = 2 * ROWS * longest
    trial = 10 * longest / passes  # at most: whether padding is seen, on five lengths of a row with it and without
    assert each[False] % passes == 0 < each[True] / each[False] < 0.75 + trial


NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""Dropout draws as many numbers as there are positions."""


def test_training_and_paths_give_the_same(texts: TokenSet) -> None:
    results = []
    for data in (texts, as_whole(texts)):
        trained = mc.train(
            make_bert(**NO_DROPOUT), data, mc.Training(epochs=2, lr=0.05, batch_size=7), seed=3, validation=data
        )
        path = mc.LinearPath.between(trained.model, make_bert(1))
        profile = mc.evaluate_path(make_bert(), path, mc.Suite({"cue": data}, reference="cue"), ts=3)
        results.append([*profile.loss["cue"], trained.history[-1]["validation"]])
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_selections_clusters_and_groups(tmp_path: Path, texts: TokenSet) -> None:
    place, model = load_column(tmp_path / "a.csv", "place"), make_bert()
    results = []
    for data in (texts, as_whole(texts)):
        sides = mc.split_by_agreement(data, place, agrees={"good": ["0"], "bad": ["1", "2"]})
        split = mc.measure_invariance(model, mc.Suite(sides, reference="agree"))
        clustered = mc.measure_invariance(model, mc.Suite({"cue": data, "r": data}, reference="cue"), cluster=place)
        groups = mc.measure_groups(model, data, place)
        parts = mc.split_by_group(data, place)
        results.append(
            [
                split["conflict"].effect,
                *clustered["r"].interval,
                *(groups[name].accuracy for name in groups),
                len(parts),
            ]
        )
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_layers_are_read_at_all_positions(texts: TokenSet) -> None:
    """Averages over positions, and features of them, would depend on the batch that a row is in."""
    a, b = make_bert(), make_bert(1)
    found = [mc.representation_similarity(a, b, data).layers for data in (texts, as_whole(texts))]
    assert found[0] == found[1]
    probed = [mc.probe(a, data, "label", layers=["bert.pooler"]) for data in (texts, as_whole(texts))]
    assert str(probed[0]) == str(probed[1])


def test_functions_see_rows_as_wide_as_the_longest(texts: TokenSet) -> None:
    widths = set()

    def shorter(x: dict[str, Tensor], draws: mc.Draws) -> dict[str, Tensor]:
        widths.add(x["input_ids"].shape[1])
        mask = x["attention_mask"].clone()
        mask[:, 5:] = 0
        return {**x, "attention_mask": mask, "input_ids": x["input_ids"] * mask}

    model = make_bert()
    suites = [mc.intervened(data, {"short": shorter}) for data in (texts, as_whole(texts))]
    effects = [mc.measure_invariance(model, suite, on="loss")["short"].effect for suite in suites]
    assert widths == {texts.input_ids.shape[1]} and effects[0] == pytest.approx(effects[1], rel=1e-5)
    seen = count_positions(model)
    mc.measure_invariance(model, mc.Suite({"data": suites[0]["short"]}, reference="data"))
    assert seen[-1] == ROWS * 5  # after the trial of whether padding is seen


def test_token_cues(texts: TokenSet) -> None:
    cue = mc.TokenCue((37, 38), special=(CLS, SEP), others=(35, 36))
    tasks = [mc.datasets.cue_task(data, cue=cue, proportion=0.8, seed=1) for data in (texts, as_whole(texts))]
    index = torch.tensor([3, 1])
    for split in tasks[0].suite:
        a, b = (task.suite[split].inputs(index) for task in tasks)  # pyright: ignore[reportAttributeAccessIssue]
        assert all(torch.equal(a[name], b[name]) for name in a)
    model = make_bert()
    found = [mc.measure_invariance(model, task.suite).loss for task in tasks]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    first = int(texts.input_ids[0, 1])
    changed, bare = texts.with_token([first]), replace(texts, pad_id=39).without([first])
    assert len(changed) and not len(bare.with_token([first])) and bool((bare.input_ids[changed, -1] == 39).all())
    narrow = texts.first(3)
    short = replace(narrow, **{k: v[:, :9] for k, v in narrow.inputs(torch.arange(3)).items()})
    assert mc.datasets.cue_task(texts, test=short, cue=cue, proportion=0.5).num_classes == 2  # of other widths


def test_relearning_knows_a_text_again_at_any_width(texts: TokenSet) -> None:
    suite = mc.Suite({"cue": texts, "r": texts, "other": texts}, reference="cue")
    narrow = texts.subset((texts.attention_mask.sum(1) <= 9).nonzero().flatten())
    other = replace(narrow, **{name: part[:, :9] for name, part in narrow.inputs(torch.arange(len(narrow))).items()})
    method = mc.Relearning(steps=(0, 2), lr=0.1, seeds=2)
    with pytest.raises(ValueError, match=rf"got {len(narrow)} that do \(first: row 0\)"):
        mc.measure_relearning(make_bert(), method, other, suite, split="r", control=make_bert(1))


def test_without_a_mask_all_positions_are_seen(texts: TokenSet) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(40, 4), nn.Linear(4, 2)
            self.widths: set[int] = set()

        def forward(self, input_ids: Tensor) -> Tensor:
            self.widths.add(input_ids.shape[1])
            return self.head(self.words(input_ids).mean(1))

    with isolate_rng(0, "mean"):
        model = Mean().eval()
    found = [
        mc.measure_invariance(model, mc.Suite({"cue": data}, reference="cue")) for data in (texts, as_whole(texts))
    ]
    assert found[0].loss == found[1].loss


def test_splits_have_the_width_of_the_longest(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "b.csv", rows=3)
    save_folder(tmp_path / "bert", make_bert(), make_tokenizer())
    sets: Any = load_splits({"cue": tmp_path / "a.csv", "r": tmp_path / "b.csv"}, tokenizer=tmp_path / "bert")
    assert sets["cue"].input_ids.shape[1] == sets["r"].input_ids.shape[1] and sets["r"].pads_by_batch
    with pytest.raises(ValueError, match="texts of 14 positions cannot have 13; pass as many or more"):
        sets["cue"].widened(13)
    assert_equal_texts(sets["cue"], load_text(tmp_path / "a.csv", make_tokenizer()))
    model = mc.load_model(tmp_path / "bert")
    assert mc.measure_invariance(model, mc.Suite(sets, reference="cue")).samples == {"cue": 30, "r": 3}


class Convolution(nn.Module):
    """A classifier of texts that takes a mask, and whose convolution sees the padding behind a text."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        with isolate_rng(0, "convolution"):
            self.words = nn.Embedding(40, 8)
            self.mix, self.head = nn.Conv1d(8, 8, 3, padding=1), nn.Linear(8, 2)
            nn.init.constant_(self.head.weight, 0.0) if scale == 0 else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mixed = self.mix(self.words(input_ids).transpose(1, 2)).relu()
        shares = attention_mask / attention_mask.sum(1, keepdim=True)
        return self.head((mixed * shares[:, None]).sum(2))


def test_a_network_that_sees_padding_gives_the_same_whatever_the_batch_size(
    texts: TokenSet, caplog: pytest.LogCaptureFixture
) -> None:
    """Padding by batch would make its outputs those of the rows beside it."""
    by_length = texts.subset(texts.attention_mask.sum(1).argsort(stable=True))
    found = {}
    for data in (by_length, as_whole(by_length)):
        suite = mc.Suite({"cue": data, "r": data}, reference="cue")
        for size in (2, 7, ROWS):
            found[data.pads_by_batch, size] = mc.measure_invariance(
                Convolution(), suite, compute=mc.Compute(batch_size=size)
            ).loss["cue"]
    assert list(found.values()) == pytest.approx([found[False, ROWS]] * 6, rel=1e-6)
    assert "padding: outputs change with the padding behind a text, by up to" in caplog.text
    alone = by_length.subset(torch.arange(1))  # a network that saw no padding would give other outputs
    cut = mc.measure_invariance(Convolution(), mc.Suite({"cue": alone, "r": alone}, reference="cue")).loss["cue"]
    width = int(alone.attention_mask.sum())
    x = {name: part[:, :width] for name, part in alone.inputs(torch.arange(1)).items() if name != "token_type_ids"}
    with torch.no_grad():
        assert cut != pytest.approx(float(cross_entropy(Convolution()(**x), alone.y)), rel=1e-3)
    assert mc.measure_invariance(Convolution(scale=0), suite).loss["cue"] == pytest.approx(0.7, abs=0.1)
