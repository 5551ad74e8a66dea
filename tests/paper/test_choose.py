"""From recipes, files and words to settings; all mistakes at once, each with what may have been meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mechconn.descent import Training
from mechconn.paper import SCALES, PathSettings, Recipe, Settings, TuningSettings, find_recipe, resolve_settings
from mechconn.paper._resolve_settings import merge_changes
from mechconn.paths import PolygonalFit
from mechconn.tuning import CBFT, NaiveFineTuning


def settings(what: str, *changes: str, scale: str | None = None) -> Settings:
    return resolve_settings(what, scale, changes)[2]


def tuning(*changes: str) -> TuningSettings:
    found = settings("table1", *changes)
    assert isinstance(found, TuningSettings)
    return found


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("recipe", Recipe.registered)
def test_every_recipe_survives_plain_values(recipe: str, scale: str, images: bool) -> None:
    made = find_recipe(recipe).settings(scale, images)  # pyright: ignore[reportArgumentType]
    plain = json.loads(json.dumps(made.model_dump(mode="json")))
    assert type(made).model_validate(plain) == made
    names = [cell.name for cell in find_recipe(recipe).cells(made)]
    assert names and len(set(names)) == len(names)
    # Settings without relearning are those of before there was any, so that runs keep their ids.
    left_out = {"relearn"} if getattr(made, "relearn", None) is None else set()
    assert set(type(made).model_json_schema()["properties"]) - left_out == set(plain) - left_out


def test_paper_scale_is_the_sources() -> None:
    table = find_recipe("table1").settings("paper", True)
    assert isinstance(table, TuningSettings)
    assert table.training.settings() | {"method": ""} == {
        "method": "", "epochs": 100, "batch_size": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
        "milestones": (40, 80), "decay": 0.1, "accumulate": 1, "clip_norm": None,
    }  # fmt: skip
    assert (table.network, table.rows, table.clean_samples, table.seeds) == ("vgg13", None, (2500,), (0, 1, 2))
    assert table.proportions == (0.6, 0.7, 0.8, 0.9) and [d.name for d in table.datasets] == ["cifar10", "dominoes"]
    assert list(table.methods) == ["FT-S", "FT-M", "FT-L", "LLRT", "LPFT", "CBFT"]
    plain = {name: method.settings() for name, method in table.methods.items()}
    rates = {n: (m["lr"], m["epochs"], m["batch_size"]) for n, m in plain.items() if n != "LPFT"}
    assert rates["LLRT"] == (30.0, 200, 256) and plain["LPFT"]["tuning"]["lr"] == 0.01
    assert {n: rates[n] for n in ("FT-S", "FT-M", "FT-L", "CBFT")} == {
        "FT-S": (0.001, 20, 256), "FT-M": (0.01, 20, 256), "FT-L": (0.1, 20, 256), "CBFT": (0.01, 20, 256),
    }  # fmt: skip
    fig5 = find_recipe("fig5").settings("paper", True)
    assert (
        isinstance(fig5, TuningSettings)
        and fig5.clean_samples == (None,)
        and fig5.methods["FT-L"].settings()["epochs"] == 100
    )
    fig4 = find_recipe("fig4").settings("paper", True)
    assert isinstance(fig4, PathSettings) and fig4.fit.settings()["epochs"] == 15 and fig4.points == 11
    table4 = find_recipe("table4").settings("paper", True)
    assert isinstance(table4, TuningSettings) and table4.clean_samples == (250, 500, 1000, 2500, 5000, 10000)


def test_words_change_settings() -> None:
    found = tuning("methods.CBFT.epochs=3", "seeds=0,2", "rows=100", "training.milestones=[1, 2]", "precision=auto")
    assert isinstance(found.methods["CBFT"], CBFT) and found.methods["CBFT"].epochs == 3
    assert found.methods["FT-M"] == tuning().methods["FT-M"]
    assert (found.seeds, found.rows, found.training.milestones, found.precision) == ((0, 2), 100, (1, 2), "auto")
    assert [data.source for data in tuning("datasets=digits,./photos").datasets] == ["digits", "./photos"]
    assert tuning("clean_samples=null").clean_samples == tuning("clean_samples=none").clean_samples == (None,)
    assert tuning("rows=100", "rows=none").rows is None


def test_values_change_settings_as_they_are() -> None:
    given = {"seeds": (0, 2), "training": Training(epochs=3), "methods": {"CBFT": CBFT(epochs=2)}, "precision": "auto"}
    found = resolve_settings("table1", "smoke", given)[2]
    assert (found.seeds, found.training, found.precision) == ((0, 2), Training(epochs=3), "auto")
    assert found.methods["CBFT"] == CBFT(epochs=2) and found.methods["FT-M"] == tuning().methods["FT-M"]
    later = resolve_settings("table1", "smoke", ["seeds=1", {"seeds": (4,)}, "rows=30"])[2]
    assert (later.seeds, later.rows) == ((4,), 30)
    with pytest.raises(ValueError) as error:
        resolve_settings("table1", "smoke", ["rows=0", "width", {"seeds": (-1,), "precision": "half"}])
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["--set", "seeds.0:", "rows:", "precision:"]


def test_methods_are_picked_by_name_changed_and_added() -> None:
    assert list(tuning("methods=CBFT,FT-S").methods) == ["CBFT", "FT-S"]
    added = tuning('methods.own={"method": "NaiveFineTuning", "lr": 0.5}').methods
    assert added["own"] == NaiveFineTuning(lr=0.5) and len(added) == len(tuning().methods) + 1
    other = tuning('methods.FT-S={"method": "CBFT", "barrier": false}').methods["FT-S"]
    assert other == CBFT(barrier=False)  # and nothing of what FT-S was
    words = ("methods.own.lr=3", "methods.own.method=NaiveFineTuning")
    assert tuning(*words).methods["own"] == tuning(*reversed(words)).methods["own"] == NaiveFineTuning(lr=3)
    named = tuning('methods.LPFT.tuning={"method": "NaiveFineTuning", "lr": 0.5}', "training.method=Training")
    assert named.methods["LPFT"].settings()["tuning"]["lr"] == 0.5 and named.training == tuning().training
    fit = settings("fig4", 'fit={"method": "PolygonalFit", "bends": 2}')
    assert isinstance(fit, PathSettings) and fit.fit == PolygonalFit(bends=2)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_files_change_settings_and_words_come_after(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"own.{suffix}"
    values = {"recipe": "table3", "scale": "small", "rows": 300, "training": {"epochs": 2}, "seeds": [5]}
    toml = 'recipe = "table3"\nscale = "small"\nrows = 300\nseeds = [5]\n[training]\nepochs = 2\n'
    file.write_text(toml if suffix == "toml" else json.dumps(values), encoding="utf-8")
    recipe, scale, found, _ = resolve_settings(str(file), None, ["rows=200"])
    assert (recipe, scale, found.rows, found.seeds, found.training.epochs) == ("table3", "small", 200, (5,), 2)
    assert found.training.lr == 0.05 and resolve_settings(str(file), "smoke", [])[1] == "smoke"


def test_none_in_a_file_is_none(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('recipe = "table1"\nrows = "none"\nclean_samples = [100, "none"]\n', encoding="utf-8")
    found = resolve_settings(str(file))[2]
    assert found.rows is None and found.clean_samples == (100, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[1, 2]", "must hold a table of settings"), ('{"rows": 3}', 'names no recipe; write recipe = "..."')],
)
def test_a_file_that_is_no_configuration(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=expected):
        resolve_settings(str(file))


def test_mistakes_of_recipe_scale_and_words_come_together() -> None:
    with pytest.raises(ValueError) as error:
        resolve_settings("tabel1", "huge", ["rows"])
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["recipe", "scale", "--set"]


def test_no_mistake_of_a_file_hides_another(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('\ufeffrecipe = "table1"\nscale = "huge"\nmethods = "CBFT,FTM"\nrows = 0\n', encoding="utf-8")
    with pytest.raises(ValueError) as error:
        resolve_settings(str(file), None, ["training.epochs=0"])
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["scale", "methods", "rows:", "training:"]


MISTAKES = {
    "recipe": ("tabel1", [], ["recipe must be one of", "did you mean 'table1'?"]),
    "unknown keys": (
        "table1",
        ["trainig.epochs=3", "methods.CBFT.barier=false", "training.epoch=3"],
        [
            "trainig: unknown key; did you mean 'training'?",
            "methods.CBFT.barier: unknown key; did you mean 'barrier'?",
            "training.epoch: unknown key; did you mean 'epochs'?",
        ],
    ),
    "values": (
        "table1",
        ["proportions=0.5,1.5", "seeds=-1", "network=vgg", "training.lr=fast", "rows=1"],
        ["proportions.1: ", "seeds.0: ", "network: ", "training.lr: ", "rows: "],
    ),
    "checks of the methods": (
        "table1",
        ["methods.CBFT.lr=-1"],
        ["methods.CBFT: lr must be a number greater than zero"],
    ),
    "method": ("table1", ['methods.x={"method": "CBFD"}'], ["methods.x: method must be", "did you mean 'CBFT'?"]),
    "no table": ("table1", ["methods.CBFT=3"], ["methods.CBFT: expected a table of settings", "got 3"]),
    "picked": ("table1", ["methods=CBFT,FTM"], ["methods must be one of", "got 'FTM'"]),
    "two picked": ("table1", ["methods=CBTF,FTM", "rows=1"], ["got 'CBTF'", "got 'FTM'", "rows: "]),
    "nested": (
        "table1",
        ["methods.LPFT.probe.lrr=3", "methods.LPFT.tuning.method=CBFT"],
        [
            "methods.LPFT.probe.lrr: unknown key; did you mean 'lr'?",
            "methods.LPFT.tuning: method must be one of 'Naive",
        ],
    ),
    "training": ("table1", ["training=3"], ["training: expected a table of settings such as {lr = 0.01}, got 3"]),
    "key of a dataset": (
        "table1",
        ['datasets=[{"name": "a", "source": "b", "siz": 3}]'],
        ["datasets.0.siz: unknown key; did you mean 'size'?"],
    ),
    "dataset": ("table1", ["datasets=cifar1"], ["datasets: no dataset 'cifar1'", "did you mean 'cifar10'?"]),
    "twice": ("table1", ["seeds=1,1"], ["seeds: the same value stands there twice: 1, 1"]),
    "alike": ("table1", ["proportions=[0.8,0.8000001]"], ["proportions: the same value stands there twice: 0.8, 0.8"]),
    "word": ("table1", ["rows", "width=0"], ["--set 'rows' must be name=value", "width: "]),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_come_all_at_once_with_suggestions(what: str) -> None:
    recipe, changes, expected = MISTAKES[what]
    with pytest.raises(ValueError) as error:
        resolve_settings(recipe, "smoke", changes)
    lines = str(error.value).splitlines()
    assert len(lines) == (1 if what in ("recipe", "method") else len(expected) if "unknown" in what else len(lines))
    for part in expected:
        assert any(part in line for line in lines), lines


def test_digits_stand_in_where_no_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MECHCONN_DATA", raising=False)
    _, _, found, notes = resolve_settings("table1")
    assert [data.name for data in found.datasets] == ["digits"]
    assert len(notes) == 1 and "takes the embedded digits" in notes[0] and "MECHCONN_DATA" in notes[0]
    assert resolve_settings("quickstart")[3] == resolve_settings("fig13")[3] == []
    assert resolve_settings("table1", changes=["datasets=planted"])[3] == []
    (tmp_path / "cifar10").mkdir()
    for root, variable in ((tmp_path, ""), (None, str(tmp_path))):
        monkeypatch.setenv("MECHCONN_DATA", variable)
        _, _, found, notes = resolve_settings("table1", root=root)
        assert [data.name for data in found.datasets] == ["cifar10"] and notes == []


def test_tables_merge_and_values_are_replaced() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert merge_changes(base, {"a": {"c": {"d": 3}}, "e": [2], "f": 4}) == {
        "a": {"b": 1, "c": {"d": 3}},
        "e": [2],
        "f": 4,
    }
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert merge_changes({"a": {"lr": 3}}, {"a": {"method": "M"}}) == {"a": {"lr": 3, "method": "M"}}
    assert merge_changes({"a": {"lr": 3, "method": "K"}}, {"a": {"method": "M"}}) == {"a": {"method": "M"}}
