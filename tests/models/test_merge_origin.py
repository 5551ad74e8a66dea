"""What a merged folder says of how it was made: configurations of mergekit in their documented forms, and our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mechconn as mc
from mechconn.models import is_merged_folder, read_merge_origin
from merge_files import write_parents

FORMS = {
    "a base that nothing is subtracted from is one of the networks": (
        "models:\n  - model: base\n    parameters: {weight: 1}\n  - model: x/a\n    parameters: {weight: 2}\n"
        "  - model: b\n    parameters: {weight: 3}\nmerge_method: linear\nbase_model: base\n",
        {"base": "base", "a": "x/a", "b": "b"},
        None,
    ),
    "mergekit adds it where the models lack it": (
        "models:\n  - model: x/a\n  - model: b\nmerge_method: karcher\nbase_model: base\n",
        {"base": "base", "a": "x/a", "b": "b"},
        None,
    ),
    "slices without it": (
        "slices:\n  - sources:\n    - {model: x/a, layer_range: [0, 2]}\n    - {model: b, layer_range: [0, 2]}\n"
        "merge_method: linear\nbase_model: base\n",
        {"a": "x/a", "b": "b"},
        None,
    ),
    "a method that subtracts one": (
        "models:\n  - model: x/a\n  - model: b\nmerge_method: nuslerp\nbase_model: base\n",
        {"a": "x/a", "b": "b"},
        "base",
    ),
    "models, the base among them": (
        "models:\n  - model: base\n  - model: x/a\n    parameters: {weight: 1, density: 0.5}\n"
        "  - model: ./b\nmerge_method: ties\nbase_model: base\nparameters: {normalize: true}\n",
        {"a": "x/a", "b": "b"},
        "base",
    ),
    "a mapping for a model": (
        "models:\n  - model: {model: {path: x/a, revision: main}}\n  - model: b@main\nmerge_method: linear\n",
        {"a": "x/a", "b": "b"},
        None,
    ),
    "slices, the base is one of both": (
        "slices:\n  - sources:\n    - {model: x/a, layer_range: [0, 2]}\n    - {model: b, layer_range: [0, 2]}\n"
        "merge_method: slerp\nbase_model: x/a\nparameters: {t: 0.5}\n",
        {"a": "x/a", "b": "b"},
        None,
    ),
    "modules": (
        "modules:\n  text:\n    models:\n      - model: x/a\n      - model: b\nmerge_method: linear\n",
        {"a": "x/a", "b": "b"},
        None,
    ),
    "two of one name": (
        "models:\n  - model: x/a\n  - model: a\nmerge_method: linear\n",
        {"x/a": "x/a", "a": "a"},
        None,
    ),
    "one changed network and its base": (
        "models:\n  - model: x/a\nmerge_method: task_arithmetic\nbase_model: base\n",
        {"base": "base", "a": "x/a"},
        None,
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with places that parents may be at, and an empty merged folder."""
    for name in ("x/a", "a", "b", "base", "merged"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "merged"


def write(folder: Path, text: str) -> None:
    (folder / "mergekit_config.yml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
def test_configurations_of_mergekit(folder: Path, form: str) -> None:
    text, parents, base = FORMS[form]
    write(folder, text)
    found = read_merge_origin(folder)
    assert is_merged_folder(folder) and found.tool == "mergekit" and not found.hashes
    if form == "two of one name":
        parents = {"x/a": "x/a", "a": "a"}
        assert sorted(map(str, found.parents.values())) == ["a", "x/a"]
    else:
        assert {name: str(place) for name, place in found.parents.items()} == parents
    assert (None if found.base is None else str(found.base)) == base
    assert found.method["method"] in text


def test_every_network_keeps_its_weight(folder: Path) -> None:
    write(folder, FORMS["a base that nothing is subtracted from is one of the networks"][0])
    assert read_merge_origin(folder).method["weights"] == {"base": 1, "a": 2, "b": 3}


def test_weights_and_settings_are_kept(folder: Path) -> None:
    write(folder, FORMS["models, the base among them"][0])
    told = read_merge_origin(folder).method
    assert told == {"method": "ties", "parameters": {"normalize": True}, "weights": {"a": 1, "b": None}}


def test_parents_are_found_from_here_from_the_folder_and_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "inner").mkdir()
    text = f"models:\n  - model: inner\n  - model: {folder.parent}/b\n  - model: gone/far/a\nmerge_method: linear\n"
    write(folder, text)
    monkeypatch.chdir(folder.parent / "x")
    found = {name: place.resolve() for name, place in read_merge_origin(folder).parents.items()}
    here = folder.parent
    assert found == {"inner": folder / "inner", "b": here / "b", "a": here / "a"}


WRONG = {
    "no YAML": ("models: [", "merged/mergekit_config.yml is no YAML ("),
    "code": ("!!python/object/apply:os.system ['touch ran']", "merged/mergekit_config.yml is no YAML ("),
    "another file": (
        "[1, 2]",
        "merged/mergekit_config.yml is no configuration of mergekit: expected a table with merge",
    ),
    "an adapter": (
        "models:\n  - model: b+someone/lora\n  - model: a\nmerge_method: linear\n",
        "merged/mergekit_config.yml merged b with an adapter (someone/lora) on it; merge the adapter into it, and pass",
    ),
    "not here": (
        "models:\n  - model: someone/y\n  - model: a\nmerge_method: ties\nbase_model: someone/z\n",
        "merged/mergekit_config.yml names 'someone/y', 'someone/z', and there is no such file or folder here",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_one_line(folder: Path, case: str) -> None:
    text, expected = WRONG[case]
    write(folder, text)
    with pytest.raises(ValueError) as caught:
        read_merge_origin(Path("merged"))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(expected) and not Path("ran").exists()


def test_our_own_record_moves_with_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_parents(tmp_path / "one" / "parents")
    mc.merge_folders(paths, mc.Mean({"a": 1.0, "b": 2.0}), tmp_path / "one" / "merged")
    (tmp_path / "one").rename(tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    found = read_merge_origin(Path("two/merged"))
    assert found.tool == "mechconn" and found.method == {"method": "mean", "weights": {"a": 1.0, "b": 2.0}}
    assert found.parents == {name: Path(f"two/parents/{name}.safetensors") for name in "ab"}
    assert set(found.hashes) == {"a", "b"}
    file = tmp_path / "two" / "merged" / "mechconn_merge.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    for broken in ("{", json.dumps({**told, "parents": [1]}), json.dumps({"method": {}})):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match=r"mechconn_merge\.json cannot be read as the record of a merge \("):
            read_merge_origin(Path("two/merged"))


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    assert not is_merged_folder(tmp_path)
    with pytest.raises(
        ValueError, match=r"does not say what it was merged of: there is no mechconn_merge\.json and no"
    ):
        read_merge_origin(tmp_path)
