import re
from pathlib import Path
from typing import Any

import pytest

from mechconn.paper import save_runs, tabulate_accuracies, tabulate_barriers
from mechconn.paper._run_page import make_section
from mechconn.store import RunRecord
from page import Page
from run_records import SHORTCUT, fig4_record, fig13_record, model, path, run_record, shifted, table1_record


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = tmp_path_factory.mktemp("report") / "runs.html"
    failed = fig4_record(cued=None).cells[0].model_copy(update={"status": "failed", "why": "E: <lost> & gone"})
    fig4 = fig4_record(cued=None).model_copy(update={"cells": [failed, *fig4_record().cells]})
    save_runs([table1_record(notes=["step 12 is <damaged>"]), fig4, fig13_record()], file)
    parsed = Page(file.read_text(encoding="utf-8"))
    assert not parsed.open
    return parsed


def test_the_page_needs_nothing_beside_it(page: Page):
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert sources and all(value and value.startswith(("data:", "#")) for value in sources)
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}]
    anchors = {attrs.get("id") for _, attrs in page.tags}
    assert {value[1:] for value in sources if value and value.startswith("#")} <= anchors


def test_numbers_are_means_over_the_seeds_beside_the_published_and_the_difference(tmp_path: Path):
    text = words_of(table1_record("cifar10"), tmp_path)
    # CBFT at 90 %: 75 % here, 67.9 % published; the seeds lie 0.02 apart: t(0.975; 1) * 0.02 / 2 = 12.7 points.
    assert "75.062.3 to 87.7paper 67.9+7.1" in text
    # FT-M: 50 % on NC here against 67.2 %; theta_C stands in no published table.
    assert "50.050.0 to 50.0paper 67.2-17.2" in text
    assert "intervals over the 2 seeds" in text and "mean of three seeds" in text
    (_, figure), *_ = make_section(table1_record("cifar10")).figures
    assert "CBFT NC 75 % (published 68 %)" in figure


def words_of(record: RunRecord, folder: Path) -> str:
    """The words of the page of a run."""
    save_runs([record], folder / "page.html")
    return re.sub(r"\s+", " ", Page((folder / "page.html").read_text(encoding="utf-8")).text)


def test_other_data_stand_beside_the_numbers_for_cifar_10_without_a_difference(page: Page):
    text = re.sub(r"\s+", " ", page.text)
    assert "75.062.3 to 87.7CIFAR-10 67.9 " in text and "+7.1" not in text and "paper 67.9" not in text
    assert "its number for CIFAR-10, which ours cannot be compared with" in text
    entries = [entry for row in make_section(table1_record()).accuracy for entry in row.entries.values()]
    assert {entry.difference for entry in entries} == {None}


def test_what_counts_is_what_the_data_are_and_not_what_they_are_called():
    named = table1_record("mine").model_copy()
    for data, same in (
        ({"source": "cifar10", "cue": "box", "size": None}, True),
        ({"source": "cifar10", "cue": "box", "size": 16}, False),
        ({"source": "cifar10", "cue": "dominoes", "size": None}, None),
        ({"source": "./photos", "cue": "box", "size": None}, False),
    ):
        record = named.model_copy(update={"settings": {**named.settings, "datasets": [{"name": "mine", **data}]}})
        cbft = make_section(record).accuracy[2].entries["no_cue"]
        assert (None if cbft.published is None else cbft.same_data) is same


def test_a_run_that_was_stopped_says_over_how_many_seeds_its_intervals_are(tmp_path: Path):
    def one(seeds: int, proportion: float) -> dict[tuple[Any, ...], dict[str, Any]]:
        found = {"models": {"FT-S": model(SHORTCUT)}, "paths": {}}
        return {("digits", proportion, 600, seed): found for seed in range(seeds)}

    stopped = run_record("table1", one(1, 0.8), seeds=[0, 1, 2], status="stopped")
    assert "intervals over the test samples" in words_of(stopped, tmp_path)
    more = run_record("table1", one(2, 0.8) | one(1, 0.9), seeds=[0, 1, 2], status="stopped")
    assert "intervals over the 2 seeds (Student's t), of one seed over the test samples" in words_of(more, tmp_path)


def test_what_the_page_shows_is_in_the_record():
    record = table1_record()
    rows = {row.name: row for row in make_section(record).accuracy}
    for name, row in rows.items():
        for split, entry in row.entries.items():
            stored = [numbers["models"][name]["accuracy"][split] for numbers in record.results.values()]
            assert entry.value.mean == pytest.approx(sum(stored) / 2, abs=1e-12)
    assert rows["theta_C"].entries["cue"].published is None


def test_what_it_is_not_is_said(page: Page):
    text = re.sub(r"\s+", " ", page.text)
    assert "Not the paper's settings: digits instead of CIFAR-10; small_convnet of width 24" in text
    assert "step 12 is <damaged>" in text and "E: <lost> & gone" in text
    assert "not finite" in text and "does not hold" in text


def test_every_picture_says_what_it_shows(page: Page):
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 8 and all("Test images of digits" in str(attrs["alt"]) for attrs in pictures)
    labels = [str(attrs["aria-label"]) for tag, attrs in page.tags if tag == "svg"]
    assert len(labels) == 5
    assert "CBFT NC 75 %, C 74 %" in labels[0]
    # Two seeds began at 2 and 3 nats.
    assert "FT-M: loss 2.5 to 1; CBFT: cross entropy 2 to 2, barrier term 0.5 to 0.5." in labels[1]
    assert "linear: NC 1.00 nats" in labels[3] and "fitted with cue: NC not finite" in labels[3]
    assert "same attribute at width 16: barrier 2 before and 0.2 after permutation, 90 % of patterns agree" in labels[4]


def test_headings_are_those_of_the_paper_and_tables_sort(page: Page):
    for heading in ("Table 1: ways of fine-tuning", "Figure 4: paths between", "Figure 13: attributes"):
        assert heading in page.text
    tables = [attrs.get("class") for tag, attrs in page.tags if tag == "table"]
    assert tables.count("sortable") == 8  # the list of runs; 2 in table 1, 3 in figure 4, 2 in figure 13


def test_accuracy_by_clean_samples_has_a_panel_for_each_model(tmp_path):
    counts = {count: {"theta_C": 0.5, "FT-M": 0.6, "scratch": 0.4} for count in (250, 2500)}
    cells = {
        ("cifar10", 0.8, count, 0): {"models": {name: model({"no_cue": a}) for name, a in models.items()}, "paths": {}}
        for count, models in counts.items()
    }
    section = make_section(run_record("table4", cells))
    ((heading, figure),) = section.figures
    assert heading == "Accuracy by clean samples: cifar10, cue on 80 %"
    assert "scratch with 2,500: NC 40 % (published 48 %)" in figure and "scratch with 250: NC 40 %;" in figure
    assert "theta_C with" not in figure


def test_places_have_tables_of_their_own_and_one_seed_the_samples_interval():
    record = run_record(
        "fig5", {("digits", p, None, 0): {"models": {"FT-S": model({"cue": 0.9})}, "paths": {}} for p in (1.0, 0.8)}
    )
    table = tabulate_accuracies(record)
    assert [place.proportion for place in table] == [0.8, 1.0]
    value = next(iter(table.values()))["FT-S"]["cue"]
    assert value.interval == pytest.approx((0.87, 0.92)) and value.seeds == 1


def test_a_barrier_that_is_not_finite_for_one_seed_has_no_mean():
    cells = {("digits", 0.8, None, s): {"models": {}, "paths": {"linear": path(h)}} for s, h in ((0, 1.0), (1, None))}
    value = next(iter(tabulate_barriers(run_record("fig4", cells)).values()))["linear"]["cue"]
    assert value.mean is None and value.interval is None and value.seeds == 2


def shifted_record(*ends: dict[str, dict[str, float]]) -> RunRecord:
    """A run of figure 4 in which the straight path of every seed has these ends as saved."""
    paths = {name: path(1.0) for name in ("aligned", "fitted with cue", "fitted without cue")}
    cells = {
        ("digits", 0.8, None, seed): {"models": {}, "paths": {"linear": shifted(0.0, found), **paths}}
        for seed, found in enumerate(ends)
    }
    return run_record("fig4", cells)


def test_ends_that_are_other_networks_than_those_saved_are_said_and_drawn(tmp_path: Path):
    record = shifted_record({"A": {"cue": 0.3}}, {})
    said = (
        "linear, digits, cue on 80\N{NO-BREAK SPACE}%: Its ends are not the networks as saved: theta_C is right on "
        "60.0 % of cue as saved, and on 90.0 % on this path."  # the means of 0.3 and 0.9, and of 0.9 twice
    )
    section = make_section(record)
    assert section.shifts == [said]
    save_runs([record], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f'<p class="notice">{said}</p>' in text
    ((_, figure),) = section.figures
    assert "linear: Its ends are not the networks as saved: theta_C is right on 60.0 % of cue" in figure
    assert "open circles: as saved" in figure
    # Three splits and both measures at one end of one path: an open circle each.
    plain = make_section(fig4_record())
    assert plain.shifts == [] and "open circles" not in plain.figures[-1][1]


def test_records_of_an_earlier_time_hold_no_ends_as_saved(tmp_path: Path):
    """Among records that hold them, means of the ends are those of the others."""
    record, alone = shifted_record({}, {"A": {"cue": 0.3}}), shifted_record({"A": {"cue": 0.3}})
    for older in ("saved", "shifted"):
        del record.results["digits 0.8 None 0"]["paths"]["linear"][older]
    assert make_section(record).shifts == make_section(alone).shifts != []
    save_runs([record], tmp_path / "page.html")
    assert "theta_C is right on 30.0 % of cue as saved" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_both_ends_and_names_of_the_other(tmp_path: Path):
    cell = {"models": {"FT-S": model(SHORTCUT)}, "paths": {"theta_C to FT-S": shifted(0.0, {"B": {"no_cue": 0.1}})}}
    section = make_section(run_record("fig5", {("digits", 0.8, None, 0): cell}))
    (said,) = section.shifts
    assert said.endswith("FT-S is right on 10.0 % of no_cue as saved, and on 80.0 % on this path.")
    table = next(iter(tabulate_barriers(run_record("fig5", {("digits", 0.8, None, 0): cell})).values()))
    assert {split: value.shifted for split, value in table["theta_C to FT-S"].items()} == {
        "no_cue": True, "cue": False, "rand_cue": False, "rand_image": False
    }  # fmt: skip
    assert (
        words_of(run_record("fig5", {("digits", 0.8, None, 0): cell}), tmp_path).count("FT-S is right on 10.0 %") == 1
    )
