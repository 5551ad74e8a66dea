"""Recipes: experiments by name, each a class that is registered where it is defined, also in a user's own file."""

from __future__ import annotations

import abc
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mechconn.core import Config, did_you_mean, import_function, is_built_in

if TYPE_CHECKING:
    from mechconn.paper._claims import Claim
    from mechconn.paper._run_part import RunPart
    from mechconn.paper._run_record import RunRecord
    from mechconn.paper._settings import AnyCell
    from mechconn.paper._steps import ExperimentContext

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
OWN = "a recipe of your own is named as 'package.module:Class'"


class Recipe(abc.ABC):
    """An experiment: settings by scale, independent cells, what they say together, and what its page says of them.

    A subclass with a name is registered under it; `mechconn run NAME` then runs it. One in a user's own file is run as
    `mechconn run package.module:Class`, which imports the file. Cells run in any order and in any process, each a
    function of the settings and its place; what a cell gives to `context.step` is stored and never repeated.
    """

    name: ClassVar[str] = ""
    """What it is called in commands, files, and the ids of its runs."""
    about: ClassVar[str] = ""
    """What it shows, in a line."""
    title: ClassVar[str] = ""
    """The heading of its page; by default its name."""
    question: ClassVar[str] = ""
    """What it asks, below the heading."""
    stated: ClassVar[Mapping[str, Any] | None] = None
    """Setting -> what a source states, methods by their name; what it leaves open is not here. None where there is
    nothing to compare."""
    by_samples: ClassVar[bool] = False
    """Whether its page draws accuracy over the number of clean samples, where there are several."""
    registered: ClassVar[dict[str, type[Recipe]]] = {}
    """Name -> every recipe that is defined, in the order of reports."""

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        if "name" not in cls.__dict__:
            return
        if not re.fullmatch(r"\w[\w-]*", cls.name):
            raise ValueError(
                f"{cls.__qualname__}.name must be letters, digits, '-' and '_', because runs are folders of that name, "
                f"got {cls.name!r}"
            )
        known = Recipe.registered.get(cls.name)
        if known is not None and known.reference() != cls.reference():
            raise ValueError(
                f"the recipe {cls.name!r} is defined twice, as {known.reference()} and as {cls.reference()}; give one "
                "of them another name"
            )
        Recipe.registered[cls.name] = cls

    @classmethod
    def reference(cls) -> str:
        """The class as "package.module:Class", by which every process finds it."""
        return f"{cls.__module__}:{cls.__qualname__}"

    @abc.abstractmethod
    def settings(self, scale: Scale, images: bool) -> Config:
        """Everything that the numbers depend on, of one class at every scale.

        Args:
            scale: "smoke" (minutes), "small" (an hour), "paper".
            images: whether real images are at hand; where not, the embedded digits may stand in at smoke scale.
        """

    @abc.abstractmethod
    def cells(self, settings: Any) -> Sequence[AnyCell]:
        """The independent parts."""

    @abc.abstractmethod
    def run_cell(self, context: ExperimentContext, settings: Any, cell: Any, root: str | None) -> RunPart:
        """What one part gives: a result of the recipe's own kind, or `Numbers`.

        Args:
            context: runs the steps, and knows where results are kept.
            settings: of the run.
            cell: one of `cells`.
            root: the folder of the named image sets.
        """

    def summarise(self, settings: Any, results: Sequence[Any]) -> RunPart | None:
        """What all parts say together, in the order of `cells`; None where each is complete by itself."""
        return None

    def find_published_accuracy(
        self, dataset: str, proportion: float, clean: int | None, model: str
    ) -> Mapping[str, float]:
        """Split -> published accuracy in [0, 1]; by default none."""
        return {}

    def write_findings(self, record: RunRecord) -> list[str]:
        """What a run's numbers say, in sentences; by default nothing."""
        return []

    def judge_claims(self, record: RunRecord) -> list[Claim]:
        """The statements of a source that a run's numbers bear on; by default none."""
        return []


class UnknownRecipe(Recipe):
    """A recipe of which a record knows the name alone: the file that defines it was not imported."""

    def settings(self, scale: Scale, images: bool) -> Config:
        """Raises ValueError."""
        raise ValueError(f"the recipe is not known here; {OWN}")

    def cells(self, settings: Any) -> Sequence[AnyCell]:
        """None."""
        return ()

    def run_cell(self, context: ExperimentContext, settings: Any, cell: Any, root: str | None) -> RunPart:
        """Raises ValueError."""
        raise ValueError(f"the recipe is not known here; {OWN}")


def find_recipe(text: str) -> Recipe:
    """The recipe of a name, or of "package.module:Class", which is imported.

    Raises:
        ValueError: no recipe has the name; the module is not there or fails, or the class is no recipe.
    """
    if ":" not in text:
        if text not in Recipe.registered:
            listed = ", ".join(map(repr, Recipe.registered))
            raise ValueError(
                f"recipe must be one of {listed}, got {text!r}{did_you_mean(text, Recipe.registered) or f'; {OWN}'}"
            )
        return Recipe.registered[text]()
    found = import_function("recipe", text, "Class")
    if not (isinstance(found, type) and issubclass(found, Recipe) and found.name):
        raise ValueError(f"recipe {text!r} must be a class that extends mechconn.paper.Recipe and has a name; {OWN}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"recipe {text!r} lacks {missing}; define them as mechconn.paper.Recipe describes")
    return found()


def find_recipe_of(record: RunRecord) -> Recipe:
    """The recipe of a run; nothing is imported for it, so a record runs no code."""
    return Recipe.registered.get(record.recipe, UnknownRecipe)()


def is_recipe_of_paper(record: RunRecord) -> bool:
    """Whether the recipe of a run is one of this package."""
    return record.recipe in Recipe.registered and is_built_in(Recipe.registered[record.recipe])
