"""Options of `[interventions]` that name a column, other rows, or masks; and interventions that change labels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, png, write_class_folder
from mechconn.cli import main
from mechconn.cli._audit_files import AuditJob, prepare_audit
from mechconn.cli._reading_config import ReadingConfig
from mechconn.cli._schemas import make_schema
from mechconn.core import list_kinds, read_config
from mechconn.interventions import Intervention

MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 2))

def rows():
    return nn.Linear(4, 2)
"""
HEAD = (
    "points = 3\nalignment = 'none'\nreference = 'test'\n[model]\nfactory = 'side_models:{0}'\n[splits]\ntest = '{1}'\n"
)
PHOTOS, ROWS = HEAD.format("build", "photos"), HEAD.format("rows", "rows.safetensors")
ROW_COUNT = 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "side_models.py").write_text(MODELS, encoding="utf-8")
    for factory in ("build", "rows"):
        for seed, name in enumerate("ab"):
            state = mc.load_model(f"side_models:{factory}", seed=seed).state_dict()
            save_file(state, tmp_path / f"{name}_{factory}.safetensors")
    for label, name in enumerate("27"):
        images = {f"{name}_{row}.png": pixels(20 * label + row) for row in range(6)}
        write_class_folder(tmp_path / "photos" / name, images)
        write_class_folder(tmp_path / "masks" / name, {file: make_mask(row) for row, file in enumerate(images)})
    draw = torch.Generator().manual_seed(0)
    for name in ("rows", "others"):
        x, place = torch.randn(ROW_COUNT, 4, generator=draw), torch.arange(ROW_COUNT) % 3
        save_file({"x": x, "y": torch.arange(ROW_COUNT) % 2, "place": place}, tmp_path / f"{name}.safetensors")
    return tmp_path


def make_mask(row: int) -> np.ndarray:
    """White in the upper rows of the image."""
    mask = np.zeros((6, 6, 1), np.uint8)
    mask[: 1 + row % 3] = 255
    return mask


def prepare(folder: Path, toml: str) -> AuditJob:
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    config = read_config(folder / "audit.toml", ReadingConfig)
    factory = "rows" if "side_models:rows" in toml else "build"
    files = (folder / f"a_{factory}.safetensors", folder / f"b_{factory}.safetensors")
    return prepare_audit(files, None, config, folder, seed=3)


def render(job: AuditJob, name: str) -> torch.Tensor:
    split = job.suite[name]
    assert isinstance(split, mc.IntervenedSet)
    return split.inputs(torch.arange(len(split)))


def test_groups_are_a_column_and_donors_other_rows(folder: Path) -> None:
    job = prepare(
        folder,
        f"""{ROWS}
        [interventions]
        grouped = {{name = "swap-column", columns = 1, within = "place"}}
        classed = {{name = "swap-column", columns = 1, within = "class"}}
        foreign = {{name = "swap-column", columns = 1, donors = "others.safetensors"}}
        """,
    )
    data, others = (mc.datasets.load_splits({"": f"{name}.safetensors"})[""] for name in ("rows", "others"))
    rows = torch.arange(ROW_COUNT)
    x, theirs = data.inputs(rows)[:, 1], others.inputs(rows)[:, 1]
    for name, groups in (("grouped", rows % 3), ("classed", rows % 2)):
        donors = (render(job, name)[:, 1, None] == x).long().argmax(1)
        assert (groups[donors] == groups).all() and (donors != rows).all()
    assert torch.isin(render(job, "foreign")[:, 1], theirs).all()
    expected = mc.intervened(
        data, {"grouped": mc.interventions.SwapColumn(columns=1, within=rows % 3)}, reference="test", seed=3
    )
    assert torch.equal(render(job, "grouped"), expected["grouped"].inputs(rows))  # pyright: ignore


@pytest.mark.parametrize("form", ["folder", "folder of other suffix", "column", "tensor"])
def test_masks_are_a_folder_a_column_or_a_tensor(folder: Path, form: str) -> None:
    toml, place = PHOTOS, "masks"
    files = sorted((folder / "masks").rglob("*.png"))
    names = [f"{file.parent.name}/{file.name}" for file in files]
    if form == "folder of other suffix":
        for file in files:
            file.rename(file.with_suffix(".bmp"))
    if form == "column":
        lines = [f"photos/{name},masks/{name},{int(name[0]) // 5}" for name in names]
        (folder / "list.csv").write_text("\n".join(["file,object,label", *lines]) + "\n", encoding="utf-8")
        toml, place = PHOTOS.replace("'photos'", "'list.csv'"), "object"
    if form == "tensor":
        images = mc.datasets.load("photos")
        masks = torch.from_numpy(np.stack([make_mask(row % 6)[:, :, 0] > 0 for row in range(12)]))
        save_file({"x": images.x, "y": images.y, "object": masks}, folder / "held.safetensors")
        toml, place = PHOTOS.replace("'photos'", "'held.safetensors'"), "object"
    job = prepare(folder, f"{toml}[interventions]\nbehind = {{name = 'background', masks = '{place}', fill = 0.5}}\n")
    x, shown = job.suite["test"].inputs(torch.arange(12)), render(job, "behind")  # pyright: ignore
    for row in range(12):
        top = 1 + row % 6 % 3
        assert torch.equal(shown[row, :, :top], x[row, :, :top]) and (shown[row, :, top:] == 0.5).all()


def test_donors_of_images_are_read_before_the_normalisation(folder: Path) -> None:
    for number, name in enumerate("27"):
        images = {f"{row}.png": pixels(200 + 20 * number + row) for row in range(3)}
        write_class_folder(folder / "textures" / name, images)
    toml = f"{PHOTOS}[images]\nmean = [0.2]\nstd = [0.1]\n[interventions]\n"
    job = prepare(folder, f"{toml}worn = {{name = 'texture', donors = 'textures'}}\n")
    images, donors = mc.datasets.load("photos"), mc.datasets.load("textures")
    named = {"worn": mc.interventions.Texture(donors=donors)}
    expected = mc.intervened(images, named, reference="test", seed=3)["worn"].inputs(torch.arange(12))  # pyright: ignore
    torch.testing.assert_close(render(job, "worn"), ((expected + 1) / 2 - 0.2) / 0.1)


def test_masks_follow_rows_that_are_selected_and_resized(folder: Path) -> None:
    images = mc.datasets.load("photos", size=12)
    masks = mc.datasets.load_masks("masks", images, size=12)
    assert masks.dtype == torch.bool and masks.shape == (12, 1, 12, 12)
    assert masks.float().mean((1, 2, 3)).tolist() == pytest.approx([(1 + row % 6 % 3) / 6 for row in range(12)])
    with pytest.raises(ValueError, match=r"^masks must be of the images' size, 12 x 12 pixels, got 6 x 6; pass size="):
        mc.datasets.load_masks("masks", images)
    (folder / "masks" / "2" / "2_0.png").write_bytes(png(make_mask(0) // 255))  # ones stand for white
    assert mc.datasets.load_masks(["masks/2/2_0.png"] * 12, mc.datasets.load("photos"))[:, 0, 0].all()


def test_what_changes_labels_is_kept_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = prepare(folder, f"{PHOTOS}[interventions]\nmirrored = 'flip'\ngrey = 'grey'\n")
    (note,) = job.notes
    assert note.startswith("mirrored changes the label for people, so that its effect says nothing about what a model ")
    assert note.endswith("which a horizontal flip turns into other signs.")
    assert list(job.suite) == ["test", "mirrored", "grey"]
    with pytest.raises(SystemExit, match="0"):
        main(["audit", "a_build.safetensors", "b_build.safetensors", "--data", "audit.toml", "--json"])
    assert note in json.loads(capsys.readouterr().out)["notes"]


def test_every_registered_name_stands_in_the_schema() -> None:
    made = make_schema("audit")["properties"]["interventions"]["anyOf"][1]["additionalProperties"]["anyOf"]
    assert made[0]["enum"] == list(list_kinds(Intervention, built_in=True))
    assert {"grey", "background", "swap-column", "rotate"} <= {*made[0]["enum"]}


@pytest.mark.parametrize(
    ("toml", "texts"),
    [
        (
            f"{ROWS}[interventions]\na = {{name = 'swap-column', columns = 1, within = 'plac'}}\nb = 'swapcolumn'\n",
            ["interventions.a: within = 'plac': .* has no tensor", "'b' must be one of .*; did you mean 'swap-column'"],
        ),
        (
            f"{ROWS}[interventions]\na = {{name = 'swap-column', columns = 1, donors = 'photos'}}\n",
            ["the splits must be of one kind and shape, got test: TensorPair .*donors of interventions.a: ImageSet"],
        ),
        (
            f"{ROWS}[interventions]\na = 'grey'\nb = {{name = 'swap-column', columns = 7}}\nc = 'swap-column'\n",
            ["the intervention 'c' SwapColumn needs columns; write a table"],
        ),
        (
            f"{ROWS}[interventions]\na = 'grey'\nb = {{name = 'swap-column', columns = 7}}\n",
            ["interventions.a: Grey needs images", "interventions.b: SwapColumn has column 7"],
        ),
        (
            f"{ROWS}[interventions]\na = {{name = 'background', masks = 'masks'}}\n",
            ["interventions.a: masks = 'masks': masks are of images, and the rows are a TensorPair"],
        ),
        (
            f"{PHOTOS}[interventions]\na = {{name = 'background', masks = 'photos/2'}}\n",
            ["interventions.a: masks = 'photos/2': photos/2 has no mask for 7_0.png .6 of 12 images have none."],
        ),
        (
            f"{PHOTOS}[images]\nsize = 8\n[interventions]\na = {{name = 'background', masks = 'mask'}}\n",
            ["interventions.a: masks = 'mask': photos .*'mask'"],
        ),
        (f"{PHOTOS}[interventions]\na = {{name = 'background', masks = 'side_models:mask'}}\n", ["has no 'mask'"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_each(
    folder: Path, toml: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    factory = "rows" if "side_models:rows" in toml else "build"
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["audit", f"a_{factory}.safetensors", f"b_{factory}.safetensors", "--data", "audit.toml"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(texts), lines
    for line, text in zip(lines, texts, strict=True):
        assert re.search(text, line), line
