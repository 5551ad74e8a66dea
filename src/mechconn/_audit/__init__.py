"""Mechanisms: what models are invariant to, and whether two of them rely on the same."""

from mechconn._audit._audit import Audit as Audit
from mechconn._audit._audit import audit as audit
from mechconn._audit._compare import Comparison as Comparison
from mechconn._audit._compare import Difference as Difference
from mechconn._audit._compare import compare_mechanisms as compare_mechanisms
from mechconn._audit._discrepancy import OutputDiscrepancy as OutputDiscrepancy
from mechconn._audit._discrepancy import output_discrepancy as output_discrepancy
from mechconn._audit._effects import Change as Change
from mechconn._audit._effects import Effect as Effect
from mechconn._audit._effects import Invariance as Invariance
from mechconn._audit._map import MechanismMap as MechanismMap
from mechconn._audit._map import mechanism_map as mechanism_map
from mechconn._audit._measure import measure_invariance as measure_invariance
from mechconn._audit._representations import RepresentationSimilarity as RepresentationSimilarity
from mechconn._audit._representations import representation_similarity as representation_similarity

__all__ = [
    "Audit",
    "Change",
    "Comparison",
    "Difference",
    "Effect",
    "Invariance",
    "MechanismMap",
    "OutputDiscrepancy",
    "RepresentationSimilarity",
    "audit",
    "compare_mechanisms",
    "measure_invariance",
    "mechanism_map",
    "output_discrepancy",
    "representation_similarity",
]
