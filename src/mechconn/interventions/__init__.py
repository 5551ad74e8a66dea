"""Interventions: what they are, those of the field, and suites that they make."""

from mechconn.interventions._choose import LABEL_CHANGING as LABEL_CHANGING
from mechconn.interventions._choose import Chosen as Chosen
from mechconn.interventions._choose import LabelChanging as LabelChanging
from mechconn.interventions._choose import Named as Named
from mechconn.interventions._choose import choose_interventions as choose_interventions
from mechconn.interventions._donors import Donors as Donors
from mechconn.interventions._donors import find_donors as find_donors
from mechconn.interventions._draws import Draws as Draws
from mechconn.interventions._graded import GradedIntervention as GradedIntervention
from mechconn.interventions._intervened import FunctionSet as FunctionSet
from mechconn.interventions._intervened import intervened as intervened
from mechconn.interventions._intervened import read_intervention as read_intervention
from mechconn.interventions._intervention import IntervenedSet as IntervenedSet
from mechconn.interventions._intervention import Intervention as Intervention
from mechconn.interventions._intervention import SideData as SideData
from mechconn.interventions._intervention import check_image_shape as check_image_shape
from mechconn.interventions._moves import ColourShift as ColourShift
from mechconn.interventions._moves import Rotate as Rotate
from mechconn.interventions._moves import Translate as Translate
from mechconn.interventions._table_columns import BinColumn as BinColumn
from mechconn.interventions._table_columns import SwapColumn as SwapColumn

__all__ = [
    "BinColumn",
    "ColourShift",
    "GradedIntervention",
    "Intervention",
    "Rotate",
    "SwapColumn",
    "Translate",
]
