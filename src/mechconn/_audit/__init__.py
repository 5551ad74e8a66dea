"""Mechanisms: what models are invariant to, and whether two of them rely on the same."""

from mechconn._audit._effects import Change as Change
from mechconn._audit._effects import Effect as Effect
from mechconn._audit._effects import Invariance as Invariance
from mechconn._audit._measure import measure_invariance as measure_invariance

__all__ = ["Change", "Effect", "Invariance", "measure_invariance"]
