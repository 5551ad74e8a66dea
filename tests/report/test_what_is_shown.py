"""Verdicts, intervals and notes reach pages, tables and rows; kinds of results are defined once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.cli import main
from mechconn.cli._run_command import summarise_record
from mechconn.paper import RunStore
from mechconn.plotting import Cell, ResultFigure, Table, print_table
from page import Page
from run_records import quickstart_record
from zoo import build, mlp, norm_mlp, rows

DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "no_cue": rows(24, 2), "rand_cue": (DATA[0].flip(1), DATA[1])}, reference="cue")
A, B = (build(norm_mlp, seed).eval() for seed in range(2))
NORM = mc.Reestimate(DATA)


def words_of(result: mc.Result, folder: Path) -> str:
    mc.save_report(result, folder / "page.html")
    return " ".join(Page((folder / "page.html").read_text(encoding="utf-8")).text.split())


def test_a_page_has_the_notes_of_a_comparison_and_the_papers_verdict(tmp_path: Path) -> None:
    metrics = {"largest": lambda outputs, targets: outputs.max(1).values}
    found = mc.compare_mechanisms(A, B, SUITE, metrics=metrics)
    (note,) = found.a.notes
    found = replace(found, b=replace(found.b, notes=(note, "something of B's own")), same_invariances="similar")
    assert found.verdict != "similar" and list(found.findings) == [
        "by the paper's definition, equal sets of invariances, the mechanisms are similar", note,
        "B: something of B's own",
    ]  # fmt: skip
    shown = words_of(found, tmp_path)
    assert all(finding in shown and f"  note: {finding}" in str(found) for finding in found.findings)
    assert "devicecpu" in shown, "how it was computed"


def test_the_rows_of_a_comparison_end_with_differences() -> None:
    y = torch.arange(200) % 2
    right, wrong = torch.eye(2)[y].double(), torch.eye(2)[1 - y].double()
    constant = cast(nn.Linear, build(lambda: nn.Linear(2, 2))).requires_grad_(False)
    nn.init.zeros_(constant.weight)
    suite = mc.Suite({"cue": (right, y), "rand_cue": (wrong, y)})
    found = mc.compare_mechanisms(nn.Identity(), constant, suite)
    *of_a, reference, row = found.rows()
    assert (row["model"], row["split"]) == ("B", "rand_cue")
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (
        found.differences["rand_cue"].effect, *found.differences["rand_cue"].interval,
    ) and row["difference"] == 1.0  # fmt: skip
    assert (row["less"], row["less_low"]) == (found.less["rand_cue"].amount, found.less["rand_cue"].interval[0])
    assert all(other["difference"] is None and other["less"] is None for other in (*of_a, reference))


def test_a_page_has_the_verdict_on_a_path_its_shifted_ends_and_what_is_not_finite(tmp_path: Path) -> None:
    found = mc.evaluate_path(A, mc.LinearPath.between(A, B), SUITE, 3, norm=NORM, keep_samples=True)
    verdict, *rest = found.findings
    assert verdict.startswith(f"Over cue, rand_cue the path is {found.judge().verdict} (tolerance 0.05 nats)")
    assert bool(found.shifted_ends()) == ("Its ends are not the networks as saved" in verdict) and not rest
    broken = replace(found, loss={**found.loss, "cue": (1.0, math.inf, 1.0)})
    assert broken.findings[0].startswith("Over cue, rand_cue the path is not connected")
    assert broken.findings[1:] == ("The loss on cue is inf at t = 0.5.",)
    assert all(finding in words_of(broken, tmp_path) for finding in broken.findings)


def test_lines_before_and_after_alignment_are_shown_where_a_loss_is_not_finite(tmp_path: Path) -> None:
    pair = (build(norm_mlp, 2).eval(), build(norm_mlp, 3).eval())
    found = mc.evaluate_alignment(A, B, mc.ActivationMatching(DATA), SUITE, 3, norm=NORM, null=pair)
    lines = {which: replace(line, loss={**line.loss, "cue": (1.0, math.inf, 1.0)}) for which, line in found.items()}
    broken = replace(found, profiles=lines)
    assert "barrier in loss, before: cue not finite" in str(broken) and "cue not finite" in repr(broken)
    shown = words_of(broken, tmp_path)
    for part in ("Before: Over cue", "After: Over cue", "Null before: Over cue", "Null pair: Alignment", "not finite"):
        assert part in shown
    assert f"{100 * found.alignment.coverage:.1f} % of the hidden axes" in shown


def test_effects_on_every_measure_are_shown(tmp_path: Path) -> None:
    metrics = {"largest": mc.Metric(lambda outputs, targets: outputs.softmax(1).max(1).values, (0.0, 1.0))}
    found = mc.measure_invariance(A, SUITE, metrics=metrics)
    reference, _, row = found.rows()
    for on in ("accuracy", "loss", "largest"):
        change = found["rand_cue"].effect_on(on)
        assert change and change.interval
        low, high = change.interval
        shown = tuple(row[f"{on}_effect{end}"] for end in ("", "_low", "_high"))
        assert shown == (change.effect, low, high) and reference[f"{on}_effect"] is None
    assert f"effect {change.effect:+.4g} ({low:+.4g} to {high:+.4g})" in words_of(found, tmp_path)


def test_groups_show_every_interval(tmp_path: Path) -> None:
    metrics = {"largest": mc.Metric(lambda outputs, targets: outputs.softmax(1).max(1).values, (0.0, 1.0))}
    found = mc.measure_groups(A, DATA, [0, 1, 2] * 8, train_groups=[0, 1, 2, 2] * 6, metrics=metrics)
    first, shown = found["0"], words_of(found, tmp_path)
    mean, interval = first.metrics["largest"]
    row = found.rows()[0]
    assert interval and (row["largest"], row["largest_low"], row["largest_high"]) == (mean, *interval)
    low, high = first.simultaneous
    assert f"{100 * low:.1f} to {100 * high:.1f}" in shown
    for value, bounds in (
        (found[found.worst].accuracy, found.worst_interval),
        (found.mean, found.mean_interval),
        (found.reweighted, found.reweighted_interval),
    ):
        assert bounds and f"{value:.3f} ({bounds[0]:.3f} ... {bounds[1]:.3f})" in shown


def test_a_comparison_of_methods_over_seeds_shows_the_verdict_on_every_run(tmp_path: Path) -> None:
    tasks = [mc.TuningTask(A, clean=rows(24, seed), suite=SUITE, seed=seed) for seed in (0, 1)]
    found = mc.compare_methods(tasks, {"FT": mc.NaiveFineTuning(epochs=1, batch_size=12)})
    effects, runs = found.sections()[1], found.sections()[-1]
    assert "mean over 2 seeds, with its 95 % interval (Student's t over seeds)" in effects.text
    assert "with 95 % intervals over samples" not in effects.text and "over samples" in runs.text
    (table,) = runs.tables
    assert [cell.text for cell in table.headings] == ["method", "seed", "seconds", "no_cue", "rand_cue"]
    for run, cells in zip(found.runs, table.cells, strict=True):
        assert [cell.text for cell in cells[3:]] == [effect.verdict for effect in run.invariance.values()]
    assert found.header().title == "1 fine-tuning method, 2 seeds"
    assert str(table.cells[0][4]) in str(print_table(table)) and "verdicts are on single runs" in words_of(
        found, tmp_path
    )


def test_a_map_says_where_its_statistics_come_from_and_what_was_aligned(tmp_path: Path) -> None:
    found = mc.mechanism_map({"$a$^^{": A, "b": B}, SUITE, ts=3, norm=NORM)
    assert "No symmetry was removed. Normalisation statistics: reestimate, from" in words_of(found, tmp_path)
    assert "One model of each pair was moved onto the other." in words_of(replace(found, aligned=True), tmp_path)


def test_layers_have_their_widths_and_rows(tmp_path: Path) -> None:
    found = mc.representation_similarity(A, B, DATA)
    layer, (a, b) = next(iter(found.widths.items()))
    shown = words_of(found, tmp_path)
    assert layer in shown and f"{a} and {b} units" in shown and "Over 24 rows" in shown
    assert f"{found.unbiased[layer]:.3f}" in shown
    found = mc.representation_similarity(A, B, DATA, measure="mutual_neighbours", k=2)
    shown = words_of(found, tmp_path)
    assert f"{found[layer]:.3f}" in shown and "chance 0.087" in shown and "No interval" in shown


def test_an_invariance_names_what_is_not_settled_and_what_says_nothing(tmp_path: Path) -> None:
    constant = cast(nn.Linear, build(lambda: nn.Linear(4, 3))).requires_grad_(False)
    nn.init.zeros_(constant.weight)
    many = rows(400)
    suite = mc.Suite({"cue": many, "rand_cue": rows(24, 2), "rand_image": many})
    found = mc.measure_invariance(constant, suite)
    title = found.header().title
    assert title == "The model is invariant to rand_image; may or may not be invariant to rand_cue"
    shown = words_of(found, tmp_path)
    assert found.uninformative and f"that says nothing about what it uses: {found.uninformative}." in shown
    none = mc.measure_invariance(constant, mc.Suite({"cue": DATA, "no_cue": DATA}, interventions=()))
    assert none.header().title == "The suite has no interventions"


def test_a_cell_in_a_line() -> None:
    table = Table(("name", "number"), (("first", Cell("0.5", "0.4 to 0.6\n24 rows")), ("second", "1")))
    assert print_table(table) == ["  name    number", "  first   0.5 (0.4 to 0.6; 24 rows)", "  second  1"]


# ---------------------------------------------------------------- what is defined twice, what is no result


@pytest.fixture
def kinds() -> Iterator[None]:
    known, figures = dict(mc.Result.kinds), dict(ResultFigure.registered)
    yield
    for registry, before in ((mc.Result.kinds, known), (ResultFigure.registered, figures)):
        registry.clear()
        registry |= before  # pyright: ignore[reportOperatorIssue]


def define(kind: str, name: str = "Found", module: str = __name__) -> type[mc.Result]:
    own = {"__module__": module, "__qualname__": name, "rows": lambda self: [], "sections": lambda self: []}
    return dataclass(frozen=True, repr=False)(type(name, (mc.Result,), own, kind=kind))  # pyright: ignore


@pytest.mark.usefixtures("kinds")
def test_a_kind_of_result_has_one_class() -> None:
    with pytest.raises(ValueError, match=r"^the kind of result 'profile' is defined twice, as mechconn\.conn.*"):
        define("profile")
    assert mc.Result.kinds["profile"] is mc.Profile
    first, again = define("mine"), define("mine")  # as when a notebook's cell runs twice
    assert mc.Result.kinds["mine"] is again is not first
    with pytest.raises(ValueError, match=r"give one of them another kind$"):
        define("mine", "Other")
    assert define("others", "Other").kind == "others"


@pytest.mark.usefixtures("kinds")
def test_figures_of_one_name_in_two_modules_are_both_shown() -> None:
    from mechconn.plotting import make_figure

    for module in ("one", "two"):
        own = {
            "__module__": module, "of": mc.Invariance, "title": f"Bars of {module}",
            "draw": lambda self, result: make_figure(1.0, 1.0), "describe": lambda self, result: "empty",
        }  # fmt: skip
        type("Bars", (ResultFigure,), own)
    shown = mc.measure_invariance(build(mlp), SUITE)._repr_html_()
    assert "Bars of one" in shown and "Bars of two" in shown


def test_the_numbers_of_a_run_say_how_its_page_is_drawn_and_its_record_draws_it(tmp_path: Path) -> None:
    record = quickstart_record()
    (tmp_path / "printed.json").write_text(json.dumps(summarise_record(record)), "utf-8")
    with pytest.raises(ValueError, match=rf"not its record; draw its page by mechconn report {record.id}$"):
        mc.save_report(tmp_path / "printed.json", tmp_path / "printed.html")
    store = RunStore(tmp_path / "store")
    store.save(record)
    (kept,) = (tmp_path / "store" / "runs").rglob("*.json")
    mc.save_report(kept, tmp_path / "kept.html")
    mc.save_report(record, tmp_path / "live.html")
    assert (tmp_path / "kept.html").read_bytes() == (tmp_path / "live.html").read_bytes()
    assert main_status("report", record.id, "--store", str(tmp_path / "store"), "-o", str(tmp_path / "r.html")) == 0


def main_status(*words: str) -> object:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code


def test_a_changed_copy_of_a_profile_that_was_read_keeps_no_barrier_of_before() -> None:
    path = mc.LinearPath.between(A, B)
    read = cast(mc.Profile, mc.load_result(mc.evaluate_path(A, path, SUITE, 3, norm=NORM, keep_samples=True).to_dict()))
    assert read.barrier("cue").interval is not None
    tent = replace(read, loss=dict.fromkeys(read.loss, (1.0, 2.0, 1.0)))
    assert tent.barrier("cue") == mc.Barrier(1.0, 0.5, 0.5)
    assert tent.connection("cue", 0.05).by == "nothing"  # its samples are not known
