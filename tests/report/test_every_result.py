"""Every result is saved, read back, printed, tabulated, drawn and shown as a page, and the copy is as the original."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import mechconn as mc
from mechconn.core import Record
from mechconn.paper import (
    AdditionPair,
    ArithmeticResult,
    ContributorsCell,
    DistillationResult,
    DistillationSummary,
    Numbers,
    PoisonsCell,
    ReluResult,
    StarCell,
    StarSummary,
    compare_runs,
    summarise_arithmetic,
    summarise_clockpizza,
    summarise_contributors,
    summarise_poisons,
    summarise_transplants,
)
from page import Page
from run_records import fig4_record, fig13_record, quickstart_record, table1_record
from theory.nets import readers
from transplant_records import transplant_results
from zoo import build, mlp, norm_mlp, rows

DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "no_cue": rows(24, 2), "rand_cue": (DATA[0].flip(1), DATA[1])}, reference="cue")
NORM = mc.Reestimate(DATA, label="the training data")
METRICS = {"largest": mc.Metric(lambda z, y: z.softmax(1).max(1).values, (0.0, 1.0))}
A, B, C = (build(norm_mlp, seed).eval() for seed in range(3))
NORMED = build(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), 0).eval()
NARROW = build(lambda: nn.Linear(2, 2), 3)
LINE = mc.LinearPath.between(A, B)
QUICK = mc.Relearning(steps=(0, 2, 5), seeds=2, batch_size=8, lr=0.1)


FACTS = {"loss": 0.0, "loss_on_data": 0.1, "effects": [0.0, 1.0], "steps": 7, "interpolates": True}
PAIR = {
    "barrier_before": 2.0, "barrier_after": 1.0, "pattern_agreement": 0.9, "agreement_before": 0.5,
    "matched_by": "weights", "loss_before": [0.0, 2.0, 0.0], "loss_after": [0.0, 1.0, 0.0],
}  # fmt: skip
RELU_CELL = {"seed": 0, "width": 16, "networks": {"one": FACTS, "two": FACTS}, "pairs": {"one_two": PAIR}}


def tuned() -> mc.MethodComparison:
    tasks = [mc.TuningTask(A, clean=rows(24, seed), suite=SUITE, cued=rows(24, 9), seed=seed) for seed in (0, 1)]
    return mc.compare_methods(tasks, {"FT": mc.NaiveFineTuning(epochs=2, batch_size=12, lr=0.1)})


def relearned() -> mc.Result:
    """Two training runs against a control, and a network beside them."""
    protocol = mc.Relearning(steps=(0, 2, 5), seeds=2, batch_size=8, lr=0.1)
    return mc.measure_relearning(
        [A, B], protocol, rows(24, 5), SUITE, split="no_cue", control=C, others={"<other>": build(norm_mlp, 3)}
    )


def transplanted() -> mc.Transplant:
    change = mc.weight_change(A, B)
    return mc.transplant(change, A, C, mc.WeightMatching(), mc.symmetry_of(A, DATA[0]), norm=NORM)


def judged_transplant() -> mc.Result:
    relearn = mc.RelearningTask(rows(24, 5), "no_cue", build(norm_mlp, 3), relearning=QUICK)
    return mc.judge_transplant(transplanted(), C, SUITE, tuned=B, norm=NORM, relearn=relearn)


def arithmetic_cell(seed: int = 0) -> ArithmeticResult:
    """A cell of the recipe from networks of no training, whose splits have the recipe's names."""
    suite = mc.Suite({"cue": DATA, "no_cue": rows(24, 2), "rand_image": rows(24, 3)}, reference="cue")
    found = mc.search_scale(
        A,
        mc.weight_change(A, B),
        suite,
        lower="rand_image",
        keep=("no_cue", 0.1),
        scales=(0.5, 1.0),
        norm=NORM,
        draws=1,
    )
    return ArithmeticResult("<digits>", 0.8, seed, {"plus clean": found}, {"theta_C": cast(mc.Relearned, relearned())})


@cache
def transferred() -> mc.Transfer:
    """One effect of the teacher's that comes over in part, and one that the teacher does not have."""
    y = torch.arange(60) % 2
    eye, mixed = torch.eye(2), torch.where(y * torch.arange(60) % 3 == 1, 1 - y, y)
    suite = mc.Suite({"cue": (eye[y], y), "<rand_cue>": (eye[1 - y], y), "hue": (eye[mixed], y), "shade": (eye[y], y)})
    return mc.measure_transfer(nn.Identity(), NARROW, suite, least=0.25)


def distillation_cell(seed: int = 0) -> DistillationResult:
    """A cell of the recipe from networks of no training."""
    found = transferred()
    students: Any = {"clean": {"labels alone": found, "<KD>": found, "KD of theta_NC": found}}
    return DistillationResult("<digits>", 0.8, seed, {"theta_C": found.teacher, "theta_NC": found.student}, students)


def star() -> mc.FittedStar:
    return mc.fit_star(A, {"<a>": B, "b": C}, mc.StarFit(epochs=2, batch_size=12, lr=0.01), DATA, norm=NORM)


def star_barriers() -> mc.StarBarriers:
    runs = {f"<{seed}>": build(norm_mlp, seed).eval() for seed in (3, 4, 5)}
    return star().barriers(runs, SUITE, sources=[B], ts=3, norm=NORM)


def star_cell() -> StarCell:
    found = star_barriers()
    runs = {name: mc.measure_invariance(model, SUITE) for name, model in {"run": A, "star, realigned": B}.items()}
    runs["star, as they are"] = runs["star, realigned"]
    return StarCell("<digits>", 0.8, 0, 4, {"realigned": found, "as they are": found}, runs)


def addition_pairs() -> list[AdditionPair]:
    """Made up by hand: two pairs of each kind that is judged, of two seeds."""
    measures = {"gradient_symmetricity": 0.9, "distance_irrelevance": None, "circularity": 0.5}
    facts = {"accuracy": 1.0, "held_out": 0.75, "loss": 0.1, "measures": measures}
    line = {"ts": [0.0, 0.5, 1.0], "loss": [0.1, 2.0, 0.1], "accuracy": [1.0, 0.25, 1.0], "distance": 3.0}
    kinds = {"pizza and clock": ("pizza", "clock"), "two pizzas": ("pizza",) * 2, "two clocks": ("clock",) * 2}
    return [
        AdditionPair.from_dict(
            {
                "pair": pair, "seeds": seeds, "names": [f"{names[end]} {seed}" for end, seed in enumerate(seeds)],
                "networks": [facts, facts], "lines": {"as saved": line, "weights": line}, "tolerance": 0.05,
            }
        )
        for pair, names in kinds.items()
        for seeds in ((0, 1), (1, 0))
    ]  # fmt: skip


def several_cues() -> mc.Invariance:
    """Effects on the splits of two cues."""
    judged = tuple(f"{kind} {cue}" for cue in ("<a>", "b") for kind in ("agreeing", "random"))
    names = ("no_cue", *judged, "<a> alone", "b alone")
    splits = {name: rows(24, seed) for seed, name in enumerate(names)}
    return mc.measure_invariance(A, mc.Suite(splits, reference="no_cue", interventions=judged))


def poisons_cell(seed: int = 0) -> PoisonsCell:
    found = several_cues().to_dict()
    networks = {name: {"against": own, "found": found} for name, own in (("theta_C", []), ("CBFT against b", ["b"]))}
    return PoisonsCell.from_dict(
        {"dataset": "<digits>", "proportion": 0.9, "seed": seed, "cues": ["<a>", "b"], "networks": networks}
    )


def contributors_cell(seed: int = 0) -> ContributorsCell:
    found = several_cues().to_dict()
    fusion = {"rounds": [found, found], "contributors": {"contributor 0": found, "contributor 1": found}}
    arms = dict.fromkeys(("different cues", "one cue", "alone", "no cue"), fusion)
    return ContributorsCell.from_dict(
        {"dataset": "<digits>", "proportion": 0.9, "seed": seed, "cues": ["<a>", "b"], "arms": arms}
    )


def shown_by_theory() -> mc.Result:
    from mechconn.theory import check_theorem_1

    return check_theorem_1(*readers((0, 1), 4))


MAKERS: dict[str, Callable[[], mc.Result]] = {
    "profile": lambda: mc.evaluate_path(A, LINE, SUITE, 5, norm=NORM, metrics=METRICS, keep_samples=True),
    "input_profiles": lambda: mc.evaluate_input_path(
        A,
        DATA[0][:12],
        DATA[0][12:],
        DATA[1][:12],
        1,
        ts=5,
        bend=mc.InputBend(steps=3, lr=0.1),
        groups=["<one>", "two"] * 6,
    ),
    "disagreement": lambda: mc.seek_disagreement(
        A, DATA, rows(3, 7), mc.DisagreementSearch(steps=4, lr=0.05, check_every=2)
    ),
    "settled_path": lambda: mc.settle_path(A, LINE, SUITE, 5, norm=NORM, tolerance=0.2),
    "block_profiles": lambda: mc.evaluate_blocks(
        A, A, B, SUITE, 1, ts=3, norm=NORM, keep_samples=True, control="random", draws=2
    ),
    "plane": lambda: mc.evaluate_plane(A, A, B, C, SUITE, 3, norm=NORM, metrics=METRICS),
    "aligned_profiles": lambda: mc.evaluate_alignment(A, B, mc.ActivationMatching(DATA), SUITE, 3, norm=NORM),
    "many_alignments": lambda: mc.align_many(
        {"one": A, "two": B, "<three>": C}, mc.UniverseMatching(), mc.symmetry_of(A, DATA[0])
    ),
    "alignment": lambda: mc.align(A, B, mc.ActivationMatching(DATA)),
    "symmetry": lambda: mc.symmetry_of(A, DATA[0]),
    "balanced": lambda: mc.balance(A, mc.symmetry_of(A, DATA[0])),
    "folded": lambda: mc.fold(NORMED, torch.ones(2, 3)),
    "invariance": lambda: mc.measure_invariance(A, SUITE, metrics=METRICS),
    "reliances": lambda: mc.reliances(
        A, DATA, {"<noise>": {"name": "swap-column", "columns": 0}, "none": lambda x, draws: x.clone()}, metrics=METRICS
    ),
    "dose_response": lambda: mc.measure_dose_response(
        A, DATA, {"name": "swap-column", "columns": 0}, 3, metrics=METRICS
    ),
    "comparison": lambda: mc.compare_mechanisms(A, B, SUITE, metrics=METRICS),
    "transfer": lambda: transferred(),
    "output_discrepancy": lambda: mc.output_discrepancy(A, B, SUITE),
    "group_accuracies": lambda: mc.measure_groups(A, DATA, [0, 1, 2] * 8, train_groups=[0, 1, 2, 2] * 6),
    "mechanism_map": lambda: mc.mechanism_map({"a": A, "b": B, "c": C}, SUITE, ts=3, norm=NORM),
    "merged": lambda: mc.merge(
        {"<a>": A, "b": B}, mc.Mean(), SUITE, norm=NORM, align=mc.UniverseMatching(), metrics=METRICS
    ),
    "transplant": transplanted,
    "judged_transplant": judged_transplant,
    "scale_search": lambda: mc.search_scale(
        A,
        mc.weight_change(A, B),
        SUITE,
        lower="rand_cue",
        keep=("no_cue", 0.5),
        scales=(0.5, 1.0),
        norm=NORM,
        metrics=METRICS,
        draws=1,
    ),
    "sparsest_edit": lambda: mc.sparsest_edit(
        A,
        rows(12, 8),
        rows(12, 9),
        SUITE,
        mc.SetDifference((0.3, 0.6), (0.1,)),
        lower="rand_cue",
        keep=("no_cue", 0.1),
        norm=NORM,
        floor=0.0,
        margin=0.01,
        draws=1,
    ),
    "arithmetic_cell": lambda: arithmetic_cell(),
    "arithmetic": lambda: summarise_arithmetic([arithmetic_cell(), arithmetic_cell(1)]),
    "representation_similarity": lambda: mc.representation_similarity(A, B, DATA, layers_b="all", permutations=3),
    "distillation_cell": lambda: distillation_cell(),
    "distillation": lambda: DistillationSummary((distillation_cell(), distillation_cell(1))),
    "probe": lambda: mc.probe(A, rows(40), control={"<other>": B}, cluster=[n // 2 for n in range(40)], seed=1),
    "neighbours": lambda: mc.measure_neighbours(A, DATA, {"label": "label", "group": [0, 1, 2] * 8}, k=3),
    "routed": lambda: mc.route({"<a>": A, "b": B}, SUITE, source=DATA, clusters=3),
    "relearning": relearned,
    "method_comparison": tuned,
    "audit": lambda: mc.audit(
        A,
        B,
        SUITE,
        norm=NORM,
        ts=3,
        blocks=1,
        layers="all",
        names=("one", "<two>"),
        relearn=mc.RelearningTask(rows(24, 5), "no_cue", C, relearning=QUICK),
        probe=mc.ProbeTask(rows(40)),
        groups=mc.GroupTask({"place": ["<land>", "sea", "sea"] * 8}, train_groups={"place": ["<land>", "sea"]}),
        metrics=METRICS,
    ),
    "trained": lambda: mc.train(A, DATA, mc.Training(epochs=2, batch_size=12, milestones=()), validation=rows(9, 4)),
    "fitted_path": lambda: mc.fit_path(A, A, B, mc.BezierFit(epochs=2), DATA, label="some rows"),
    "fitted_star": lambda: star(),
    "star_barriers": star_barriers,
    "evidence": shown_by_theory,
    # A run takes minutes: these are records of runs that were made up by hand, and their parts.
    "run": table1_record,
    "run_differences": lambda: compare_runs(quickstart_record(), quickstart_record(id="another", scale="paper")),
    "cue_cell": lambda: fig4_record().cue_results[0],
    "fig13": lambda: cast(mc.Result, fig13_record().summary),
    "relu_cell": lambda: ReluResult.from_dict(RELU_CELL),
    "transplant_cell": lambda: transplant_results()[0],
    "transplant_run": lambda: summarise_transplants(transplant_results(), 0.5),
    "star": lambda: StarSummary((star_cell(),)),
    "star_cell": lambda: star_cell(),
    "clockpizza_pair": lambda: addition_pairs()[0],
    "clockpizza": lambda: summarise_clockpizza(addition_pairs()),
    "poisons_cell": poisons_cell,
    "poisons": lambda: summarise_poisons([poisons_cell(), poisons_cell(1)]),
    "contributors_cell": contributors_cell,
    "contributors": lambda: summarise_contributors([contributors_cell(), contributors_cell(1)]),
    "numbers": lambda: Numbers({"share": 0.5, "by split": {"cue": 1, "rand_cue": None}}),
}
"""Kind -> a result of it, made by its public verb."""
WITHOUT_PICTURE = {"evidence", "folded", "run_differences", "relu_cell", "transplant_cell", "numbers"}
each_kind = pytest.mark.parametrize("kind", MAKERS)


@cache
def made(kind: str) -> mc.Result:
    return MAKERS[kind]()


def saved(kind: str, folder: Path) -> Path:
    file = folder / f"{kind}.json"
    made(kind).save(file)
    return file


def page_of(result: Any, folder: Path) -> bytes:
    mc.save_report(result, folder / "page.html")
    return (folder / "page.html").read_bytes()


@cache
def live_page(kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        return page_of(made(kind), Path(folder))


def only(number: float | str | None) -> bool:
    return number is None or isinstance(number, str | int | float)


def one_line(act: Callable[[], object], *kinds: type[Exception]) -> str:
    with pytest.raises(kinds or ValueError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_of_result_has_a_row() -> None:
    ours = {kind for kind, found in mc.Result.kinds.items() if found.__module__.startswith("mechconn.")}
    assert ours == set(MAKERS)


@each_kind
def test_a_saved_result_is_read_back(kind: str, tmp_path: Path) -> None:
    found = made(kind)
    loaded = mc.load_result(saved(kind, tmp_path))
    assert type(loaded) is type(found) and loaded.kind == kind
    assert loaded.to_dict() == found.to_dict() and str(loaded) == str(found) and loaded.rows() == found.rows()
    assert loaded == mc.load_result(loaded.to_dict()) or type(found).__eq__ is object.__eq__
    assert loaded == found or type(found).__eq__ is object.__eq__
    assert list(tmp_path.iterdir()) == [tmp_path / f"{kind}.json"]


@each_kind
def test_plain_values_are_strict_json_that_say_what_they_are(kind: str, tmp_path: Path) -> None:
    plain = made(kind).to_dict()
    assert (plain["schema_version"], plain["kind"]) == (3, kind)
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text) == plain == json.loads(made(kind).to_json())
    assert json.loads(saved(kind, tmp_path).read_text(encoding="utf-8")) == plain


@each_kind
def test_it_prints_in_a_few_lines(kind: str) -> None:
    found = made(kind)
    assert str(found) and "tensor(" not in str(found) and " object at 0x" not in str(found)
    short = repr(found).splitlines()
    assert 1 <= len(short) <= 12 and short[0].startswith(f"{type(found).__name__}: ")
    assert max(map(len, short)) <= 160


@each_kind
def test_rows_are_flat_records_of_equal_keys(kind: str) -> None:
    rows = made(kind).rows()
    assert rows and all(list(row) == list(rows[0]) for row in rows)
    assert all(isinstance(name, str) and only(value) for row in rows for name, value in row.items())


@each_kind
def test_notebooks_show_its_tables(kind: str) -> None:
    found = made(kind)
    text = found._repr_html_()
    shown = Page(text)
    assert not shown.open
    assert found.tables() and all(table.rows for table in found.tables())
    words = " ".join(shown.text.split())
    for table in found.tables():
        for cell in (*table.headings, *(cell for row in table.cells for cell in row)):
            for part in (cell.text, *cell.small.splitlines()):
                assert " ".join(part.split()) in words
    pictures = [attrs for tag, attrs in shown.tags if tag == "svg"]
    assert bool(pictures) == (kind not in WITHOUT_PICTURE)
    assert all(attrs["aria-label"] for attrs in pictures)


@each_kind
def test_it_draws_a_figure_that_shows_itself_and_draws_into_a_panel(kind: str) -> None:
    if kind in WITHOUT_PICTURE:
        assert "has no picture; print it, or take its rows()" in one_line(made(kind).plot)
        return
    found = made(kind).plot()
    assert isinstance(found, Figure) and found.axes
    assert cast(Any, found)._repr_png_().startswith(b"\x89PNG")
    around = Figure()
    left, right = around.subplots(1, 2)
    assert made(kind).plot(ax=left) is around
    assert left.has_data() and not right.has_data()


@each_kind
def test_pandas_gets_the_rows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(kind)  # before: scikit-learn looks for pandas too
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert one_line(found.to_frame, ImportError) == (
        "to_frame needs the package pandas, which is not installed; pip install 'mechconn[pandas]'"
    )
    pandas = ModuleType("pandas")
    vars(pandas)["DataFrame"] = lambda rows: ("a frame", rows)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert found.to_frame() == ("a frame", found.rows())


@each_kind
def test_the_page_of_a_loaded_result_is_that_of_the_live_one(kind: str, tmp_path: Path) -> None:
    file, live = saved(kind, tmp_path), live_page(kind)
    assert not Page(live.decode()).open
    assert live == page_of(mc.load_result(file), tmp_path)
    assert live == page_of(made(kind).to_dict(), tmp_path)
    assert live == page_of(file, tmp_path)


@each_kind
def test_the_page_holds_the_tables_and_what_was_found(kind: str) -> None:
    found, shown = made(kind), Page(live_page(kind).decode())
    words = " ".join(shown.text.split())
    cells = [cell for table in found.tables() for row in table.cells for cell in row]
    for part in (found.header().title, *found.findings, *(cell.text for cell in cells)):
        assert " ".join(part.split()) in words


@each_kind
def test_pages_depend_neither_on_the_order_of_fields_nor_on_addresses(kind: str, tmp_path: Path) -> None:
    assert live_page(kind) == page_of(dict(reversed(made(kind).to_dict().items())), tmp_path)
    assert not re.search(rb"0x[0-9a-f]{8}", live_page(kind))


# ---------------------------------------------------------------- what is not finite, and profiles


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    profile, plane = cast(mc.Profile, made("profile")), cast(mc.Plane, made("plane"))
    bad = {**profile.loss, "cue": (1.0, math.inf, math.nan, -math.inf, 2.0)}
    for broken in (
        replace(profile, loss=bad),
        replace(plane, loss={**plane.loss, "cue": ((math.nan, math.inf, -math.inf),) * 3}),
        replace(cast(mc.Trained, made("trained")), history=({"epoch": 0, "lr": 0.1, "loss": math.inf},)),
    ):
        broken.save(tmp_path / "broken.json")
        loaded = cast(Any, mc.load_result(tmp_path / "broken.json"))
        assert loaded.to_dict() == broken.to_dict() and str(loaded) == str(broken)
        assert page_of(loaded, tmp_path) == page_of(broken, tmp_path)
        text = (tmp_path / "broken.json").read_text(encoding="utf-8")
        assert '"Infinity"' in text and not re.search(r"[^\"-]\b(NaN|Infinity)\b", text)
    values = cast(mc.Profile, mc.load_result(replace(profile, loss=bad).to_dict())).loss["cue"]
    assert values[1] == math.inf and math.isnan(values[2]) and values[3] == -math.inf
    assert cast(mc.Profile, mc.load_result(replace(profile, loss=bad).to_dict())).not_finite[0].t == 0.25


def test_a_loaded_profile_gives_the_same_barriers_intervals_and_verdicts(tmp_path: Path) -> None:
    found = cast(mc.Profile, made("profile"))
    loaded = cast(mc.Profile, mc.load_result(saved("profile", tmp_path)))
    assert not loaded.per_sample and loaded.samples_kept
    for on in ("loss", "accuracy", "largest"):
        for split in SUITE:
            assert loaded.barrier(split, on) == found.barrier(split, on) and loaded.barrier(split, on).interval
            for tolerance in (0.0, 0.05, 10.0):
                assert loaded.connection(split, tolerance, on) == found.connection(split, tolerance, on)
    for tolerance in (0.0, 0.05, 10.0):
        assert loaded.judge(tolerance) == found.judge(tolerance)
        assert loaded.mechanistic_connection(tolerance) == found.mechanistic_connection(tolerance)
    assert loaded.shifted_ends() == found.shifted_ends()
    again = cast(mc.Profile, mc.load_result(loaded.to_dict()))
    assert again.barrier("cue") == found.barrier("cue") and again.judge() == found.judge()


def test_a_loaded_profile_refuses_other_confidences_and_both_remedies_work(tmp_path: Path) -> None:
    loaded = cast(mc.Profile, mc.load_result(saved("profile", tmp_path)))
    said = one_line(lambda: loaded.barrier("cue", confidence=0.9))
    assert said == (
        "this profile was read from a file, which holds intervals at 95 % alone, got confidence=0.9; "
        "evaluate the path again with keep_samples=True, or leave confidence out"
    )
    assert one_line(lambda: loaded.connection("cue", 0.05, confidence=0.9)) == said
    again = cast(mc.Profile, MAKERS["profile"]()).barrier("cue", confidence=0.9).interval
    wider = loaded.barrier("cue").interval
    assert again is not None and wider is not None and again[1] < wider[1]


def test_a_profile_without_samples_is_judged_by_heights_when_loaded_too() -> None:
    plain = [build(mlp, seed) for seed in (1, 2)]
    found = mc.evaluate_path(plain[0], mc.LinearPath.between(*plain), SUITE, 3)
    loaded = cast(mc.Profile, mc.load_result(found.to_dict()))
    assert loaded == found and not loaded.samples_kept
    assert loaded.connection("cue", 10.0).by == "point value" == found.connection("cue", 10.0).by
    assert loaded.barrier("cue", confidence=0.9) == found.barrier("cue")
    for each in (found, loaded):
        assert "confidence must lie between 0 and 1" in one_line(lambda own=each: own.barrier("cue", confidence=2.0))


# ---------------------------------------------------------------- what is no result


def edited(**changes: Any) -> dict[str, Any]:
    return {**made("output_discrepancy").to_dict(), **changes}


def without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in edited().items() if key not in names}


WRONG: dict[str, tuple[str | Callable[[], Any], str]] = {
    "no JSON": ("{", "is no JSON (Expecting property name"),
    "a list": (
        "[1, 2]",
        "holds no result but a list; name a file that result.save(file), or --json of audit, reliances,",
    ),
    "no kind": (lambda: without("kind"), "names no kind of result; pass what to_dict() gave or save() wrote"),
    "unknown kind": (lambda: edited(kind="audt"), "got 'audt'; did you mean 'audit'?"),
    "a kind that is no text": (lambda: edited(kind=3), "names no kind of result"),
    "newer": (
        lambda: edited(schema_version=4),
        "this output_discrepancy has schema version 4, and this mechconn reads up to 3; install a newer mechconn",
    ),
    "newer, of an unknown kind": (
        lambda: edited(kind="atlas", schema_version=4),
        "this atlas has schema version 4, and this mechconn reads up to 3",
    ),
    "no version": (lambda: edited(schema_version="3"), "schema_version must be a whole number of 1 or more, got '3'"),
    "older": (
        lambda: edited(schema_version=2),
        "this output_discrepancy was written by mechconn 0.1.0 and lacks what this version holds; compute it anew",
    ),
    "a demo": (
        lambda: edited(kind="demo", schema_version=2),
        "mechconn 0.1.0 wrote this demo, a kind that this version does not read; run mechconn demo again, or read it "
        "with mechconn 0.1.0",
    ),
    "a field is missing": (lambda: without("mean"), "no output_discrepancy: mean: Field required"),
    "an unknown key": (lambda: edited(men=1.0), "no output_discrepancy: men: Unexpected keyword argument, got '1.0'"),
    "a wrong type": (
        lambda: edited(mean="much", similarity="none"),
        "mean: Input should be a valid number, unable to parse string as a number, got 'much' (and 1 more); pass what",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_result_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, expected = WRONG[case]
    file = tmp_path / "found.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content()), encoding="utf-8")
    said = one_line(lambda: mc.load_result(file))
    assert expected in said and str(file) in said
    assert one_line(lambda: mc.save_report(file, tmp_path / "page.html")) == said
    assert not (tmp_path / "page.html").exists()
    if not isinstance(content, str):
        assert expected in one_line(lambda: mc.load_result(content()))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    said = one_line(lambda: mc.load_result(file), FileNotFoundError)
    written = "result.save(file), or --json of audit, reliances, dose, demo or compare, wrote"
    assert said == f"no file {file}; name one that {written}"


def test_the_remedies_for_wrong_files_work(tmp_path: Path) -> None:
    """Pass what to_dict() gave, or name a file that save wrote."""
    found = made("output_discrepancy")
    assert mc.load_result(found.to_dict()) == found == mc.load_result(saved("output_discrepancy", tmp_path))


def test_a_page_escapes_the_users_names() -> None:
    page = live_page("audit").decode()
    assert "&lt;two&gt;" in page and "<two>" not in page and "<two>" in html.unescape(page)


@each_kind
def test_the_json_of_a_loaded_result_is_that_of_the_live_one(kind: str, tmp_path: Path) -> None:
    """As text, in which 0 and 0.0 differ."""
    again = mc.load_result(saved(kind, tmp_path))
    assert again.to_json() == made(kind).to_json()
    assert json.dumps(again.rows(), default=str) == json.dumps(made(kind).rows(), default=str)


def test_no_record_repeats_the_fields_of_a_result() -> None:
    """A result is its own record: a second declaration of its fields is one that can differ from the first."""

    def names_of(kind: Any) -> set[str]:
        return {field.name for field in dataclasses.fields(kind)}

    def list_records(base: type[Record]) -> Iterator[type[Record]]:
        for record in base.__subclasses__():
            yield record
            yield from list_records(record)

    records = {record: set(record.model_fields) for record in list_records(Record)}
    results = {kind: names_of(found) for kind, found in mc.Result.kinds.items()}
    shared = {
        (record.__name__, kind): names & fields for record, names in records.items() for kind, fields in results.items()
    }
    assert records and [pair for pair, names in shared.items() if len(names) > 3] == []
