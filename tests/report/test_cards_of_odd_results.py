"""Cards and pages of results that are unusual: odd names, few rows, clusters, runs, inputs of every kind."""

import base64
import csv
import io
import math
import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import mechconn as mc
import run_records
from browser import in_frames
from mechconn.datasets import show_examples
from mechconn.mechanisms import make_relearned_card
from mechconn.plotting import Card, ResultFigure, make_figure
from mechconn.report import save_report
from page import Page
from planted_pairs import SPLITS, make_linear, planted_splits, reads

LONG = "photographs_of_a_street_in_the_year_of_" * 6


def card_of(found: mc.Result, question: str) -> Card:
    """The card whose question begins so."""
    return next(card for card in found.cards() if card.question.startswith(question))


def named_suite(reference: str, intervention: str, rows: int = 40) -> mc.Suite:
    return mc.Suite(dict(zip((reference, intervention), planted_splits(rows).values(), strict=True)), reference)


def audit_named(reference: str, intervention: str, names: tuple[str, str] = ("A", "B"), **others: Any) -> mc.Audit:
    suite = named_suite(reference, intervention)
    return mc.audit(reads(0), reads(1), suite, ts=3, alignment="none", names=names, **others)


def page_of(found: mc.Result, folder: Path) -> str:
    save_report(found, folder / "page.html")
    return (folder / "page.html").read_bytes().decode()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["数据", "two\rlines", "tab\tand \x1b", "a\x00b", "$x_1$ $\\frac{", "_hidden", "samples", "numbers", "found", ""],
)
@pytest.mark.parametrize("until", ["end", "settled"])
def test_any_name_has_a_page_whose_tags_nest_and_whose_links_lead_somewhere(name: str, until: Any, tmp_path: Path):
    """No warning either: letters that the figures' font lacks are drawn by the reader's browser."""
    page = Page(page_of(audit_named(name, name + "2", (name or "A", "B"), until=until), tmp_path))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [href[1:] for tag, attrs in page.tags if tag == "a" and (href := attrs.get("href") or "").startswith("#")]
    assert not page.open and len(ids) == len(set(ids)) and set(links) <= set(ids)


def test_long_names_leave_room_in_figures(tmp_path: Path):
    """Matplotlib warns where labels leave none."""
    text = page_of(audit_named(LONG, LONG + " 2", (LONG, LONG + " B")), tmp_path)
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert LONG in text and any("…" in label for label in drawn) and max(map(len, drawn)) < 160


def test_long_names_leave_room_beside_a_matrix(tmp_path: Path):
    suite = named_suite("all", LONG)
    found = mc.merge({LONG: reads(0), LONG + " B": reads(1)}, mc.Mean(), suite, align=mc.UniverseMatching())
    assert "Alignment" in page_of(found, tmp_path)


@pytest.mark.slow
def test_long_names_leave_room_in_tables(tmp_path: Path):
    """The column of names stays in sight while a table is moved below it, so it may not fill the table."""
    suite = named_suite(LONG, LONG + " 2")
    text = page_of(mc.audit(reads(0), reads(1), suite, ts=3, names=(LONG, LONG + " B")), tmp_path)
    look = """(page, window) => {
      for (const folded of page.querySelectorAll("details")) folded.open = true;
      const names = [...page.querySelectorAll(".scroll th[scope=row]")].map((e) => e.getBoundingClientRect().width);
      return [page.documentElement.scrollWidth, Math.max(...names)];
    }"""
    widths = (390, 1280)
    found = in_frames([(tmp_path / "page.html", width) for width in widths], look)
    assert LONG in text and all(wide <= width for width, (wide, _) in zip(widths, found, strict=True))
    assert all(longest < 0.6 * width for width, (_, longest) in zip(widths, found, strict=True))


def test_labels_that_would_run_into_each_other_are_turned():
    more = ["photographs of another year", "box of another colour", "background at random", "no box and no caption"]
    given, changed = planted_splits(40).values()
    found = mc.measure_invariance(reads(0), mc.Suite({"all": given, **dict.fromkeys(more, changed)}, "all"))
    for section in found.sections():
        for drawing in section.figures:
            figure = drawing.draw()
            figure.draw_without_rendering()
            boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
            assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_names_that_no_encoding_has_are_written_all_the_same(tmp_path: Path):
    """As Python gives file names that are not UTF-8."""
    assert "photo\\udc80" in page_of(audit_named("photo\udc80", "other"), tmp_path)


def test_names_with_line_ends_are_one_entry_of_the_csv_file(tmp_path: Path):
    found = audit_named("two\rlines", "two\nlines")
    (text,) = re.findall(r'download="audit.csv" href="data:[^,"]+;base64,([^"]+)"', page_of(found, tmp_path))
    rows = csv.DictReader(io.StringIO(base64.b64decode(text).decode(), newline=""))
    assert [row["split"] for row in rows] == [row["split"] for row in found.rows()]


def test_a_figure_of_the_users_may_be_called_as_a_part_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ResultFigure, "registered", dict(ResultFigure.registered))

    class Numbers(ResultFigure):
        """Drawn by a user."""

        of = mc.Invariance
        title = "Numbers"

        def draw(self, result: mc.Invariance) -> Any:
            return make_figure(2.0, 2.0)

        def describe(self, result: mc.Invariance) -> str:
            return "an empty figure"

    page = Page(page_of(mc.measure_invariance(reads(0), named_suite("all", "")), tmp_path))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert {"numbers", "numbers-again"} <= set(ids) and len(ids) == len(set(ids))
    assert "no name" in page.text  # the heading of a row, which a reader of the screen is told


# ---------------------------------------------------------------- verdicts


def test_what_would_narrow_an_interval_is_what_it_is_over():
    suite = named_suite("all", "box", 400)
    runs = mc.compare_mechanisms([reads(0), reads(0)], [reads(1), reads(0)], suite)
    assert card_of(runs, "How much less").advice == "More training runs would narrow the interval on box."
    clusters = mc.audit(
        reads(0), reads(1), suite, ts=3, alignment="none", cluster=[row // 200 for row in range(400)]
    )  # fmt: skip
    assert card_of(clusters, "May they be merged?").advice.startswith("More clusters narrow the intervals")


def test_what_becomes_of_a_mechanism_is_settled_by_what_its_intervals_are_over():
    suite, parents = named_suite("all", "box", 400), {"a": reads(0), "b": reads(1)}
    found = mc.merge(parents, mc.Mean(), suite, cluster=[row // 20 for row in range(400)])
    assert card_of(found, "What becomes").answers[0].interval.endswith(" clusters would settle it")


class Gap(nn.Module):
    """Its outputs are NaN halfway between two of these."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place, self.own = nn.Parameter(torch.tensor(place)), reads(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(x) * torch.where((self.place - 0.5).abs() < 0.3, math.nan, 1.0)


@pytest.mark.parametrize(
    ("until", "said"),
    [("end", "the loss is not finite on all and box"), ("settled", "rows of all and box have no accuracy")],
)
def test_a_path_without_values_says_so(until: Any, said: str):
    found = mc.audit(Gap(0.0), Gap(1.0), named_suite("all", "box"), ts=3, alignment="none", until=until)
    (answer,) = card_of(found, "May they be merged?").answers
    assert (answer.verdict, answer.number) == ("not settled", said)


def test_millions_of_nats_are_written_in_three_digits():
    huge = make_linear(torch.tensor([[0.0, 0.0], [1e30, 0.0]]))
    found = mc.compare_mechanisms(reads(0), huge, named_suite("all", "box"), on="loss")
    assert all(len(answer.number) < 40 for card in found.cards() for answer in card.answers)
    assert len(found.headline) < 200


def relearn(models: Any, **others: Any) -> mc.Relearned:
    """Against a control that is never right, so that both networks follow what they read before any step."""
    x, y = planted_splits(16)[SPLITS[0]]
    never = make_linear(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    control = [never] * len(models) if isinstance(models, list) else never
    protocol = mc.Relearning(steps=(0, 2, 5), seeds=2, batch_size=8, lr=0.1)
    suite = mc.Suite(planted_splits(400), SPLITS[0])
    return mc.measure_relearning(models, protocol, (x * 0.9, y), suite, split=SPLITS[0], control=control, **others)


def test_in_use_is_shown_by_the_number_that_says_so():
    """The effect is open, and accuracy before any step settles it; see the sentence on top of the page."""
    found = relearn(reads(1), cluster=[row // 10 for row in range(400)])
    (answer,) = make_relearned_card({"": found}).answers
    assert found.state == "uses" and found.runs[0].before[found.intervention].verdict == "undetermined"
    assert answer.number == "+50.0 points over the control" and answer.interval.startswith("before any step")


def test_in_use_in_every_run_is_shown_before_any_step():
    (answer,) = make_relearned_card({"": relearn([reads(1), reads(0)])}).answers
    assert (answer.verdict, answer.number) == ("in use in 2 of 2", "+50.0 points over the control before any step")


def test_an_open_relearning_of_an_invariant_network_shows_the_relearning():
    effect = run_records.model(
        dict.fromkeys(("no_cue", "cue", "rand_cue"), 0.9) | {"rand_image": 0.1}, rand_cue="invariant"
    )
    card = make_relearned_card({"": run_records.relearned(effect, "undetermined", 0.02)})
    assert (card.answers[0].verdict, card.answers[0].number) == ("not settled", "+2.0 points over the control")


def test_what_is_avoided_is_not_called_in_use():
    card = make_relearned_card({"": relearn(make_linear(torch.tensor([[0.0, 0.0], [-4.0, 0.0]])))})
    assert card.answers[0].verdict == "avoided" and card.advice.startswith(
        "Avoided: accuracy rises without the mechanism"
    )


# ---------------------------------------------------------------- samples


class Rows(Dataset):
    """A map-style dataset of ten rows of these inputs."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return (self.inputs, index % 2) if not isinstance(self.inputs, dict) else {**self.inputs, "label": index % 2}


def test_images_of_a_hub_are_shown_as_images():
    found = show_examples(mc.Suite({"hub": Rows({"pixel_values": torch.ones(3, 4, 4)})}, "hub"))
    assert found.pictures["hub"].height == 4 and not found.texts


def test_inputs_of_several_tensors_are_shown_row_by_row():
    found = show_examples(mc.Suite({"pairs": Rows((torch.tensor([1.0, 2.0]), torch.tensor([3.0])))}, "pairs"))
    assert found.texts["pairs"] == ("input 1=1, 2, input 2=3",) * 4


@pytest.mark.parametrize("x", [torch.zeros(4, 3, 0, 0), torch.full((4, 3, 2, 2), math.nan, requires_grad=True)])
def test_empty_images_and_images_of_a_graph_lose_no_page(x: torch.Tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = show_examples(mc.Suite({"odd": (x, torch.zeros(4).long())}, "odd"))
    assert found.left_out == () and bool(found.pictures) == bool(x.numel())


def test_a_change_of_brightness_shows():
    """Images that were standardised: black and white are the same values in every split."""
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    found = show_examples(mc.Suite({"dark": (x, torch.tensor([0])), "bright": (x + 1, torch.tensor([0]))}, "dark"))
    dark, bright = (found.pictures[name].pixels()[..., 0].flatten().tolist() for name in ("dark", "bright"))
    assert (dark, bright) == ([0, 64, 128, 191], [64, 128, 191, 255])
