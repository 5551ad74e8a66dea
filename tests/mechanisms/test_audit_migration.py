"""Audits that release 0.1.0 wrote are read as those of today; `audit_0.1.0.json` is one of its `Audit.to_json`."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc

FILE = Path(__file__).with_name("audit_0.1.0.json")
OLD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def load(plain: Any = FILE) -> mc.Audit:
    found = mc.load_result(plain)
    assert isinstance(found, mc.Audit)
    return found


def edited(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(OLD), **changes}


def test_it_prints_the_same_sentences_but_for_the_blocks() -> None:
    found = load()
    assert found.headline == OLD["headline"] and found.verdict == OLD["comparison"]["verdict"]
    gone = [sentence for sentence in OLD["findings"] if sentence not in found.findings]
    new = [sentence for sentence in found.findings if sentence not in OLD["findings"]]
    assert len(gone) == 1 and gone[0].startswith("Moving one block at a time")
    assert len(new) == 1 and new[0] == found.notes[-1] and "the barriers of blocks without their curves" in new[0]
    plain = load(edited(blocks=None, findings=[]))
    assert list(plain.findings) == [sentence for sentence in OLD["findings"] if sentence not in gone]
    assert plain.notes == () and plain.settings_hash == OLD["settings_hash"]


@pytest.mark.parametrize("which", ["before", "after"])
def test_paths_have_the_barriers_intervals_and_verdicts_of_the_file(which: str) -> None:
    found, old = load(), OLD["paths"][which]
    path, verdict = found.paths[which], found.connections[which]
    assert path.names == ("one", "two") and path.unit == "nats"
    for split, (height, t) in old["barrier"].items():
        barrier = path.barrier(split)
        assert (barrier.height, barrier.t) == (height, t) and list(barrier.interval or ()) == old["barrier_interval"][
            split
        ]
        assert path.endpoint_minus_minimum(split) == old["endpoint_minus_minimum"][split]
        assert list(path.loss[split]) == old["loss"][split] and list(path.accuracy[split]) == old["accuracy"][split]
    assert dict(verdict.splits) == old["connection"]
    assert (verdict.verdict, verdict.evaluated) == (old["mechanistic_connection"], old["evaluated_connection"])
    ends = {"one": "A", "two": "B"}
    assert [shift._asdict() for shift in verdict.shifted] == [{**s, "end": ends[s["end"]]} for s in old["shifted"]]
    assert path.saved[1] is not None and dict(path.saved[1].accuracy) == old["saved"][1]["accuracy"]


def test_the_comparison_the_alignment_and_the_layers_are_kept() -> None:
    found = load()
    for side, old in ((found.comparison.a, OLD["comparison"]["a"]), (found.comparison.b, OLD["comparison"]["b"])):
        plain = side.to_plain()
        assert {key: plain[key] for key in old if key != "precision"} == {
            k: v for k, v in old.items() if k != "precision"
        }
    assert found.comparison.less["first"].amount == OLD["comparison"]["less"]["first"]["amount"]
    alignment = found.alignment
    assert (
        alignment is not None
        and alignment.permutations["layer0"].tolist() == OLD["alignment"]["permutations"]["layer0"]
    )
    assert sorted(alignment.symmetry.frozen.values()) == sorted(OLD["alignment"]["frozen"])
    assert found.similarity is not None and dict(found.similarity) == OLD["similarity"]
    assert "units" not in str(found.similarity) and found.similarity.rows()[0]["units_a"] is None
    with pytest.raises(ValueError, match="weight"):  # its axes were not in the file, so it moves nothing
        alignment.symmetry.apply({"0.weight": torch.zeros(6, 4)}, alignment.permutations)


def test_it_draws_and_is_saved_as_one_of_today(tmp_path: Path) -> None:
    found = load()
    mc.save_report(FILE, tmp_path / "old.html")
    page = (tmp_path / "old.html").read_text(encoding="utf-8")
    for text in ("two aligned to one", "Representations", "linear CKA", "settings hash", OLD["settings_hash"]):
        assert text in page
    assert f"{100 * found.comparison.a.accuracy['plain']:.1f} %" in page and found.plot().axes
    found.save(tmp_path / "today.json")
    plain = json.loads((tmp_path / "today.json").read_text(encoding="utf-8"))
    assert plain["schema_version"] == 3 and plain == found.to_dict()
    mc.save_report(tmp_path / "today.json", tmp_path / "today.html")
    assert (tmp_path / "today.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(("connection", "filled"), [("not connected", math.inf), ("undetermined", math.nan)])
def test_what_was_not_finite_is_judged_as_it_was(connection: str, filled: float) -> None:
    plain = edited()
    path = plain["paths"]["before"]
    path["loss"]["first"][1] = path["barrier"]["first"] = path["barrier_interval"]["first"] = None
    path["connection"]["first"] = connection
    found = load(plain)
    value = found.paths["before"].loss["first"][1]
    assert value == filled or (math.isnan(value) and math.isnan(filled))
    assert found.connections["before"].splits["first"] == connection
    assert "undefined on first, where the loss is not finite" in str(found)


def test_the_first_files_lack_what_came_later() -> None:
    plain = edited(schema_version=1)
    for name in ("headline", "theory", "left_out"):
        del plain[name]
    for name in ("headline", "less", "same_invariances"):
        del plain["comparison"][name]
    for path in plain["paths"].values():
        for name in ("endpoint_minus_minimum", "evaluated_connection", "clusters", "saved", "shifted"):
            del path[name]
    for side in (plain["comparison"]["a"], plain["comparison"]["b"], *plain["comparison"]["runs_a"]):
        del side["clusters"]
        for effect in side["effects"].values():
            del effect["clusters"]
    found = load(plain)
    assert found.comparison.same_invariances == found.verdict and found.comparison.less == {}
    assert found.comparison.a.clusters == {} and found.paths["before"].saved == (None, None)
    assert found.headline == "Both rely on first. Whether one or two is invariant to last is not settled."


@pytest.mark.parametrize("name", ["comparison", "settings", "paths", "names"])
def test_a_file_that_lacks_a_part_is_refused_in_one_line(name: str) -> None:
    plain = edited()
    del plain[name]
    with pytest.raises(ValueError, match=f"no audit of mechconn 0.1.0 .KeyError: '{name}'.; pass what its") as caught:
        load(plain)
    assert "\n" not in str(caught.value)
