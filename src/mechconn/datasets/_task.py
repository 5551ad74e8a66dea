"""A task with a cue: training data in which the cue predicts the label, clean data, and the four test splits."""

from __future__ import annotations

from dataclasses import dataclass

from mechconn import _errors
from mechconn._checks import check_choice, check_fraction
from mechconn._interventions import BoxCue, Cue, CuedSet, Suite, cue_suite, cued_set
from mechconn._rng import derive_seed
from mechconn._typing import SampleSource
from mechconn.datasets._digits import digits
from mechconn.datasets._images import ImageSet
from mechconn.datasets._planted import Planted, PlantedCue

DIGITS_TEST, PLANTED_TRAIN, PLANTED_TEST = 597, 2000, 1000
NAMES = ("digits",)


@dataclass(frozen=True, eq=False)
class CueTask:
    """Training data with the cue, the same data without it, and the counterfactual test splits.

    Attributes:
        train: the cue, in agreement with the label, on exactly `proportion` of each class.
        clean: the training data without the cue.
        suite: the test data as "no_cue", "cue", "rand_cue" and "rand_image".
        proportion: share of each class that carries the cue in `train`.
        num_classes: number of classes.
    """

    train: CuedSet
    clean: CuedSet
    suite: Suite
    proportion: float
    num_classes: int


def load(name: str, *, seed: int = 0) -> ImageSet:
    """A named image set.

    Args:
        name: "digits", the handwritten digits of scikit-learn on noisy canvases (no download).
        seed: of the placement and noise of the digits.

    Raises:
        ValueError: no dataset has that name.
    """
    check_choice("dataset", name, NAMES)
    return digits(seed)


def cue_task(
    source: str | ImageSet,
    *,
    test: ImageSet | None = None,
    cue: Cue | None = None,
    proportion: float = 0.8,
    seed: int = 0,
) -> CueTask:
    """A task whose training data carry a cue on a share of every class.

    Args:
        source: "digits", "planted" (a generator with known latents; it brings its own cue), or images of your own.
        test: test images for images of your own; by default a fifth of `source` is held out.
        cue: what is drawn onto the samples; by default a box whose place tells the class.
        proportion: share of each class that carries the cue, in [0, 1].
        seed: of the split, the draws of the cue and the counterfactuals.

    Raises:
        ValueError: an unknown name, a proportion outside [0, 1], a cue that does not suit the data.
        TypeError: `source` is neither a name nor an ImageSet, or a cue is given for "planted".
    """
    check_fraction("proportion", proportion)
    train, held_out, own_cue, num_classes = _contents(source, test, seed)
    if cue is not None and isinstance(own_cue, PlantedCue):
        raise TypeError("planted data bring a cue of their own; leave cue= out")
    cue = own_cue if cue is None else cue
    scenes = cued_set(train, cue)
    return CueTask(
        train=scenes.with_proportion(proportion, derive_seed(seed, "cue")),
        clean=scenes,
        suite=cue_suite(cued_set(held_out, cue), derive_seed(seed, "counterfactuals")),
        proportion=proportion,
        num_classes=num_classes,
    )


def _contents(source: str | ImageSet, test: ImageSet | None, seed: int) -> tuple[SampleSource, SampleSource, Cue, int]:
    """(training content, test content, default cue, number of classes)."""
    if isinstance(source, str):
        check_choice("dataset", source, (*NAMES, "planted"))
        if source == "planted":
            spec = Planted()
            train = spec.sample(PLANTED_TRAIN, derive_seed(seed, "train"))
            return (
                train,
                spec.sample(PLANTED_TEST, derive_seed(seed, "test")),
                PlantedCue(spec),
                spec.num_classes,
            )
        train, test = load(source, seed=seed).split(DIGITS_TEST, seed)
    elif isinstance(source, ImageSet):
        train, test = (source, test) if test is not None else source.split(max(1, len(source) // 5), seed)
    else:
        raise TypeError(
            _errors.CHOICE.format(name="source", options="a name or an ImageSet", value=type(source).__name__, hint="")
        )
    num_classes = len(train.classes)
    return train, test, BoxCue(values=min(num_classes, 10)), num_classes
