"""Evaluating networks along paths, block by block and over planes, and what that says about connectivity."""

from mechconn._connectivity._aligned import AlignedProfiles as AlignedProfiles
from mechconn._connectivity._aligned import evaluate_alignment as evaluate_alignment
from mechconn._connectivity._barrier import Barrier as Barrier
from mechconn._connectivity._barrier import Connection as Connection
from mechconn._connectivity._blocks import BlockProfiles as BlockProfiles
from mechconn._connectivity._blocks import evaluate_blocks as evaluate_blocks
from mechconn._connectivity._evaluate_path import evaluate_path as evaluate_path
from mechconn._connectivity._plane import Plane as Plane
from mechconn._connectivity._plane import PlanePoint as PlanePoint
from mechconn._connectivity._plane import evaluate_plane as evaluate_plane
from mechconn._connectivity._profile import Profile as Profile

__all__ = [
    "AlignedProfiles",
    "Barrier",
    "BlockProfiles",
    "Connection",
    "Plane",
    "PlanePoint",
    "Profile",
    "evaluate_alignment",
    "evaluate_blocks",
    "evaluate_path",
    "evaluate_plane",
]
