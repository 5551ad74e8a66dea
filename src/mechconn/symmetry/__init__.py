"""Permutation symmetries of networks: read off their operations, proved by running them, written as patterns."""

from mechconn.symmetry._axes import Atom as Atom
from mechconn.symmetry._derive import Walk as Walk
from mechconn.symmetry._derive import walk as walk
from mechconn.symmetry._find import group_names as group_names
from mechconn.symmetry._find import pattern_of as pattern_of
from mechconn.symmetry._find import symmetry_of as symmetry_of
from mechconn.symmetry._graph import Graph as Graph
from mechconn.symmetry._graph import UnreadableError as UnreadableError
from mechconn.symmetry._graph import graph_of as graph_of
from mechconn.symmetry._graph import shared_memory as shared_memory
from mechconn.symmetry._pattern import Pattern as Pattern
from mechconn.symmetry._pattern import Permutations as Permutations
from mechconn.symmetry._pattern import Sum as Sum
from mechconn.symmetry._pattern import groups_in as groups_in
from mechconn.symmetry._pattern import index as index
from mechconn.symmetry._pattern import places_of as places_of
from mechconn.symmetry._rules import ELEMENTWISE as ELEMENTWISE
from mechconn.symmetry._rules import NONLINEAR as NONLINEAR
from mechconn.symmetry._symmetry import Symmetry as Symmetry
from mechconn.symmetry._verify import relative_error as relative_error
