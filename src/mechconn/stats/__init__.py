"""Exact bounds, intervals and evidence over time: numbers in, numbers out, no networks."""

from mechconn.stats._betting import MeanBounds as MeanBounds
from mechconn.stats._betting import betting_interval as betting_interval
from mechconn.stats._exact import CountBound as CountBound
from mechconn.stats._exact import Interval as Interval
from mechconn.stats._exact import clopper_pearson as clopper_pearson
from mechconn.stats._intervals import NOTHING as NOTHING
from mechconn.stats._intervals import difference_of_counts as difference_of_counts
from mechconn.stats._intervals import difference_of_shares as difference_of_shares
from mechconn.stats._intervals import mean_interval as mean_interval
from mechconn.stats._intervals import moments_of as moments_of
from mechconn.stats._intervals import paired_difference as paired_difference
from mechconn.stats._intervals import t_interval as t_interval
from mechconn.stats._intervals import unmoved as unmoved
from mechconn.stats._intervals import welch_interval as welch_interval
from mechconn.stats._intervals import whole as whole
from mechconn.stats._melded import Counted as Counted
from mechconn.stats._melded import Melded as Melded
