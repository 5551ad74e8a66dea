"""Permutations, signs, scales and linear maps of hidden units that move one network onto another."""

from mechconn.alignment._activations import ActivationMatching as ActivationMatching
from mechconn.alignment._align_many import align_many as align_many
from mechconn.alignment._alignment import align as align
from mechconn.alignment._alignment import check_finite_weights as check_finite_weights
from mechconn.alignment._alignment import check_method as check_method
from mechconn.alignment._alignment import check_no_adapters as check_no_adapters
from mechconn.alignment._alignment import make_pair as make_pair
from mechconn.alignment._alignment import match_units as match_units
from mechconn.alignment._alignment import prove_and_match as prove_and_match
from mechconn.alignment._alignment import verify_symmetry as verify_symmetry
from mechconn.alignment._alignment_result import Alignment as Alignment
from mechconn.alignment._assignment import solve_assignment as solve_assignment
from mechconn.alignment._input_covariance import InputCovarianceMatching as InputCovarianceMatching
from mechconn.alignment._learned import LearnedMatching as LearnedMatching
from mechconn.alignment._many_alignments import ManyAlignments as ManyAlignments
from mechconn.alignment._many_matching import ManyAlignmentMethod as ManyAlignmentMethod
from mechconn.alignment._many_matching import ManyMatching as ManyMatching
from mechconn.alignment._many_matching import ManyNetworks as ManyNetworks
from mechconn.alignment._matching import AlignmentMethod as AlignmentMethod
from mechconn.alignment._matching import Matching as Matching
from mechconn.alignment._matching import NetworkPair as NetworkPair
from mechconn.alignment._matching import read_example as read_example
from mechconn.alignment._optimised_rows import note_same_rows as note_same_rows
from mechconn.alignment._universe import MergeMany as MergeMany
from mechconn.alignment._universe import UniverseMatching as UniverseMatching
from mechconn.alignment._weights import WeightMatching as WeightMatching
