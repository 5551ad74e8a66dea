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
from mechconn.interventions._text_swaps import SwapWords as SwapWords

__all__ = [
    "ColourShift",
    "DropWords",
    "GradedIntervention",
    "InsertPhrase",
    "Intervention",
    "Lowercase",
    "Negation",
    "NoPunctuation",
    "OnePart",
    "RemoveOverlap",
    "RemovePhrase",
    "Rotate",
    "SwapWords",
    "Translate",
    "Truncate",
    "Uppercase",
    "WordShuffle",
]
