"""Permutation symmetries of networks: read off their operations, proved by running them, written as patterns."""

from mechconn.symmetry._axes import Atom as Atom
from mechconn.symmetry._derive import Walk as Walk
from mechconn.symmetry._derive import walk as walk
from mechconn.symmetry._find import name_unit_groups as name_unit_groups
from mechconn.symmetry._find import pattern_of as pattern_of
from mechconn.symmetry._find import symmetry_of as symmetry_of
from mechconn.symmetry._graph import Graph as Graph
from mechconn.symmetry._graph import UnreadableError as UnreadableError
from mechconn.symmetry._graph import export_graph as export_graph
from mechconn.symmetry._graph import find_shared_memory as find_shared_memory
from mechconn.symmetry._pattern import Pattern as Pattern
from mechconn.symmetry._pattern import Permutations as Permutations
from mechconn.symmetry._pattern import Sum as Sum
from mechconn.symmetry._pattern import compute_index as compute_index
from mechconn.symmetry._pattern import list_groups as list_groups
from mechconn.symmetry._pattern import locate_units as locate_units
from mechconn.symmetry._rules import ELEMENTWISE as ELEMENTWISE
from mechconn.symmetry._rules import NONLINEAR as NONLINEAR
from mechconn.symmetry._symmetry import Symmetry as Symmetry
from mechconn.symmetry._verify import relative_error as relative_error
