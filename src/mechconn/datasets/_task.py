"""A task with a cue: training data in which the cue predicts the label, clean data, and the four test splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from mechconn.core import CUE, RAND_IMAGE, check_count, check_fraction, check_is, derive_seed, stand_by_class
from mechconn.datasets._cue import Cue, DataPlace, make_cue
from mechconn.datasets._images import ImageSet, choose_in_turns
from mechconn.datasets._load import has_split, load
from mechconn.datasets._placebo import Placebo
from mechconn.datasets._planted import Planted
from mechconn.datasets._suite import CuedSet, Suite, make_cue_suite, make_cued_set
from mechconn.datasets._tokens import TokenSet
from mechconn.datasets._variants import make_variant_suite

OwnData = ImageSet | TokenSet

DIGITS_TEST, PLANTED_TRAIN, PLANTED_TEST = 597, 2000, 1000


@dataclass(frozen=True, eq=False, repr=False)
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

    def cue_only(self, rows: int = 100, seed: int = 0, *, cue: Cue | None = None) -> CuedSet:
        """Training rows in which the cue alone predicts the label: the content is another row's, drawn at random.

        Args:
            rows: how many.
            seed: of the draws.
            cue: another cue than the task's, such as a placebo.

        Raises:
            ValueError: more rows than there are, or fewer than two.
        """
        if check_count("rows", rows) < 2:
            raise ValueError("rows must be two or more, since training needs two classes, got 1")
        scenes = self.clean if cue is None else self._replace_cue(self.clean, cue)
        own = derive_seed(seed, "cue only")
        return scenes.with_cue(own).with_random_content(own).sample(rows, own)

    def placebo(self, rows: int = 100, seed: int = 0, *, cue: Cue | None = None) -> Placebo:
        """The rows of `cue_only`, and those of the split "rand_image", with a cue of the same kind that no network met.

        Args:
            rows: how many to tune on.
            seed: of the draws, as that of `cue_only`.
            cue: the placebo; default: the one that the cue offers, see `Cue.placebo`.

        Raises:
            ValueError: the cue offers none, or as in `cue_only`.
        """
        tuned, measured = self.clean.cue, self.suite[RAND_IMAGE]
        assert isinstance(measured, CuedSet)
        given = (tuned.placebo(), measured.cue.placebo()) if cue is None else (cue, cue)
        shown = self._replace_cue(measured, given[1])
        return Placebo(self.cue_only(rows, seed, cue=given[0]), shown.with_cue(derive_seed(seed, "placebo")))

    @staticmethod
    def _replace_cue(scenes: CuedSet, cue: Cue) -> CuedSet:
        """The same scenes with another cue, shown on none of them."""
        check_is("cue", cue, Cue)
        cue.check_data("training", scenes.content)
        return replace(scenes, cue=cue, cue_values=cue.absent(len(scenes)))

    def variants(self, content: Literal["own", "random"] = "own", *, seed: int = 0) -> Suite:
        """The test rows under variants of the cue: elsewhere, larger, paler, ..., each in agreement with the label.

        The reference "cue" has the task's own cue, every other split a variant from `Cue.variants`; a pure function of
        rows and seed. An effect on a variant is what the change of the cue's form costs.

        Args:
            content: "own" shows each row's own content; "random" another row's, so that the cue alone tells the label.
            seed: of the random content, and of cues that choose among several values.

        Raises:
            ValueError: the cue names no variants, or another `content`.

        Example:
            >>> list(cue_task("digits", rows=20, test_rows=20).variants())
            ['cue', 'elsewhere', 'larger', 'paler', 'other colour']
        """
        return make_variant_suite(cast(CuedSet, self.suite[CUE]), content, seed)

    def __repr__(self) -> str:
        splits = ", ".join(self.suite)
        return "\n".join(
            [
                f"CueTask({self.num_classes} classes, the cue on {self.proportion:.0%} of each in training)",
                f"  train  {self.train!r}",
                f"  clean  {self.clean!r}",
                f"  suite  Suite({len(self.suite)} splits: {splits}; reference {self.suite.reference!r})",
            ]
        )


def cue_task(
    source: str | Path | OwnData,
    *,
    test: OwnData | None = None,
    cue: Cue | str | Mapping[str, Any] | None = None,
    test_cue: Cue | None = None,
    proportion: float = 0.8,
    seed: int = 0,
    root: str | Path | None = None,
    rows: int | None = None,
    test_rows: int | None = None,
    download: bool = False,
    draws: int = 1,
) -> CueTask:
    """A task whose training data carry a cue on a share of every class.

    Args:
        source: "digits", "planted" (a generator with known latents; it brings its own cue), anything else that
            `load` reads by name or path, or images or texts of your own.
        test: test data; by default the split "test" of `source`, and where it has none a part held out by seed
            (597 of the digits, else a fifth).
        cue: what is drawn onto the samples: a cue, its registered name ("box", "hue-box", "dominoes", "token"), a table
            such as {"name": "box", "size": 5}, or "package.module:Class" of your own. By default "box": its place tells
            the class, and for more than ten classes its place and hue. Texts need a `TokenCue`.
        test_cue: the cue of the test splits where it differs, such as Dominoes with images held out; by default `cue`,
            where `cue` is a name, the cue of that name made for the test data.
        proportion: share of each class that carries the cue, in [0, 1].
        seed: of the split, the draws of the cue and the counterfactuals.
        root: the folder that holds the named sets; see `load`.
        rows: only the first training samples.
        test_rows: only the first test samples.
        download: fetch from the hub what `root` lacks; see `load`.
        draws: how often the random cue and the random image are drawn; with several, effects are means over them (see
            `measure_invariance`).

    Raises:
        ValueError: an unknown name, a proportion outside [0, 1], a cue that does not suit the data, more rows than
            there are, training and test data of different classes or shapes, texts that hold the markers already.
        TypeError: `source` is neither a name nor an ImageSet nor a TokenSet, texts without a cue, training and test
            data of different kinds, or a cue or test data are given for "planted".
        FileNotFoundError: the folder of a named set is not there.
    """
    check_fraction("proportion", proportion)
    for what, count in (("rows", rows), ("test_rows", test_rows), ("draws", draws)):
        if count is not None:
            check_count(what, count)
    if not isinstance(source, str | Path | OwnData):
        raise TypeError(f"source must be a name, a path, an ImageSet or a TokenSet, got {type(source).__name__}")
    if source == "planted":
        if test is not None or test_cue is not None or cue not in (None, "planted"):
            raise TypeError("planted data bring a cue and test data of their own; leave cue=, test_cue=, test= out")
        spec, cue = Planted(), "planted"
        train = spec.sample(rows or PLANTED_TRAIN, derive_seed(seed, "train"))
        held_out = spec.sample(test_rows or PLANTED_TEST, derive_seed(seed, "test"))
        num_classes = spec.num_classes
    else:
        train, held_out = _load_own_sets(source, test, rows, test_rows, seed, root, download)
        num_classes = len(train.classes)
    own, tested = find_cues(cue, train, test_cue, root, download)
    own.check_data("training", train)
    tested.check_data("test", held_out)
    scenes = make_cued_set(train, own)
    return CueTask(
        train=scenes.with_proportion(proportion, derive_seed(seed, "cue")),
        clean=scenes,
        suite=make_cue_suite(make_cued_set(held_out, tested), derive_seed(seed, "counterfactuals"), draws),
        proportion=proportion,
        num_classes=num_classes,
    )


def _load_own_sets(
    source: str | Path | OwnData,
    test: OwnData | None,
    rows: int | None,
    test_rows: int | None,
    seed: int,
    root: str | Path | None,
    download: bool,
) -> tuple[OwnData, OwnData]:
    """(training data, test data), each limited to its first rows."""
    if isinstance(source, OwnData):
        train = source
    elif source == "digits":
        train = load(source, seed=seed)
    else:
        if test is None and (download or has_split(source, root, "test")):
            test = load(source, root=root, split="test", rows=test_rows, download=download)
        # What will be divided by seed is read whole; else the rows left out need not be decoded.
        train = load(source, root=root, rows=None if test is None else rows, download=download)
    if test is None:
        train, test = train.split(DIGITS_TEST if source == "digits" else max(1, len(train) // 5), seed)
    train, test = _take_first(train, rows), _take_first(test, test_rows)
    _check_alike(train, test)
    return train, test


def _take_first(data: OwnData, rows: int | None) -> OwnData:
    """The first rows; of images that stand class after class, as in folders of classes, the first of each class."""
    if rows is None or not isinstance(data, ImageSet) or not stand_by_class(data.y):
        return data.first(rows)
    return data.subset(choose_in_turns(data.y, rows))


def _check_alike(train: OwnData, test: OwnData) -> None:
    """Raise unless both are of one kind and shape, and the test data have no class that training lacks."""
    if type(train) is not type(test):
        raise TypeError(
            f"training data are {type(train).__name__} but test data are {type(test).__name__}; both must be of "
            "one kind"
        )
    what = "images" if isinstance(train, ImageSet) else "texts"
    shapes = _get_input_shape(train), _get_input_shape(test)
    if shapes[0] != shapes[1]:
        raise ValueError(f"training {what} have shape {shapes[0]} but test {what} {shapes[1]}; load both the same way")
    if train.classes[: len(test.classes)] != test.classes:
        raise ValueError(
            f"training {what} have the classes {', '.join(train.classes)} but test {what} {', '.join(test.classes)}; "
            "their labels must mean the same"
        )


def _get_input_shape(data: OwnData) -> list[int]:
    """The shape of one row; empty where batches are padded to their longest."""
    if isinstance(data, TokenSet) and data.pads_by_batch:
        return []
    return list((data.x if isinstance(data, ImageSet) else data.input_ids).shape[1:])


def find_cues(
    cue: Cue | str | Mapping[str, Any] | None,
    train: Any,
    test_cue: Cue | None = None,
    root: str | Path | None = None,
    download: bool = False,
) -> tuple[Cue, Cue]:
    """(cue of the training data, cue of the test splits) from what `cue_task` is given."""
    if cue is None and isinstance(train, TokenSet):
        raise TypeError(
            "texts have no cue of their own; pass cue=TokenCue((...)), a marker token for each class, got none"
        )
    cue = "box" if cue is None else cue
    own = make_cue(cue, train, DataPlace("train", root, download))
    if test_cue is not None:
        return own, test_cue
    return own, make_cue(cue, train, DataPlace("test", root, download))
