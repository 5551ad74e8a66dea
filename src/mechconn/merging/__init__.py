"""Merging: one network of several, and whether it may take their place."""

from mechconn.merging._build_merged import build_merged as build_merged
from mechconn.merging._mean import Mean as Mean
from mechconn.merging._merge_folders import MergedFolder as MergedFolder
from mechconn.merging._merge_folders import merge_folders as merge_folders
from mechconn.merging._merge_method import MergeMethod as MergeMethod
from mechconn.merging._merge_method import MergeProblem as MergeProblem
from mechconn.merging._merge_method import TensorMerge as TensorMerge
