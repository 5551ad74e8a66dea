"""Interventions: what they are, those of the field, and suites that they make."""

from mechconn.interventions._draws import Draws as Draws
from mechconn.interventions._graded import GradedIntervention as GradedIntervention
from mechconn.interventions._intervened import FunctionSet as FunctionSet
from mechconn.interventions._intervened import intervened as intervened
from mechconn.interventions._intervened import read_intervention as read_intervention
from mechconn.interventions._intervention import IntervenedSet as IntervenedSet
from mechconn.interventions._intervention import Intervention as Intervention
from mechconn.interventions._intervention import check_image_shape as check_image_shape
from mechconn.interventions._moves import ColourShift as ColourShift
from mechconn.interventions._moves import Rotate as Rotate
from mechconn.interventions._moves import Translate as Translate

__all__ = [
    "ColourShift",
    "GradedIntervention",
    "Intervention",
    "Rotate",
    "Translate",
]
