"""Permutation symmetries of networks: read off their operations, proved by running them, written as patterns."""

from mechconn._symmetry._find import symmetry_of as symmetry_of
from mechconn._symmetry._symmetry import Group as Group
from mechconn._symmetry._symmetry import Symmetry as Symmetry
