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
from mechconn.interventions._image_background import Background as Background
from mechconn.interventions._image_base import ImageIntervention as ImageIntervention
from mechconn.interventions._image_colours import Contrast as Contrast
from mechconn.interventions._image_colours import Grey as Grey
from mechconn.interventions._image_colours import Hue as Hue
from mechconn.interventions._image_donors import Texture as Texture
from mechconn.interventions._image_frequencies import Blur as Blur
from mechconn.interventions._image_frequencies import HighPass as HighPass
from mechconn.interventions._image_frequencies import LowPass as LowPass
from mechconn.interventions._image_frequencies import Resolution as Resolution
from mechconn.interventions._image_places import Frame as Frame
from mechconn.interventions._image_places import Occlude as Occlude
from mechconn.interventions._image_places import Patch as Patch
from mechconn.interventions._image_rearranged import Flip as Flip
from mechconn.interventions._image_rearranged import PatchShuffle as PatchShuffle
from mechconn.interventions._intervened import FunctionSet as FunctionSet
from mechconn.interventions._intervened import intervened as intervened
from mechconn.interventions._intervened import read_intervention as read_intervention
from mechconn.interventions._intervention import IntervenedSet as IntervenedSet
from mechconn.interventions._intervention import Intervention as Intervention
from mechconn.interventions._intervention import SideData as SideData
from mechconn.interventions._intervention import check_image_shape as check_image_shape
from mechconn.interventions._links import find_links as find_links
from mechconn.interventions._links import join_groups as join_groups
from mechconn.interventions._moves import ColourShift as ColourShift
from mechconn.interventions._moves import Rotate as Rotate
from mechconn.interventions._moves import Translate as Translate
from mechconn.interventions._table_columns import BinColumn as BinColumn
from mechconn.interventions._table_columns import SwapColumn as SwapColumn

__all__ = [
    "Background",
    "BinColumn",
    "Blur",
    "ColourShift",
    "Contrast",
    "Flip",
    "Frame",
    "GradedIntervention",
    "Grey",
    "HighPass",
    "Hue",
    "ImageIntervention",
    "Intervention",
    "LowPass",
    "Occlude",
    "Patch",
    "PatchShuffle",
    "Resolution",
    "Rotate",
    "SwapColumn",
    "Texture",
    "Translate",
]
