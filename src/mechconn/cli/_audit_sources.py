"""What the data of an audit beside its splits are called."""

from __future__ import annotations

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._side_data import list_side_options

MAJORITY, NORM = "data of the majority", "data of the norm statistics"
RELEARNED = "data of relearning"
PLACEBO, PLACEBO_SPLIT = "data of the placebo", "split of the placebo"
TRAINED = "training data of the groups"
MERGED = "data of the merge"


def list_further(config: AuditConfig) -> dict[str, str]:
    """Name -> where the data beside the splits are."""
    relearn, groups = config.relearn, config.groups
    placebo = None if relearn is None else relearn.placebo
    named = {
        NORM: config.norm.data,
        MAJORITY: config.majority,
        RELEARNED: relearn and relearn.data,
        PLACEBO: placebo and placebo.data,
        PLACEBO_SPLIT: placebo and placebo.split,
        TRAINED: groups and groups.train,
        **_list_merge_data(config),
    }
    found = {name: place for name, place in named.items() if isinstance(place, str) and place}
    return found | {option.rows_name: option.place for option in list_side_options(config.made_splits, "rows")}


def _list_merge_data(config: AuditConfig) -> dict[str, str]:
    """The rows that choose or weigh networks: one set, or one for each of them."""
    data = None if config.merge is None else config.merge.data
    if data is None or isinstance(data, str):
        return {} if data is None else {MERGED: data}
    return {f"{MERGED} {name}": own for name, own in data.items()}
