"""A task with a cue: what its training data, its clean data and its four test splits hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mechconn as mc
from mechconn.datasets import CueTask, ImageSet, cue_task

SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")


def image_set(rows: int, seed: int = 0, classes: int = 5) -> ImageSet:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (rows, 3, 8, 8), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % classes, tuple(map(str, range(classes))))


def scenes(task: CueTask, name: str) -> mc.CuedSet:
    data = task.suite[name]
    assert isinstance(data, mc.CuedSet)
    return data


def everything(data: mc.CuedSet) -> torch.Tensor:
    return data.inputs(torch.arange(len(data)))


@pytest.mark.parametrize(("source", "sizes", "classes"), [("digits", (1200, 597), 10), ("planted", (2000, 1000), 4)])
def test_named_tasks(source: str, sizes: tuple[int, int], classes: int) -> None:
    task = cue_task(source, proportion=0.7, seed=1)
    assert (len(task.train), len(task.clean), task.num_classes, task.proportion) == (sizes[0], sizes[0], classes, 0.7)
    assert tuple(task.suite) == SPLITS
    assert all(len(scenes(task, name)) == sizes[1] for name in SPLITS)
    absent = task.train.cue.absent(len(task.train))
    for k in range(min(classes, 9)):  # class 9 of the box cue has no box
        members = task.train.y == k
        cued = task.train.cue_values == task.train.y
        assert abs(int((cued & members).sum()) - 0.7 * int(members.sum())) <= 0.5
        assert bool((cued | (task.train.cue_values == absent))[members].all())


def test_clean_data_are_the_training_data_without_the_cue() -> None:
    task = cue_task(image_set(60), seed=2)
    assert torch.equal(everything(task.clean), everything(task.train.without_cue()))
    assert torch.equal(task.clean.y, task.train.y)
    assert torch.equal(everything(scenes(task, "no_cue")), everything(scenes(task, "cue").without_cue()))


def test_training_and_test_data_are_disjoint() -> None:
    images = image_set(60)
    task = cue_task(images, seed=2)
    pieces = torch.cat([everything(task.clean), everything(scenes(task, "no_cue"))]).flatten(1)
    assert (len(task.clean), len(scenes(task, "cue"))) == (48, 12)
    whole = images.inputs(torch.arange(60)).flatten(1)
    # Random bytes: each row is its own, so a sort by the first pixels puts both in the same order.
    assert torch.equal(pieces[pieces[:, 0].argsort(stable=True)][:, 0], whole[whole[:, 0].argsort(stable=True)][:, 0])
    assert len(pieces.unique(dim=0)) == 60


def test_test_images_may_be_given() -> None:
    train, test = image_set(30), image_set(20, seed=1)
    task = cue_task(train, test=test)
    assert torch.equal(everything(task.clean), train.inputs(torch.arange(30)))
    assert torch.equal(everything(scenes(task, "no_cue")), test.inputs(torch.arange(20)))


def test_a_cue_may_be_given_and_its_random_values_are_the_classes() -> None:
    task = cue_task(image_set(200), cue=mc.BoxCue(size=2, values=5))
    assert task.train.cue == mc.BoxCue(size=2, values=5)
    default = cue_task(image_set(200)).train.cue
    assert isinstance(default, mc.BoxCue) and default.values == 5


@pytest.mark.parametrize("source", ["planted", image_set(60)])
def test_seeds_decide(source: Any) -> None:
    one, same, other = (cue_task(source, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(everything(one.train), everything(same.train))
    assert not torch.equal(everything(one.train), everything(other.train))
    for name in SPLITS:
        assert torch.equal(everything(scenes(one, name)), everything(scenes(same, name)))
        assert not torch.equal(everything(scenes(one, name)), everything(scenes(other, name)))


def test_the_draws_of_a_task_are_independent_of_one_another() -> None:
    """Which rows carry the cue in training, and what is drawn in the tests, come from streams of their own."""
    task, other = (cue_task(image_set(400), test=image_set(320), proportion=0.5, seed=seed) for seed in (0, 1))
    assert not torch.equal(task.train.cue_values, other.train.cue_values)
    assert not torch.equal(scenes(task, "rand_cue").cue_values, scenes(other, "rand_cue").cue_values)
    first = task.train.with_random_cue().cue_values[:320]
    assert not torch.equal(scenes(task, "rand_cue").cue_values, first)
    assert scenes(task, "rand_image").content_rows.tolist() != list(range(320))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"source": "digit"},
            ValueError,
            r"^no file or folder digit, and dataset must be one of .*'planted', got 'digit'; did you mean 'digits'\?$",
        ),
        ({"source": "planted", "proportion": 1.5}, ValueError, r"^proportion must lie in \[0, 1\], got 1.5$"),
        ({"source": "planted", "proportion": float("nan")}, ValueError, r"^proportion must lie in \[0, 1\], got nan$"),
        ({"source": "planted", "cue": mc.BoxCue()}, TypeError, r"^planted data bring a cue .*of their own; leave cue="),
        ({"source": 3}, TypeError, r"^source must be a name, a path, an ImageSet or a TokenSet, got int$"),
    ],
)
def test_what_is_no_task(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        cue_task(**arguments)


def test_a_clean_sample_has_as_many_rows_as_asked_for() -> None:
    task = cue_task("planted")
    assert len(task.clean.sample(250, seed=0)) == 250
    with pytest.raises(ValueError, match=r"^sample: asked for 2500 samples, but only 2000 exist; ask for fewer$"):
        task.clean.sample(2500, seed=0)
