"""What lies on a path between two networks: losses, barriers and their verdicts; planes, blocks, alignments."""

from mechconn.connectivity._aligned import AlignedProfiles as AlignedProfiles
from mechconn.connectivity._aligned import evaluate_alignment as evaluate_alignment
from mechconn.connectivity._barrier import Barrier as Barrier
from mechconn.connectivity._barrier import Connection as Connection
from mechconn.connectivity._barrier import compute_barrier as compute_barrier
from mechconn.connectivity._blocks import BlockChoice as BlockChoice
from mechconn.connectivity._blocks import BlockProfiles as BlockProfiles
from mechconn.connectivity._blocks import evaluate_blocks as evaluate_blocks
from mechconn.connectivity._blocks import group_parameters as group_parameters
from mechconn.connectivity._blocks import walk_blocks as walk_blocks
from mechconn.connectivity._evaluate_path import check_grid as check_grid
from mechconn.connectivity._evaluate_path import evaluate_line as evaluate_line
from mechconn.connectivity._evaluate_path import evaluate_path as evaluate_path
from mechconn.connectivity._evaluator import Evaluator as Evaluator
from mechconn.connectivity._evaluator import read_first_rows as read_first_rows
from mechconn.connectivity._joining import walk_lines as walk_lines
from mechconn.connectivity._plane import Plane as Plane
from mechconn.connectivity._plane import PlanePoint as PlanePoint
from mechconn.connectivity._plane import evaluate_plane as evaluate_plane
from mechconn.connectivity._profile import Profile as Profile
from mechconn.connectivity._saved_ends import EndMeans as EndMeans
from mechconn.connectivity._saved_ends import ShiftedEnd as ShiftedEnd
from mechconn.connectivity._saved_ends import describe_shifted_end as describe_shifted_end
from mechconn.connectivity._saved_ends import join_words as join_words
