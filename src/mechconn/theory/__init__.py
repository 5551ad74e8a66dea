"""The theory as code: one hidden ReLU layer, activation patterns, and checks of what is proved and what is not."""

from mechconn.theory._interpolate import Interpolation as Interpolation
from mechconn.theory._interpolate import interpolate as interpolate
from mechconn.theory._lemma import check_corollary as check_corollary
from mechconn.theory._lemma import check_lemma_2 as check_lemma_2
from mechconn.theory._line import Joined as Joined
from mechconn.theory._line import Line as Line
from mechconn.theory._line import barrier_floor as barrier_floor
from mechconn.theory._line import join as join
from mechconn.theory._line import loss_along as loss_along
from mechconn.theory._line import shortfall as shortfall
from mechconn.theory._patterns import activation_patterns as activation_patterns
from mechconn.theory._patterns import match_units as match_units
from mechconn.theory._patterns import pattern_agreement as pattern_agreement
from mechconn.theory._relu_network import ReluNet as ReluNet
from mechconn.theory._relu_network import fresh_network as fresh_network
from mechconn.theory._relu_network import spline_network as spline_network
from mechconn.theory._slabs import Slabs as Slabs
from mechconn.theory._slabs import SlabSet as SlabSet
from mechconn.theory._statement import Assumption as Assumption
from mechconn.theory._statement import Evidence as Evidence
from mechconn.theory._theorem import check_exception as check_exception
from mechconn.theory._theorem import check_theorem_1 as check_theorem_1

__all__ = [
    "Assumption",
    "Evidence",
    "Interpolation",
    "Joined",
    "Line",
    "ReluNet",
    "SlabSet",
    "Slabs",
    "activation_patterns",
    "barrier_floor",
    "check_corollary",
    "check_exception",
    "check_lemma_2",
    "check_theorem_1",
    "fresh_network",
    "interpolate",
    "join",
    "loss_along",
    "match_units",
    "pattern_agreement",
    "shortfall",
    "spline_network",
]
