"""Interventions: what they are, those of the field, and suites that they make."""

from mechconn.interventions._choose import LABEL_CHANGING as LABEL_CHANGING
from mechconn.interventions._choose import Chosen as Chosen
from mechconn.interventions._choose import LabelChanging as LabelChanging
from mechconn.interventions._choose import Named as Named
from mechconn.interventions._choose import choose_interventions as choose_interventions
from mechconn.interventions._choose import describe_intervention as describe_intervention
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
from mechconn.interventions._moves import ColourShift as ColourShift
from mechconn.interventions._moves import Rotate as Rotate
from mechconn.interventions._moves import Translate as Translate
from mechconn.interventions._table_columns import BinColumn as BinColumn
from mechconn.interventions._table_columns import SwapColumn as SwapColumn
from mechconn.interventions._text_intervention import TextIntervention as TextIntervention
from mechconn.interventions._text_negation import Negation as Negation
from mechconn.interventions._text_order import DropWords as DropWords
from mechconn.interventions._text_order import Truncate as Truncate
from mechconn.interventions._text_order import WordShuffle as WordShuffle
from mechconn.interventions._text_pairs import OnePart as OnePart
from mechconn.interventions._text_pairs import RemoveOverlap as RemoveOverlap
from mechconn.interventions._text_phrases import InsertPhrase as InsertPhrase
from mechconn.interventions._text_phrases import RemovePhrase as RemovePhrase
from mechconn.interventions._text_surface import Lowercase as Lowercase
from mechconn.interventions._text_surface import NoPunctuation as NoPunctuation
from mechconn.interventions._text_surface import Uppercase as Uppercase
from mechconn.interventions._text_swaps import SwapNames as SwapNames
from mechconn.interventions._text_swaps import SwapPlaces as SwapPlaces
from mechconn.interventions._text_swaps import SwapPronouns as SwapPronouns
from mechconn.interventions._text_swaps import SwapWords as SwapWords

__all__ = [
    "Background",
    "BinColumn",
    "Blur",
    "ColourShift",
    "Contrast",
    "DropWords",
    "Flip",
    "Frame",
    "GradedIntervention",
    "Grey",
    "HighPass",
    "Hue",
    "ImageIntervention",
    "InsertPhrase",
    "Intervention",
    "LowPass",
    "Lowercase",
    "Negation",
    "NoPunctuation",
    "Occlude",
    "OnePart",
    "Patch",
    "PatchShuffle",
    "RemoveOverlap",
    "RemovePhrase",
    "Resolution",
    "Rotate",
    "SwapColumn",
    "SwapNames",
    "SwapPlaces",
    "SwapPronouns",
    "SwapWords",
    "TextIntervention",
    "Texture",
    "Translate",
    "Truncate",
    "Uppercase",
    "WordShuffle",
]
