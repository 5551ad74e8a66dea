"""The demo: a recipe on embedded digits, and what it changes for other images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mechconn.datasets import DATASET_NAMES
from mechconn.descent import Method, Training
from mechconn.mechanisms import Relearning
from mechconn.paper._cue_recipe import TuningRecipe, make_base_settings
from mechconn.paper._recipe import Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import PRESETS, DataSettings, TuningSettings
from mechconn.paper._tasks import load_task
from mechconn.tuning import CBFT, NaiveFineTuning


class Quickstart(TuningRecipe):
    """The demo: a shortcut is learned, the path to a clean model is evaluated, two ways of fine-tuning are compared."""

    name = "quickstart"
    about = "the demo on embedded digits; no files needed"
    title = "Same mechanism or a shortcut?"
    question = (
        "A network is trained on images in which a box predicts the class of most of them. Does it read the image or "
        "the box? Can fine-tuning change that?"
    )

    def settings(self, scale: Scale, images: bool) -> TuningSettings:
        """Digits at every scale, with more seeds at larger ones."""
        seeds = {"smoke": (0,), "small": (0, 1, 2), "paper": (0, 1, 2, 3, 4)}[scale]
        return TuningSettings.model_validate(
            make_base_settings("smoke", False)
            | {
                "seeds": seeds,
                "methods": _choose_methods(20),
                "clean_model": True,
                "draws": 5,
                "relearn": Relearning(steps=(0, 25, 50), seeds=4),
            }
        )

    def write_findings(self, record: RunRecord) -> list[str]:
        """What each model relies on, the path, and what follows; of a run of one cell."""
        return list(record.cue_results[0].findings) if len(record.cue_results) == 1 else []


def _choose_methods(epochs: int) -> dict[str, Method]:
    """The two ways of fine-tuning on digits."""
    return {
        "FT-M": NaiveFineTuning(lr=0.01, epochs=epochs, batch_size=60),
        "CBFT": CBFT(lr=0.01, epochs=epochs, batch_size=60, cued_proportion=0.9),
    }


QUICK = {
    "width": 16,
    "training": Training(epochs=4, batch_size=64, lr=0.1, milestones=(3,)),
    "draws": 1,
    "points": 3,
    "test_rows": 300,
    "clean_samples": (300,),
    "methods": _choose_methods(6),
    "relearn": Relearning(steps=(0, 10), seeds=2),
}
QUICK_NOTE = (
    "This is the quick version of the demo: smaller networks, fewer epochs and samples, one draw of box and image, "
    "and 10 steps of relearning on two seeds. It shows what the page holds; the numbers to cite are those of "
    "mechconn demo."
)


def choose_demo_changes(data: str, seed: int, root: str | Path | None = None, *, quick: bool = False) -> dict[str, Any]:
    """What `mechconn demo` changes in the settings of the quickstart.

    That is the seed and, for other images than digits, data, network and methods that suit them. Of the large named
    sets the demo takes 5,000 training and 1,000 test images and 2,500 clean samples; of a set given by its folder all
    images, and half of the training samples as clean ones. The quick version is smaller in everything, on digits alone.

    Raises:
        ValueError: planted data, which are no images, or the quick version of other data than digits.
        FileNotFoundError: a folder that is not there.

    Example:
        >>> choose_demo_changes("digits", 3)
        {'seeds': (3,)}
    """
    if data == "digits":
        return {"seeds": (seed,), **(QUICK if quick else {})}
    if quick:
        raise ValueError(f"the quick demo is on the embedded digits, got {data!r}; leave out --quick, or --data")
    if data == "planted":
        raise ValueError("planted data are no images; give --data digits, another image set or its folder")
    chosen = PRESETS.get(data) or DataSettings(name=data, source=data)
    named = data in PRESETS or data in DATASET_NAMES
    methods: dict[str, Method] = {"FT-M": NaiveFineTuning(lr=0.01), "CBFT": CBFT(lr=0.01)}
    folder = None if root is None else str(Path(root).absolute())
    clean = 2500 if named else len(load_task(chosen, 0.8, seed, None, None, folder).clean) // 2
    return {
        "seeds": (seed,),
        "datasets": (chosen,),
        "rows": 5000 if named else None,
        "test_rows": 1000 if named else None,
        "network": "vgg13",
        "clean_samples": (clean,),
        "training": Training(epochs=12, batch_size=128, lr=0.05, milestones=(8, 10)),
        "methods": methods,
        "precision": "auto",
    }
