"""The examples of the README and of the pages in docs/, typed as they stand."""

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.core import _registry, isolate_rng
from mechconn.paper import Recipe, resolve_settings
from mechconn.plotting import ResultFigure
from mechconn.symmetry import remove_symmetry_rule
from texts import texts

with isolate_rng(0, "import"):
    import transformers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.compile(r"```python\n(.*?)```\n(?:\n```\n(.*?)```\n)?", re.S)
"""An example, and what stands below it as its output."""

PAGES = (
    "arithmetic",
    "blocks",
    "changing",
    "choosing",
    "disagreement",
    "distillation",
    "extending",
    "features",
    "few_rows_no_groups",
    "formats",
    "input_paths",
    "interventions",
    "map",
    "merging",
    "methods",
    "outcomes",
    "paths",
    "relearning",
    "reliances",
    "representations",
    "results",
    "settled",
    "sparsest_edit",
    "star",
    "symmetries",
    "test_beds",
    "transplants",
)
"""Pages of docs/ whose examples print what stands below them; `test_every_page_is_run` names the others' tests."""

TRAINED = ("changing", "in_python")
"""Pages that print numbers of trained networks, which move with the version of torch: words are compared alone."""


def read_page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def leave_numbers_out(text: str) -> str:
    return re.sub(r"[=<] #", "~ #", re.sub(r"\d[\d,]*(\.\d+)?(e-?\d+)?", "#", text))


def read_numbers(text: str) -> list[float]:
    """In points of a hundred, but for whole numbers."""
    return [float(number) * (100 if abs(float(number)) <= 1 else 1) for number in re.findall(r"-?\d+\.\d+", text)]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 8192


@pytest.mark.slow
def test_the_readmes_example_and_the_tour_print_what_stands_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ((code, shown),) = EXAMPLES.findall(README)
    first, *others = EXAMPLES.findall(read_page("in_python"))
    assert first == (code, shown) and len(others) > 8
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    found = capsys.readouterr().out
    assert leave_numbers_out(found) == leave_numbers_out(shown)
    # Between one and two threads they move by up to 4 points.
    assert read_numbers(found) == pytest.approx(read_numbers(shown), abs=15)
    for example, printed in others:
        exec(compile(example, "in_python.md", "exec"), names)
        assert leave_numbers_out(capsys.readouterr().out) == leave_numbers_out(printed)
    for picture in ("compared.png", "path.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def forget_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a module be imported anew, and be forgotten once the test is over."""
    monkeypatch.setitem(sys.modules, name, sys)  # to be undone, also where no such module was there
    del sys.modules[name]


MODELS = """
from torch import nn

def build(width):
    parts = nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)
    return nn.Sequential(*parts)
"""
PLACES = "place,photographer\n" + "land,Ada\n" * 3 + "sea,Cleo\n" + "sea,Bo\n" * 3 + "land,Cleo\n"
INTERVENTIONS = "def turned(x, draws):\n    return x.rot90(2, (2, 3))\n"


def test_the_examples_on_models_and_data_of_ones_own_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("my_models", MODELS), ("my_interventions", INTERVENTIONS)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        forget_module(name, monkeypatch)
    save_file(mc.load_model("my_models:build", arguments={"width": 8}).state_dict(), tmp_path / "a.safetensors")
    config = transformers.BertConfig(vocab_size=34, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.num_labels = 3
    with isolate_rng(0, "reader"):
        reader = transformers.BertForSequenceClassification(config)
        reader.save_pretrained(tmp_path / "my_reader")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's use of Transformers
            settings = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
            peft.get_peft_model(reader, settings).save_pretrained(str(tmp_path / "my_adapter"))
    for split in ("cue", "shuffled"):
        for label, name in enumerate(("bird", "fish")):
            images = {f"{row}.png": pixels(10 * label + row, side=40) for row in range(4)}
            write_class_folder(tmp_path / "photos" / split / name, images)
    (tmp_path / "photos" / "places.csv").write_text(PLACES, encoding="utf-8")
    data = texts(40)
    names = {"input_ids": data.input_ids, "attention_mask": data.attention_mask, "labels": data.y}
    for example, _ in EXAMPLES.findall(read_page("your_model")):
        exec(compile(example, "your_model.md", "exec"), names)
    printed = capsys.readouterr().out
    assert len(re.findall("rand_cue|darker", printed)) >= 3
    assert "accuracy by group (95 % intervals):\n  y=0, place=land: " in printed
    assert list(names["by_place"]) == ["agree", "conflict"]  # pyright: ignore[reportArgumentType]
    assert "intervals over 3 clusters" in printed
    assert "ModelOutputs(cue: 8 x 2, rand_cue: 8 x 2)" in printed


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_print_what_stands_there(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example that begins with the name of a file is that file, which later ones import."""
    text = read_page(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # What the page defines is gone after it, so that other tests find the names that they expect.
    monkeypatch.setattr(_registry, "_REGISTERED", dict(_registry._REGISTERED))
    for kind in (ResultFigure, Recipe):
        monkeypatch.setattr(kind, "registered", dict(kind.registered))
    names: dict[str, object] = {}
    examples = EXAMPLES.findall(text)
    assert examples
    with isolate_rng(0, "docs"):
        for example, printed in examples:
            if file := re.match(r"# (my_\w+)\.py\n", example):
                (tmp_path / f"{file[1]}.py").write_text(example, encoding="utf-8")
                forget_module(file[1], monkeypatch)
                continue
            exec(compile(example, f"{page}.md", "exec"), names)
            found = capsys.readouterr().out
            if page in TRAINED:
                found, printed = leave_numbers_out(found), leave_numbers_out(printed)
            assert found == printed
    for operation in re.findall(r'^@symmetry_rule\("(my_rule::\w+)"', text, re.M):
        remove_symmetry_rule(operation)


@pytest.mark.slow
def test_the_lines_of_the_questions_run(tmp_path: Path) -> None:
    """Each call in the column "one line" of questions.md, on a task that is planted."""
    task = mc.datasets.cue_task("planted", rows=100, test_rows=40)
    suite, clean = task.suite, task.clean.sample(50, seed=0)
    with isolate_rng(0, "networks"):
        fresh, a, b = (nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in range(3))
    data, change = suite["cue"], mc.weight_change(a, b)
    assert isinstance(data, mc.CuedSet)
    x = data.inputs(torch.arange(40))
    names: dict[str, Any] = {
        "mc": mc,
        "suite": suite,
        "clean": clean,
        "cued": task.train,
        "data": data,
        "x": x,
        "norm": None,
    }
    names |= {"a": a, "b": b, "fresh": fresh, "model": a, "before": a, "after": b, "base": a, "tuned": b, "never": b}
    names |= {
        "teacher": a,
        "student": b,
        "runs": [a, b],
        "models": {"a": a, "b": b},
        "first": a,
        "other": b,
        "change": change,
    }
    names |= {"few": clean, "many": task.train}
    names |= {"column": [row // 2 % 2 for row in range(40)], "groups": {"y": data.y}, "rows": task.cue_only(20)}
    names |= {"files": mc.save_outputs(a, suite, tmp_path), "symmetry": mc.symmetry_of(a, x[:2])}
    names |= {"few": clean, "many": task.train}
    names |= {"tasks": [mc.TuningTask(a, clean, suite, cued=task.train)], "methods": {"naive": mc.NaiveFineTuning()}}
    lines = re.findall(r"^\|[^|]*\| `(mc\.[^`]*)`", read_page("questions"), re.M)
    assert len(lines) > 15
    shorter = {"StarFit()": "StarFit(epochs=1)", "Relearning()": "Relearning(steps=(0, 2), seeds=2)"}
    shorter |= {"Distillation(": "Distillation(epochs=1, ", "Pro2()": "Pro2(dims=3)"}
    shorter |= {"Distillation(": "Distillation(epochs=1, ", "Pro2()": "Pro2(dims=2)"}
    for line in lines:
        for default, short in shorter.items():
            line = line.replace(default, short)
        images = {"data": draw_images()} if "blur" in line else {}
        assert eval(compile(line, "questions.md", "eval"), names | images) is not None


def draw_images() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return 2 * torch.rand(20, 1, 4, 4, generator=draw) - 1, torch.arange(20) % 4


def list_anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.*)$", drop_code(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def drop_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)


def test_every_link_leads_somewhere() -> None:
    missing = []
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", drop_code(page)):
            file, _, anchor = target.partition("#")
            place = page.parent / file if file else page
            here = not target.startswith("http")
            if here and (not place.exists() or (anchor and anchor not in list_anchors(place))):
                missing.append(f"{page.name}: {target}")
    assert not missing


def test_every_page_is_run() -> None:
    """theory.md by tests/theory/test_page.py, your_model.md and in_python.md by tests of their own, above."""
    with_examples = {file.stem for file in (ROOT / "docs").glob("*.md") if EXAMPLES.search(read_page(file.stem))}
    assert with_examples == {*PAGES, "in_python", "theory", "your_model"}


def test_the_configuration_of_a_run_is_understood(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(recipe = .*?)```", read_page("reproducing"), re.S)
    (tmp_path / "own.toml").write_text(example, encoding="utf-8")
    recipe, scale, settings, _ = resolve_settings(str(tmp_path / "own.toml"))
    assert (recipe, scale) == ("table1", "small")
    assert settings.methods["IRM"] == mc.IRM(penalty=10.0) and "CBFT" in settings.methods
    assert [data.name for data in settings.datasets] == ["cifar10", "dominoes"]


def test_every_recipe_is_named_where_people_look(capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {name for name, kind in Recipe.registered.items() if kind.__module__.startswith("mechconn.")}
    listed = read_page("reproducing").split("## Recipes")[1]
    assert set(re.findall(r"^\| `(\w+)`", listed, re.M)) == recipes
    made = re.findall(r"^RECIPES := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(made[0].split()) == recipes
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    helped = capsys.readouterr().out
    assert all(recipe in helped for recipe in recipes)
