"""Merging: one network of several, and whether it may take their place."""

from mechconn.merging._build_merged import build_merged as build_merged
from mechconn.merging._mean import Mean as Mean
from mechconn.merging._merge import merge as merge
from mechconn.merging._merge_mechanisms import MechanismFate as MechanismFate
from mechconn.merging._merge_method import MergeMethod as MergeMethod
from mechconn.merging._merge_method import MergeProblem as MergeProblem
from mechconn.merging._merge_method import TensorMerge as TensorMerge
from mechconn.merging._merge_verdict import ParentDifference as ParentDifference
from mechconn.merging._merge_verdict import Power as Power
from mechconn.merging._merged import Merged as Merged
from mechconn.merging._merged import MergeJudgement as MergeJudgement
