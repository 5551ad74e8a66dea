"""Aligning networks: removing permutations of units before two networks are compared."""

from mechconn._align._activations import ActivationMatching as ActivationMatching
from mechconn._align._alignment import Alignment as Alignment
from mechconn._align._alignment import align as align
from mechconn._align._weights import WeightMatching as WeightMatching
