"""Merging: one network of several, and whether it may take their place."""

from mechconn.merging._build_merged import build_merged as build_merged
from mechconn.merging._concatenate_adapters import ConcatenatedAdapter as ConcatenatedAdapter
from mechconn.merging._concatenate_adapters import concatenate_adapters as concatenate_adapters
from mechconn.merging._dare import DARE as DARE
from mechconn.merging._far_base import note_far_base as note_far_base
from mechconn.merging._fisher_mean import FisherMean as FisherMean
from mechconn.merging._greedy_soup import GreedySoup as GreedySoup
from mechconn.merging._mean import Mean as Mean
from mechconn.merging._merge import merge as merge
from mechconn.merging._merge_mechanisms import MechanismFate as MechanismFate
from mechconn.merging._merge_method import MergeMethod as MergeMethod
from mechconn.merging._merge_method import MergeProblem as MergeProblem
from mechconn.merging._merge_method import MergeRecord as MergeRecord
from mechconn.merging._merge_method import TensorMerge as TensorMerge
from mechconn.merging._merge_method import check_has_base as check_has_base
from mechconn.merging._merge_verdict import ParentDifference as ParentDifference
from mechconn.merging._merge_verdict import Power as Power
from mechconn.merging._merged import Merged as Merged
from mechconn.merging._merged import MergeJudgement as MergeJudgement
from mechconn.merging._reg_mean import RegMean as RegMean
from mechconn.merging._slerp import SLERP as SLERP
from mechconn.merging._task_arithmetic import TaskArithmetic as TaskArithmetic
from mechconn.merging._ties import TIES as TIES
