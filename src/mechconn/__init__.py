"""Mechanistic connectivity: do two networks solve a task by the same mechanism, and which paths join them?"""

from mechconn import datasets as datasets
from mechconn import losses as losses
from mechconn import models as models
from mechconn import theory as theory
from mechconn._agreement import split_by_agreement as split_by_agreement
from mechconn._align import ActivationMatching as ActivationMatching
from mechconn._align import Alignment as Alignment
from mechconn._align import WeightMatching as WeightMatching
from mechconn._align import align as align
from mechconn._audit import Audit as Audit
from mechconn._audit import Change as Change
from mechconn._audit import Comparison as Comparison
from mechconn._audit import Difference as Difference
from mechconn._audit import Effect as Effect
from mechconn._audit import Invariance as Invariance
from mechconn._audit import MechanismMap as MechanismMap
from mechconn._audit import OutputDiscrepancy as OutputDiscrepancy
from mechconn._audit import RepresentationSimilarity as RepresentationSimilarity
from mechconn._audit import audit as audit
from mechconn._audit import compare_mechanisms as compare_mechanisms
from mechconn._audit import measure_invariance as measure_invariance
from mechconn._audit import mechanism_map as mechanism_map
from mechconn._audit import output_discrepancy as output_discrepancy
from mechconn._audit import representation_similarity as representation_similarity
from mechconn._checkpoint import Checkpoint as Checkpoint
from mechconn._compare_methods import TuningTask as TuningTask
from mechconn._compare_methods import compare_methods as compare_methods
from mechconn._connectivity import AlignedProfiles as AlignedProfiles
from mechconn._connectivity import Barrier as Barrier
from mechconn._connectivity import BlockProfiles as BlockProfiles
from mechconn._connectivity import Connection as Connection
from mechconn._connectivity import Plane as Plane
from mechconn._connectivity import PlanePoint as PlanePoint
from mechconn._connectivity import Profile as Profile
from mechconn._connectivity import evaluate_alignment as evaluate_alignment
from mechconn._connectivity import evaluate_blocks as evaluate_blocks
from mechconn._connectivity import evaluate_path as evaluate_path
from mechconn._connectivity import evaluate_plane as evaluate_plane
from mechconn._cues import BoxCue as BoxCue
from mechconn._cues import DominoesCue as DominoesCue
from mechconn._cues import HueBoxCue as HueBoxCue
from mechconn._finetune import CBFT as CBFT
from mechconn._finetune import DFR as DFR
from mechconn._finetune import IRM as IRM
from mechconn._finetune import LPFT as LPFT
from mechconn._finetune import ConvexCombination as ConvexCombination
from mechconn._finetune import GroupDRO as GroupDRO
from mechconn._finetune import LastLayerRetraining as LastLayerRetraining
from mechconn._finetune import NaiveFineTuning as NaiveFineTuning
from mechconn._finetune import Scratch as Scratch
from mechconn._finetune import VREx as VREx
from mechconn._finetune import fine_tune as fine_tune
from mechconn._fit_path import FittedPath as FittedPath
from mechconn._fit_path import fit_path as fit_path
from mechconn._functions import Draws as Draws
from mechconn._functions import intervened as intervened
from mechconn._groups import GroupAccuracies as GroupAccuracies
from mechconn._groups import GroupAccuracy as GroupAccuracy
from mechconn._groups import measure_groups as measure_groups
from mechconn._groups import split_by_group as split_by_group
from mechconn._interventions import Cue as Cue
from mechconn._interventions import CuedSet as CuedSet
from mechconn._interventions import Suite as Suite
from mechconn._loading import load_model as load_model
from mechconn._method_comparison import Across as Across
from mechconn._method_comparison import MethodComparison as MethodComparison
from mechconn._method_comparison import TuningRun as TuningRun
from mechconn._metrics import Metric as Metric
from mechconn._model_at import model_at as model_at
from mechconn._model_at import soup as soup
from mechconn._norm_stats import InterpolateNorm as InterpolateNorm
from mechconn._norm_stats import KeepNorm as KeepNorm
from mechconn._norm_stats import Reestimate as Reestimate
from mechconn._params import parameters_of as parameters_of
from mechconn._params import with_parameters as with_parameters
from mechconn._path_fits import BezierFit as BezierFit
from mechconn._path_fits import PolygonalFit as PolygonalFit
from mechconn._paths import BezierPath as BezierPath
from mechconn._paths import LinearPath as LinearPath
from mechconn._paths import PolygonalPath as PolygonalPath
from mechconn._paths import path_grid as path_grid
from mechconn._repair import Repair as Repair
from mechconn._report import save_report as save_report
from mechconn._symmetry import Symmetry as Symmetry
from mechconn._symmetry import symmetry_of as symmetry_of
from mechconn._token_cue import TokenCue as TokenCue
from mechconn._training import Trained as Trained
from mechconn._training import Training as Training
from mechconn._training import train as train
from mechconn._transforms import ColourShift as ColourShift
from mechconn._transforms import IntervenedSet as IntervenedSet
from mechconn._transforms import Intervention as Intervention
from mechconn._transforms import Rotate as Rotate
from mechconn._transforms import Translate as Translate

__version__ = "0.1.0"
__all__ = [
    "CBFT",
    "DFR",
    "IRM",
    "LPFT",
    "Across",
    "ActivationMatching",
    "AlignedProfiles",
    "Alignment",
    "Audit",
    "Barrier",
    "BezierFit",
    "BezierPath",
    "BlockProfiles",
    "BoxCue",
    "Change",
    "Checkpoint",
    "ColourShift",
    "Comparison",
    "Connection",
    "ConvexCombination",
    "Cue",
    "CuedSet",
    "Difference",
    "DominoesCue",
    "Draws",
    "Effect",
    "FittedPath",
    "GroupAccuracies",
    "GroupAccuracy",
    "GroupDRO",
    "HueBoxCue",
    "InterpolateNorm",
    "IntervenedSet",
    "Intervention",
    "Invariance",
    "KeepNorm",
    "LastLayerRetraining",
    "LinearPath",
    "MechanismMap",
    "MethodComparison",
    "Metric",
    "NaiveFineTuning",
    "OutputDiscrepancy",
    "Plane",
    "PlanePoint",
    "PolygonalFit",
    "PolygonalPath",
    "Profile",
    "Reestimate",
    "Repair",
    "RepresentationSimilarity",
    "Rotate",
    "Scratch",
    "Suite",
    "Symmetry",
    "TokenCue",
    "Trained",
    "Training",
    "Translate",
    "TuningRun",
    "TuningTask",
    "VREx",
    "WeightMatching",
    "align",
    "audit",
    "compare_mechanisms",
    "compare_methods",
    "datasets",
    "evaluate_alignment",
    "evaluate_blocks",
    "evaluate_path",
    "evaluate_plane",
    "fine_tune",
    "fit_path",
    "intervened",
    "load_model",
    "losses",
    "measure_groups",
    "measure_invariance",
    "mechanism_map",
    "model_at",
    "models",
    "output_discrepancy",
    "parameters_of",
    "path_grid",
    "representation_similarity",
    "save_report",
    "soup",
    "split_by_agreement",
    "split_by_group",
    "symmetry_of",
    "theory",
    "train",
    "with_parameters",
]
