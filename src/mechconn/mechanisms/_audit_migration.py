"""Audits of release 0.1.0 as those of today: what its JSON held, under the names that the results have now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mechconn.connectivity import compute_barrier
from mechconn.core import to_plain
from mechconn.losses import find_loss_unit

GONE = ("theory", "left_out", "pictures")
"""Keys that stood at the top and follow from others now."""
NO_BLOCKS = (
    "This audit was read from a file of mechconn 0.1.0, which holds the barriers of blocks without their curves, so "
    "they are left out; audit again with blocks= to have them."
)


def migrate_audit(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of an audit of release 0.1.0 as `Audit.from_dict` reads them.

    Profiles have the barriers and intervals of the file; their metrics were not in it. Blocks are left out, and a note
    says so. The alignment's symmetry has sizes and reasons alone, so that it refuses to move any weights.
    """
    comparison = _migrate_comparison(plain["comparison"], plain["names"], find_loss_unit(plain["settings"]))
    alignment, similarity = plain.get("alignment"), plain.get("similarity")
    kept = {key: value for key, value in plain.items() if key not in GONE}
    return {
        **kept,
        "comparison": comparison,
        "examples": {"pictures": plain.get("pictures", {}), "same_rows": _shares_rows(comparison["a"])},
        "tolerance": plain["settings"]["tolerance"],
        "paths": {which: _migrate_path(path, comparison, plain) for which, path in plain["paths"].items()},
        "alignment": None if alignment is None else _migrate_alignment(alignment),
        "blocks": None,
        "similarity": None if similarity is None else _migrate_similarity(similarity, plain, comparison["a"]),
        "notes": [*plain["notes"], *([NO_BLOCKS] if plain.get("blocks") else [])],
    }


def _migrate_comparison(plain: Mapping[str, Any], names: list[str], unit: str) -> dict[str, Any]:
    a, b = (_migrate_invariance(plain[side], unit) for side in "ab")
    runs = {side: [_migrate_invariance(run, unit) for run in plain[side]] for side in ("runs_a", "runs_b")}
    same = plain.get("same_invariances") or plain["verdict"]  # the first files held the paper's verdict alone
    return {**plain, "a": a, "b": b, **runs, "same_invariances": same, "names": names}


def _shares_rows(side: Mapping[str, Any]) -> bool:
    return all(effect.get("same_rows", False) for effect in side["effects"].values())


def _migrate_invariance(plain: Mapping[str, Any], unit: str) -> dict[str, Any]:
    return {**{key: value for key, value in plain.items() if key != "precision"}, "loss_unit": unit}


def _migrate_path(path: Mapping[str, Any], comparison: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    side, found = comparison["a"], path["connection"]
    loss = {split: _fill(values, found[split]) for split, values in path["loss"].items()}
    barriers = {
        split: {**to_plain(compute_barrier(path["ts"], loss[split], None)), "interval": path["barrier_interval"][split]}
        for split, barrier in path["barrier"].items()
        if barrier is not None
    }
    unit = {key: plain["settings"][key] for key in ("loss", "loss_unit") if key in plain["settings"]}
    return {
        "ts": path["ts"],
        "loss": loss,
        "accuracy": {split: _fill(values) for split, values in path["accuracy"].items()},
        "samples": {split: side["samples"][split] for split in loss},
        "reference": side["reference"],
        "interventions": side["interventions"],
        "settings": {**unit, **path["settings"]},
        "each": side.get("each", "rows"),
        "saved": [_migrate_end(end) for end in path.get("saved") or (None, None)],
        "clusters": path.get("clusters", {}),
        "names": [path["start"], path["end"]],
        "barriers": {"loss": barriers},
        "samples_kept": True,
    }


def _fill(values: Iterable[float | None], connection: str = "") -> list[float]:
    """Means with a number for None, which stood for all that is not finite.

    A path that was called not connected had infinity there, between finite ends; see `Profile.judge`.
    """
    missing = math.inf if connection == "not connected" else math.nan
    return [missing if value is None else value for value in values]


def _migrate_end(end: Mapping[str, Mapping[str, float | None]] | None) -> dict[str, dict[str, float]] | None:
    """An end as it was saved; None where that is not known."""
    if end is None:
        return None
    return {on: dict(zip(end[on], _fill(end[on].values()), strict=True)) for on in ("loss", "accuracy")}


def _migrate_alignment(plain: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {group: len(order) for group, order in plain["permutations"].items()}
    frozen = [["", number, reason] for number, reason in enumerate(plain["frozen"])]
    kept = {key: value for key, value in plain.items() if key != "frozen"}
    return {**kept, "symmetry": {"axes": {}, "sizes": sizes, "frozen": frozen}}


def _migrate_similarity(
    layers: Mapping[str, float | None], plain: Mapping[str, Any], side: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "layers": layers,
        "widths": {},
        "samples": side["samples"][side["reference"]],
        "left_out": plain.get("left_out", {}),
        "compute": side.get("compute", {}),
    }
