"""Data with known cues: named sets, generators, and tasks with their counterfactual test splits."""

from mechconn.datasets._digits import digits as digits
from mechconn.datasets._images import ImageSet as ImageSet
from mechconn.datasets._load import load as load
from mechconn.datasets._normalised import Normalised as Normalised
from mechconn.datasets._planted import Planted as Planted
from mechconn.datasets._planted import PlantedCue as PlantedCue
from mechconn.datasets._planted import PlantedSet as PlantedSet
from mechconn.datasets._splits import load_column as load_column
from mechconn.datasets._splits import load_splits as load_splits
from mechconn.datasets._task import CueTask as CueTask
from mechconn.datasets._task import cue_task as cue_task
from mechconn.datasets._tokens import TokenSet as TokenSet

__all__ = [
    "CueTask",
    "ImageSet",
    "Normalised",
    "Planted",
    "PlantedCue",
    "PlantedSet",
    "TokenSet",
    "cue_task",
    "digits",
    "load",
    "load_column",
    "load_splits",
]
