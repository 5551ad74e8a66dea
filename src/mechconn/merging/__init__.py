"""Merging: one network of several, and whether it may take their place."""

from mechconn.merging._build_merged import build_merged as build_merged
from mechconn.merging._dare import DARE as DARE
from mechconn.merging._far_base import note_far_base as note_far_base
from mechconn.merging._fisher_mean import FisherMean as FisherMean
from mechconn.merging._greedy_soup import GreedySoup as GreedySoup
from mechconn.merging._mean import Mean as Mean
from mechconn.merging._merge_folders import MergedFolder as MergedFolder
from mechconn.merging._merge_folders import merge_folders as merge_folders
from mechconn.merging._merge_method import MergeMethod as MergeMethod
from mechconn.merging._merge_method import MergeProblem as MergeProblem
from mechconn.merging._merge_method import MergeRecord as MergeRecord
from mechconn.merging._merge_method import TensorMerge as TensorMerge
from mechconn.merging._merge_method import check_has_base as check_has_base
from mechconn.merging._merged_files import copy_further_files as copy_further_files
from mechconn.merging._reg_mean import RegMean as RegMean
from mechconn.merging._save_record import describe_parents as describe_parents
from mechconn.merging._save_record import write_record as write_record
from mechconn.merging._shard_writer import read_size as read_size
from mechconn.merging._slerp import SLERP as SLERP
from mechconn.merging._task_arithmetic import TaskArithmetic as TaskArithmetic
from mechconn.merging._ties import TIES as TIES
