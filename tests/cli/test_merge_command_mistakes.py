"""Wrong words of `mechconn merge`: all told at once, a line each, and nothing is written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mechconn.cli import main
from merge_files import write_berts
from text_folders import write_csv

TOML = 'reference = "test"\n[splits]\ntest = "test.csv"\nother = "other.csv"\n[text]\n'


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    write_berts(folder, count=3)
    write_berts(folder / "wide", count=1, words=60)
    write_csv(folder / "test.csv", 40)
    write_csv(folder / "other.csv", 50)
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    (folder / "audit.toml").write_text(TOML, encoding="utf-8")
    metric = 'on = "brier"\n' + TOML + '[metrics]\nbrier = "metrics:brier"\n'
    (folder / "metric.toml").write_text(metric, encoding="utf-8")
    (folder / "wrong.toml").write_text(
        TOML + "[merge]\nmethod = 'tise'\ntolerence = 1\nalign = 'universe'\nonto = 3\n", encoding="utf-8"
    )
    (folder / "soup.toml").write_text(TOML + "[merge]\nmethod = 'mean'\ndata = 'test.csv'\n", encoding="utf-8")
    (folder / "same.toml").write_text(TOML + "[merge]\nmethod = 'greedy_soup'\ndata = 'test.csv'\n", encoding="utf-8")
    (folder / "onto.toml").write_text(TOML + "[merge]\nonto = 'c'\nalign = 'weights'\n", encoding="utf-8")
    return folder


MISTAKES: dict[str, tuple[str, list[str]]] = {
    "one network": ("merge a -o new", ["merging needs two networks or more, got one, a; pass others too, or a folder"]),
    "no output": ("merge a b", ["the merged network needs a new folder; name it: -o merged/"]),
    "a network twice": ("merge a b ./a -o new", ["a is given twice; pass each network once, and --weights where one"]),
    "all at once": (
        "merge a q --data no.toml -o full --method tise --weights a --shard-size 3 --device gpu --precision half",
        [
            "weights: q is no file; pass a file of weights, or the folder they are in",
            "no configuration file no.toml; mechconn init FOLDER writes one for an audit",
            "full is there and not empty; name a new folder, or remove this one",
            "shard_size must be a number of bytes or a text such as '5GB' or '200MB', got '3'",
            "device must be one of 'auto', 'cpu', 'cuda', got 'gpu'",
            "precision must be one of 'model', 'auto', got 'half'",
            "--method must be one of 'dare', 'fisher_mean', 'greedy_soup', 'mean'",
            "--weights must be names with numbers, as in a=0.7,b=0.3, got 'a'",
        ],
    ),
    "weights of others": (
        "merge a b -o new --weights a=1,c=2",
        ["--weights must name every network once, a, b, got a, c; as in --weights a=1,b=1"],
    ),
    "a method without weights": (
        "merge a b -o new --weights a=1,b=2 --method slerp",
        ["--weights are for methods that have some, such as mean, and 'slerp' has none"],
    ),
    "a negative weight": (
        "merge a b -o new --weights a=-1,b=2",
        ["the weight of 'a' must be zero or more, got -1.0"],
    ),
    "weights that sum to zero": (
        "merge a b -o new --weights a=0,b=0",
        ["weights must not all be zero, got {'a': 0.0, 'b': 0.0}; give some parent a weight"],
    ),
    "no such option": (
        "merge a b -o new --method '{name=\"ties\", densty=1}'",
        ["--method 'ties' has no option 'densty'; it has density, scale"],
    ),
    "no table": ("merge a b -o new --method '{name=ties}'", ["{name=ties} is no table ("]),
    "no base": ("merge a b -o new --method ties", ["TIES merges what the parents changed, and there is no base"]),
    "what needs data": (
        "merge a b -o new --align universe --tolerance 0.1 --method greedy_soup",
        [
            "method 'greedy_soup' reads rows; name them in an audit.toml, [merge] data, and --data",
            "--align needs --data audit.toml: without it symmetries are found on rows",
            "--tolerance needs --data audit.toml: without it nothing is judged",
        ],
    ),
    "what judges, without data": (
        "merge a b -o new --splits test --better lower",
        [
            "--splits needs --data audit.toml: without it nothing is judged",
            "--better needs --data audit.toml: without it nothing is judged",
        ],
    ),
    "a folder to judge, without data": (
        "merge a b --judge c -o new.html",
        ["c was merged before, and is judged on data; name them: --data audit.toml"],
    ),
    "how to merge what is judged": (
        "merge a b --judge c --data audit.toml --method ties --weights a=3,b=1 --align universe -o new.html",
        ["--method and --weights and --align: c was merged before, and is judged as it is; leave that out"],
    ),
    "a base of what is judged": (
        "merge a b --judge c --data audit.toml --base c -o new.html",
        ["--base: c was merged before, and is judged against its parents; leave that out"],
    ),
    "a base, and another order of units": (
        "merge a b --data audit.toml --base c --align universe -o new",
        ["--base goes without align ('universe'): parents that were fine-tuned from one base have its order of units"],
    ),
    "splits and directions that are none": (
        "merge a b --data audit.toml --splits test,tset --better lower -o new",
        ["merge.splits must be one of 'test', 'other', got 'tset'", "better must be 'higher' on accuracy, got 'lower'"],
    ),
    "another word for a direction": (
        "merge a b --data audit.toml --better less -o new",
        ["merge.better: "],
    ),
    "a metric without a direction": (
        "merge a b --data metric.toml -o new",
        [
            "on = 'brier' is a metric of your own, of which better values are not known; name them under [merge], "
            'better = "higher" or "lower" (--better)'
        ],
    ),
    "a folder in one that is missing": (
        "merge a b -o x/y/new",
        ["x/y/new cannot be written: "],
    ),
    "settings of the file": (
        "merge a b --data wrong.toml -o new",
        [
            "merge.method: method must be one of 'dare'",
            "wrong.toml: merge.onto: ",
            "tolerence: unknown key",
        ],
    ),
    "rows of a method that reads none": (
        "merge a b --data soup.toml -o new",
        ["merge.data is for methods that read rows, and 'mean' reads none; leave it out, or name a method that does"],
    ),
    "rows that judge and choose": (
        "merge a b --data same.toml -o new",
        ["merge.data = 'test.csv' is the split 'test', so that no verdict on it holds; name rows that are in no split"],
    ),
    "no such network to move onto": (
        "merge a b --data onto.toml -o new",
        ["merge.onto must be one of 'a', 'b', got 'c'"],
    ),
    "other architectures": (
        "merge a wide/a --data audit.toml -o new",
        ["bert.embeddings.word_embeddings.weight"],
    ),
    "other architectures, without data": (
        "merge a wide/a -o new",
        [
            "wide/a (wide/a) has other shapes or types than a: bert.embeddings.word_embeddings.weight float32[60, 8] "
            "against float32[40, 8]; all must be of one architecture",
            "config.json of wide/a (wide/a) differs from that of a: vocab_size is 60 against 40; all must be of one",
        ],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_together_and_nothing_is_written(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    monkeypatch.chdir(made)
    before = sorted(made.rglob("*"))
    words, expected = MISTAKES[case]
    assert run(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mechconn: ")]
    assert len(lines) == len(expected)
    for text, line in zip(sorted(expected), sorted(lines), strict=True):
        assert any(text in line for line in lines), (text, line)
    assert sorted(made.rglob("*")) == before


def test_what_was_merged_is_judged_as_it_is(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "test.csv", "other.csv", "audit.toml"):
        (tmp_path / name).symlink_to(made / name)
    assert run("merge a b -o merged") == 0
    capsys.readouterr()
    assert run("merge merged --method ties --align universe --weights a=1,b=1 -o new.html") == 2
    assert capsys.readouterr().err.splitlines() == [
        "mechconn: merged was merged before, and is judged on data; name them: --data audit.toml"
    ]
    assert run("merge merged --data audit.toml --method ties --align universe -o new.html") == 2
    assert capsys.readouterr().err.splitlines() == [
        "mechconn: --method and --align: merged was merged before, and is judged as it is; leave that out"
    ]
    assert run("merge merged --data audit.toml -o audit.toml") == 2
    assert "the result would overwrite audit.toml, which is read; name another file with -o" in capsys.readouterr().err
    assert run("merge merged --data audit.toml -o a") == 2
    assert "the result cannot be written to a: expected a file in a folder" in capsys.readouterr().err
