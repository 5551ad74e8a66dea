"""`mechconn audit` of two classifiers of texts on tables of raw texts: `[text]` in audit.toml."""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.core import isolate_rng
from mechconn.datasets import load_text
from text_folders import PAD, make_bert, make_decoder, make_tokenizer, save_folder, sentences, write_csv

NAMES: dict[str, Any] = {"id2label": {0: "good", 1: "bad"}}
SPLITS = "points = 3\nalignment = 'none'\n[splits]\ncue = 'cue.csv'\nrand_cue = 'rand.csv'\n"


def run(toml: str, capsys: pytest.CaptureFixture[str], words: str = "a b") -> tuple[int, str, list[str]]:
    Path("audit.toml").write_text(toml, encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(f"audit {words} --data audit.toml --json"))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, [line for line in shown.err.splitlines() if line.startswith("mechconn: ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "cue.csv")
    write_csv(tmp_path / "rand.csv", rows=12)
    for seed, name in enumerate("ab"):
        save_folder(tmp_path / name, make_bert(seed, **NAMES), make_tokenizer())
    return tmp_path


def test_raw_texts_by_the_models_own_tokenizer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(SPLITS + "[text]\ncolumn = 'text'\nlabel = 'label'\nmax_length = 8\n", capsys)
    assert (code, errors) == (0, [])
    record = json.loads(out)
    data = load_text("cue.csv", "a", max_length=8, classes=("good", "bad"))
    suite = mc.Suite({"cue": data}, reference="cue")
    for side in "ab":
        alone = mc.measure_invariance(mc.load_model(side), suite)
        assert record["comparison"][side]["accuracy"]["cue"] == alone.accuracy["cue"]
        assert record["comparison"][side]["samples"] == {"cue": 30, "rand_cue": 12}
    assert data.cut is not None
    assert record["notes"][:1] == [f"Of the texts of cue, {int(data.cut.sum())} of 30 rows cut to 8 tokens."]
    assert record["settings"]["config"]["text"]["max_length"] == 8
    code, out, _ = run(SPLITS + "[text]\nclasses = ['good', 'bad']\n", capsys)
    assert code == 0 and not any("put into the order" in note or "cut to" in note for note in json.loads(out)["notes"])


def test_a_network_of_texts_does_not_take_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("cue", "rand"):
        for label in ("good", "bad"):
            write_class_folder(folder / split / label, {"0.png": pixels(1)})
    code, _, errors = run(SPLITS.replace(".csv", ""), capsys)
    assert code == 2 and len(errors) == 1
    assert "the network cannot take inputs of shape [2, 3, 6, 6], torch.float32 (too many values to unpack" in errors[0]


def test_pairs_of_lines_in_json_divided_by_a_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = sentences(30)
    rows = [
        {
            "premise": text,
            "hypothesis": "no plot",
            "label": label,
            "place": "sea" if k % 3 else "land",
            "split": "dev",
            "doc": k // 3,
        }
        for k, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    toml = (
        "by = 'place'\ncluster = 'doc'\npoints = 3\nalignment = 'none'\nagrees = {good = 'sea', bad = 'land'}\n"
        "[splits]\ndev = 'pairs.jsonl#dev'\n[text]\ncolumn = ['premise', 'hypothesis']\n"
    )
    code, out, errors = run(toml, capsys)
    assert (code, errors) == (0, [])
    samples = json.loads(out)["comparison"]["a"]["samples"]
    assert sum(samples.values()) == 30 and set(samples) == {"agree", "conflict"}


def test_an_adapters_folder_takes_the_tokenizer_of_its_base(folder: Path) -> None:
    from mechconn.cli._audit_config import AuditConfig
    from mechconn.cli._audit_text import list_text_options

    (folder / "lora").mkdir()
    (folder / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "a"}', encoding="utf-8")
    config = AuditConfig.model_validate({"splits": {"cue": "x.csv", "r": "y.csv"}, "text": {}})
    weights = (Path("lora"), Path("b"))
    assert list_text_options(config, folder, weights, None)["tokenizer"] == Path("a")
    assert list_text_options(config, folder, weights, folder / "b")["tokenizer"] == folder / "b"


def write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


def without_tokenizers() -> None:
    for name in "ab":
        (Path(name) / "tokenizer.json").unlink()


def other_words() -> None:
    make_tokenizer(["quite other words"]).save_pretrained("b")


def lower_case() -> None:
    """The same tokens, and another reading of capitals."""
    tokenizer = make_tokenizer()
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained("b")


def other_special() -> None:
    make_tokenizer(eos_token="[SEP]").save_pretrained("b")


def few_words() -> None:
    save_folder(Path("b"), make_bert(words=9, **NAMES))


def few_positions() -> None:
    save_folder(Path("b"), make_bert(positions=7, **NAMES))


def decoders(**options: Any) -> Any:
    return lambda: [save_folder(Path(name), make_decoder("llama", seed, **options)) for seed, name in enumerate("ab")]


MISTAKES: dict[str, tuple[Any, str, list[str]]] = {
    "no [text]": (
        None,
        "",
        [f"{name}.csv holds texts (columns: text, label, place); pass tokenizer=" for name in ("cue", "rand")],
    ),
    "no such columns": (
        None,
        "[text]\ncolumn = 'txt'\nlabel = 'lable'\n",
        [
            f"{name}.csv has no column {column!r}; columns: text, label, place; did you mean {meant!r}?"
            for name in ("cue", "rand")
            for column, meant in (("txt", "text"), ("lable", "label"))
        ],
    ),
    "no tokenizer": (
        without_tokenizers,
        "[text]\n",
        ["a holds no tokenizer (none of tokenizer.json, vocab.txt, vocab.json, tokenizer.model); save it there"],
    ),
    "no such tokenizer": (None, "[text]\ntokenizer = 'c'\n", ["tokenizer: c is no folder or file that is there"]),
    "other tokens": (
        other_words,
        "[text]\n",
        ["the tokenizers in a and b differ (3 tokens have other ids, the first of them 'other')"],
    ),
    "another reading": (
        lower_case,
        "[text]\n",
        ["the tokenizers in a and b differ (they divide texts into tokens in other ways), so that one row"],
    ),
    "other special tokens": (other_special, "[text]\n", ["the tokenizers in a and b differ (special tokens are {"]),
    "a vocabulary larger than the embedding": (
        few_words,
        "[text]\ntokenizer = 'a'\n",
        ["b, split 'cue': row 1 holds token id 9, but BertForSequenceClassification has embeddings of 9 tokens; use"],
    ),
    "longer than the positions": (
        few_positions,
        "[text]\ntokenizer = 'a'\n",
        ["b, split 'cue': row 14 is given as 14 tokens, but BertForSequenceClassification has 7 positions; cut texts"],
    ),
    "no pad token": (
        decoders(),
        "[text]\n",
        [f"{name}, split 'cue': LlamaForSequenceClassification reads its answer at the last token" for name in "ab"],
    ),
    "another pad token": (
        decoders(pad_token_id=5),
        "[text]\n",
        [f"{name}, split 'cue': row 0 is padded with id 0, but LlamaForSequenceClassification reads" for name in "ab"],
    ),
    "no tokenizer and no such column": (
        without_tokenizers,
        "[text]\ncolumn = 'txt'\n",
        ["cue.csv has no column 'txt'", "rand.csv has no column 'txt'", "a holds no tokenizer"],
    ),
    "other classes": (
        None,
        "[text]\nclasses = ['good', 'medium']\n",
        [f"{name}.csv row 0: column 'label' must be one of 'good', 'medium', got 'bad'" for name in ("cue", "rand")],
    ),
    "an empty split": (
        lambda: write("rand.csv", "text,label\n"),
        "[text]\n",
        ["rand.csv holds no samples; at least one is needed"],
    ),
    "a configuration": (
        None,
        "[text]\ncolumn = ['text', 'text']\nmax_lenght = 8\n",
        [
            "audit.toml: text.column: expected one column, or two different ones for pairs, got text, text",
            "audit.toml: text.max_lenght: unknown key; did you mean 'max_length'?",
        ],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    change, toml, expected = MISTAKES[case]
    if change is not None:
        change()
    code, out, errors = run(SPLITS + toml, capsys)
    assert (code, out) == (2, "")
    assert len(errors) == len(expected)
    assert [line for text, line in zip(expected, errors, strict=True) if text not in line] == []


def test_a_decoder_whose_padding_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoders(pad_token_id=PAD)()
    code, out, errors = run(SPLITS + "[text]\n", capsys)
    assert (code, errors) == (0, []) and json.loads(out)["names"] == ["a", "b"]


def test_weights_without_a_folder_need_a_tokenizer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "a/model.safetensors b/model.safetensors --model text_models:build"
    write("text_models.py", "from torch import nn\ndef build():\n    return nn.Linear(2, 2)\n")
    code, _, errors = run(SPLITS + "[text]\n", capsys, words)
    assert code == 2
    assert any("[text] needs a tokenizer, and files of weights have none; name the folder" in line for line in errors)


def test_classifiers_of_sound_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        config = {"architectures": ["Wav2Vec2ForSequenceClassification"], "model_type": "wav2vec2"}
        write(f"{name}/config.json", json.dumps(config))
    code, _, errors = run(SPLITS + "[text]\n", capsys)
    assert code == 2 and len(errors) == 2
    expected = " holds a Wav2Vec2ForSequenceClassification, which takes sound, and sound is not read; load it with"
    assert all(f"mechconn: {name}{expected}" in line for name, line in zip("ab", errors, strict=True))


def test_a_tokenizer_that_one_network_lacks_is_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        Path("a", name).unlink()
    code, out, errors = run(SPLITS + "[text]\nmax_length = 8\n", capsys)
    assert (code, errors) == (0, [])
    assert json.loads(out)["notes"][0] == "a holds no tokenizer; texts are read by that of b"


def test_a_classifier_and_an_adapter_on_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The adapter's folder holds no tokenizer: that of its base reads the texts."""
    peft = pytest.importorskip("peft")
    with isolate_rng(0, "lora"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks Transformers by names that it will drop
        settings = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
        adapted = peft.get_peft_model(mc.load_model("a"), settings)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        adapted.save_pretrained("lora")
    assert not Path("lora/tokenizer.json").exists()
    config = json.loads(Path("lora/adapter_config.json").read_text(encoding="utf-8"))
    write("lora/adapter_config.json", json.dumps({**config, "base_model_name_or_path": "a"}))
    code, out, errors = run(SPLITS + "[text]\nmax_length = 8\n", capsys, "a lora")
    assert (code, errors) == (0, [])
    found = json.loads(out)["comparison"]["b"]
    data = load_text("cue.csv", "lora", max_length=8, classes=("good", "bad"))
    with torch.no_grad():
        logits = adapted.eval()(**data.inputs(torch.arange(30))).logits
    assert found["accuracy"]["cue"] == pytest.approx((logits.argmax(1) == data.y).float().mean().item())
    code, out, errors = run(SPLITS + "[text]\nmax_length = 8\n", capsys, "a lora --base b")
    assert (code, errors) == (0, []) and "lora names 'a' as its base; b is used" in json.loads(out)["notes"]
    code, _, errors = run(SPLITS + "[text]\nmax_length = 8\n", capsys, "a b --base a")
    (line,) = errors
    assert code == 2 and line.endswith(
        "--base a is for adapters (adapter_config.json), and none is given; leave it out"
    )
