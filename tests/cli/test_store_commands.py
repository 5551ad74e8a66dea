"""What reads the store, from words to exit status."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from mechconn.cli import main
from mechconn.cli._print_table import print_table
from mechconn.paper import RunStore
from run_records import SHORTCUT, cue_result, fig4_record, fig13_record, model, path, run_record, table1_record


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """Three runs, the ablation the latest."""
    monkeypatch.setenv("MECHCONN_STORE", str(tmp_path / "store"))
    made = RunStore(tmp_path / "store")
    made.save(table1_record(started="2026-01-01T00:00:00+00:00"))
    made.save(fig4_record())
    other = [cue_result(("planted", 0.8, 40, 0), {"CBFT": model(SHORTCUT)})]
    made.save(run_record("table3", other, started="2026-01-03T00:00:00+00:00", notes=("[3] was <damaged>",)))
    return made


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_list_has_the_latest_first(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["run"].split("-")[0] for line in lines] == ["table3", "fig4", "table1"]
    assert lines[2]["cells"] == lines[2]["planned"] == 2 and lines[2]["seconds"] == 12.5
    assert run("list") == 0
    shown = capsys.readouterr().out
    assert "table1-smoke-0123abcd" in shown and "2/2" in shown


def test_an_empty_store_is_no_mistake_to_list_but_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--store", str(tmp_path)) == 0
    assert "holds no runs yet; start one with mechconn run quickstart" in capsys.readouterr().out
    for words in (["show", "last"], ["report", "-o", str(tmp_path / "page.html")], ["remove", "x"]):
        assert run(*words, "--store", str(tmp_path)) == 2
        assert capsys.readouterr().err.count("holds no runs yet") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("word", ["last", "table3", "table3-smoke-0123abcd"])
def test_show_finds_a_run_by_last_or_by_its_start(
    word: str, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", word, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "table3-smoke-0123abcd"
    assert found["results"]["cells"][0]["models"]["CBFT"]["accuracy"] == SHORTCUT
    assert run("show", word) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("99.0", "training.epochs", "[3] was <damaged>", "Not the paper's settings"):
        assert part in shown


def test_show_has_numbers_by_width(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.save(fig13_record())
    assert run("show", "fig13") == 0
    shown = capsys.readouterr().out
    assert "Pairs of networks" in shown and "different" in shown and "1.2" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "table"], "several runs start with 'table': table1-smoke-0123abcd, table3-smoke-0123abcd"),
        (["show", "tabel1"], "did you mean 'table1-smoke-0123abcd'?"),
        (["compare", "fig4", "zzz"], "no run starts with 'zzz'; expected 'last' or the start of one of: table3-smoke"),
        (["report", "fig5", "-o", "no/such/folder/page.html"], "did you mean 'fig4-smoke-0123abcd'?"),
        (["schema", "tabel4"], "did you mean 'table4'?"),
    ],
)
def test_wrong_input_is_status_two(
    words: list[str], expected: str, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    shown = capsys.readouterr()
    assert expected in shown.err and shown.out == ""
    assert all(line.startswith("mechconn: ") for line in shown.err.splitlines())
    assert len(shown.err.splitlines()) == (2 if "no/such/folder/page.html" in words else 1)


def test_compare_has_what_both_have(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "table3", "fig4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == []
    own = [cue_result(("cifar10", 0.9, 2500, 0), {"CBFT": model(SHORTCUT)})]
    store.save(run_record("table1", own, "small"))
    assert run("compare", "table1-smoke", "table1-small", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    # Other data and other numbers of clean samples, but one of each: CBFT stands in both.
    changes = {pair["split"]: pair["difference"] for pair in found["accuracy"]}
    assert changes == pytest.approx({"no_cue": -0.25, "cue": 0.25, "rand_cue": -0.53, "rand_image": 0.71})
    assert found["settings"]["network"] == ["small_convnet", "vgg13"] and "points" not in found["settings"]
    assert run("compare", "table1-smoke", "table1-small") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "75.0 50.0" in shown and "-25.0" in shown and "A: table1-smoke" in shown
    assert run("compare", "fig4", "fig4") == 0
    shown = capsys.readouterr().out
    assert "Barriers in nats" in shown and "Settings that differ" not in shown


def test_compare_has_the_means_of_a_summary(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    first = fig13_record()
    store.save(first)
    assert run("compare", "fig13", "fig13", "--json") == 0
    found = json.loads(capsys.readouterr().out)["summary"]
    means = {
        (pair, width, measure): number["mean"]
        for pair, rest in (first.summary.to_plain() if first.summary else {}).items()
        if pair != "kind"
        for width, measures in rest["by_width"].items()
        for measure, number in measures.items()
    }
    assert (
        means
        and means.items()
        <= {(each["name"], each["where"].removeprefix("by_width "), each["split"]): each["a"] for each in found}.items()
    )
    assert all(each["difference"] == 0 for each in found)
    assert run("compare", "fig13", "fig13") == 0
    assert "Summary of all cells" in capsys.readouterr().out


def test_report_is_of_the_runs_that_are_named_or_of_the_latest(
    store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run("report", "fig4", "last", "-o", str(page)) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert 'id="fig4-smoke-0123abcd"' in text and "table1-smoke" not in text
    assert text.index('id="fig4-smoke-0123abcd"') < text.index('id="table3-smoke-0123abcd"')
    old = table1_record(id="table1-smoke-00000000", started="2025-01-01T00:00:00+00:00")
    store.save(old)
    assert run("report", "-o", str(page)) == 0
    text = page.read_text(encoding="utf-8")
    assert 'id="table1-smoke-0123abcd"' in text and old.id not in text
    assert text.index('id="fig4') < text.index('id="table1') < text.index('id="table3')


def test_remove_takes_the_run_alone(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("", "fig4"):
        assert run("remove", word) == 2
        assert "fig4-smoke-0123abcd" in capsys.readouterr().err
    assert run("remove", "fig4-smoke-0123abcd") == 0
    assert capsys.readouterr().out == "removed fig4-smoke-0123abcd and 0 steps that no other run used\n"
    assert [found.recipe for found in store.runs()] == ["table3", "table1"]
    assert run("remove", "last") == 0
    assert [found.recipe for found in store.runs()] == ["table1"]


def test_a_run_with_a_damaged_record_is_named_and_can_be_removed(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.root / "runs" / "fig4-smoke-0123abcd" / "record.json").write_text("{", encoding="utf-8")
    assert run("show", "fig4") == 2
    assert "the record of run fig4-smoke-0123abcd is damaged" in capsys.readouterr().err
    assert run("remove", "fig4-smoke-0123abcd") == 0
    assert store.names() == ["table1-smoke-0123abcd", "table3-smoke-0123abcd"]


def test_a_stopped_run_is_shown_as_far_as_it_came(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    heights = {("digits", 0.8, None, 0): None, ("digits", 0.8, None, 1): 1.0, ("digits", 0.9, None, 0): 1.0}
    cells = [cue_result(place, {"theta_C": model(SHORTCUT)}, [path(height)]) for place, height in heights.items()]
    store.save(run_record("fig5", cells, seeds=(0, 1, 2), status="stopped"))
    assert run("show", "fig5") == 0
    shown = capsys.readouterr().out
    assert "means over the seeds [0, 1]" in shown and "seeds" in shown
    assert "finite" in shown and "1.00" in shown


def test_a_store_that_is_a_file_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for words in (["list"], ["run", "quickstart"], ["remove", "last"]):
        assert run(*words, "--store", str(tmp_path / "file" / "store")) == 2
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1 and "the store must be a folder, and " in shown[0]


def test_schema_is_json_and_knows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "table1") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["required"] == ["recipe"] and found["properties"]["recipe"] == {"const": "table1"}
    assert {"datasets", "seeds", "methods", "training", "rows", "scale"} <= set(found["properties"])
    assert {"type": "string"} in found["properties"]["seeds"]["anyOf"]
    assert [kind["type"] for kind in found["properties"]["methods"]["anyOf"]] == ["object", "string", "array"]
    methods = found["properties"]["methods"]["anyOf"][0]["additionalProperties"]["anyOf"]
    own, *others = sorted(methods, key=lambda method: "$ref" in method)
    assert own["properties"]["method"]["pattern"] == ":"  # package.module:Class
    kinds = [found["$defs"][method["$ref"].removeprefix("#/$defs/")] for method in others]
    assert {"CBFT", "LPFT", "DFR", "Training"} <= {kind["properties"]["method"]["const"] for kind in kinds}
    assert not any(kind["additionalProperties"] for kind in kinds)
    assert run("schema") == 0
    every = json.loads(capsys.readouterr().out)
    assert every["table1"] == found and {"audit", "fig4", "quickstart"} <= set(every)
    assert "splits" in every["audit"]["properties"]


def test_info_names_the_store(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    assert str(store.root) in capsys.readouterr().out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_no_word_of_a_table_is_cut(terminal: bool) -> None:
    table = Table("network", *(f"accuracy on split_{number}" for number in range(9)), title="Wide")
    table.add_row("theta_NC", *(f"{number}.125 % (0.0 to 100.0)" for number in range(9)))
    file = io.StringIO()
    print_table(Console(file=file, width=60, force_terminal=terminal, color_system=None), table)
    shown = file.getvalue()
    assert "…" not in shown and "Wide" in shown and "theta_NC" in shown
    assert all(f"split_{number}" in shown and f"{number}.125" in shown for number in range(9))
    assert ("network: theta_NC" in shown) == terminal
    assert (max(map(len, shown.splitlines())) <= 60) == terminal
