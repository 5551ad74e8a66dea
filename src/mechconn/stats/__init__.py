"""Exact bounds, intervals and evidence over time: numbers in, numbers out, no networks."""

from mechconn.stats._betting import MeanBounds as MeanBounds
from mechconn.stats._betting import betting_interval as betting_interval
from mechconn.stats._exact import CountBound as CountBound
from mechconn.stats._exact import Interval as Interval
from mechconn.stats._exact import clopper_pearson as clopper_pearson
from mechconn.stats._intervals import NEGLIGIBLE as NEGLIGIBLE
from mechconn.stats._intervals import bound_count_difference as bound_count_difference
from mechconn.stats._intervals import bound_paired_difference as bound_paired_difference
from mechconn.stats._intervals import bound_paired_mean as bound_paired_mean
from mechconn.stats._intervals import bound_share_difference as bound_share_difference
from mechconn.stats._intervals import bound_undetected_change as bound_undetected_change
from mechconn.stats._intervals import bound_unpaired_difference as bound_unpaired_difference
from mechconn.stats._intervals import bound_unpaired_mean as bound_unpaired_mean
from mechconn.stats._intervals import compute_moments as compute_moments
from mechconn.stats._intervals import mean_interval as mean_interval
from mechconn.stats._intervals import round_counts_safely as round_counts_safely
from mechconn.stats._intervals import t_interval as t_interval
from mechconn.stats._intervals import welch_interval as welch_interval
from mechconn.stats._melded import MeldedBounds as MeldedBounds
from mechconn.stats._melded import WeightedCount as WeightedCount
