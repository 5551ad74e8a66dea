import json
from pathlib import Path

import pytest
import torch

import mechconn as mc
from image_files import write_set
from mechconn.descent import Training
from mechconn.paper import DemoSettings, choose_demo_settings, run_demo
from mechconn.tuning import CBFT, NaiveFineTuning

QUICK = DemoSettings(
    seed=1,
    width=2,
    clean_samples=64,
    points=3,
    training=Training(epochs=1, batch_size=128),
    naive=NaiveFineTuning(epochs=1, batch_size=32),
    cbft=CBFT(epochs=2, batch_size=32),
)


def test_the_story_is_told_whole_and_repeats_exactly():
    seen: list[mc.ProgressEvent] = []
    first = run_demo(QUICK, progress=seen.append)
    assert list(first.accuracy) == ["theta_C", "theta_NC", "FT-M", "CBFT"]
    assert list(dict.fromkeys(event.stage[:5] for event in seen)) == [f"[{i}/8]" for i in range(1, 9)]
    assert set(first.pictures) == {"no_cue", "cue", "rand_cue", "rand_image"}
    assert first.path.ts == [0.0, 0.5, 1.0]
    for split, interval in first.path.barrier_interval.items():
        barrier = first.path.barrier[split]
        assert interval is not None and barrier is not None and interval[0] <= barrier[0] <= interval[1]
    assert first.settings["norm"]["data"] == "training data without the cue"
    again = run_demo(QUICK)
    assert again.accuracy == first.accuracy
    assert again.path == first.path
    assert again.settings_hash == first.settings_hash
    assert json.loads(first.to_json())["settings"]["cbft"]["barrier_margin"] == 1.0


def test_pictures_show_the_box_where_the_cue_is_and_only_there():
    pictures = {
        name: torch.from_numpy(picture.pixels().copy()).long() for name, picture in run_demo(QUICK).pictures.items()
    }
    green = torch.tensor([128, 255, 128])
    boxes = {name: int((pixels == green).all(2).sum()) for name, pixels in pictures.items()}
    assert boxes["cue"] >= 9
    assert boxes["cue"] % 9 == 0
    assert boxes["rand_image"] == boxes["cue"]
    assert boxes["no_cue"] == 0


def test_the_story_is_told_of_a_folder_of_grey_images_too(tmp_path: Path):
    folder = write_set(tmp_path / "mine", train=40, test=12, classes=2, channels=1)
    asked = choose_demo_settings(str(folder), 0)
    assert (asked.rows, asked.clean_samples) == (None, None)
    quick = {"training": Training(epochs=1, batch_size=16), "naive": NaiveFineTuning(epochs=1, batch_size=16)}
    settings = asked.model_copy(update={**quick, "cbft": CBFT(epochs=2, batch_size=16), "points": 2})
    record = run_demo(settings)
    assert record.settings["clean_samples"] == 20
    assert record.settings["train_samples"] == 40
    assert set(record.pictures) == {"no_cue", "cue", "rand_cue", "rand_image"}


@pytest.mark.slow
def test_the_shape_of_the_paper_on_digits():
    """Of one seed; benchmarks/mechanisms_over_seeds.py has more."""
    accuracy = run_demo(DemoSettings(seed=0)).accuracy
    points = {name: {split: 100 * value for split, value in row.items()} for name, row in accuracy.items()}
    assert points["theta_C"]["rand_image"] >= 60
    naive, cbft = points["FT-M"], points["CBFT"]
    assert naive["rand_image"] >= 35
    assert naive["rand_cue"] <= naive["no_cue"] - 15
    assert cbft["rand_image"] <= 20
    assert abs(cbft["no_cue"] - cbft["rand_cue"]) <= 6
    assert cbft["no_cue"] >= naive["no_cue"] - 8
