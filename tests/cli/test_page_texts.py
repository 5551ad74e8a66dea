"""Two classifiers of texts, one in shards and one an adapter on it, audited by the one command of docs/audit.md."""

from __future__ import annotations

import copy
import json
import re
import shlex
import warnings
from pathlib import Path

import pytest

import mechconn as mc
from mechconn.cli import main
from mechconn.core import isolate_rng
from text_folders import make_bert, make_tokenizer, sentences

peft = pytest.importorskip("peft")
PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def save_models() -> None:
    base = make_bert(positions=128, id2label={0: "bad", 1: "good"})
    base.save_pretrained("bert", max_shard_size="4kB")
    make_tokenizer().save_pretrained("bert")
    settings = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", init_lora_weights=False)
    with isolate_rng(1, "adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.get_peft_model(copy.deepcopy(base), settings).save_pretrained("lora")
    config = Path("lora/adapter_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "bert"}))


def test_the_command_audits_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = re.findall(r'```toml\n(by = "genre"\n.*?)```', PAGE, re.S)
    (command,) = re.findall(r"^mechconn (audit bert/ lora/ .*)$", PAGE, re.M)
    Path("audit.toml").write_text(config, encoding="utf-8")
    texts, labels = sentences(40)
    genres = ["drama" if (label == "good") == (row % 5 > 0) else "comedy" for row, label in enumerate(labels)]
    rows = [",".join(row) for row in zip(texts, labels, genres, strict=True)]
    Path("reviews.csv").write_text("\n".join(["text,label,genre", *rows]), encoding="utf-8")
    save_models()
    assert len(list(Path("bert").glob("*.safetensors"))) > 1
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main([*shlex.split(command), "--json"])
    record = json.loads(capsys.readouterr().out)
    page = Path("audit.html").read_text(encoding="utf-8")
    assert "bert" in page and "lora" in page
    read = mc.datasets.load_text("reviews.csv", "bert", max_length=128)
    suite = mc.Suite(mc.split_by_agreement(read, mc.datasets.load_column("reviews.csv", "genre")), reference="agree")
    for side, folder in (("a", "bert"), ("b", "lora")):
        alone = mc.measure_invariance(mc.load_model(folder), suite)
        # in batches of other widths float32 sums differ in the last place, answers do not
        assert record["comparison"][side]["accuracy"] == dict(alone.accuracy)
        assert set(record["groups"][folder]["groups"]) == {"genre=comedy", "genre=drama"}
    assert record["paths"]
