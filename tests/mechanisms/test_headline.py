"""The headline of a comparison: each case in words, and where it stands."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from lookup import Copier
from zoo import build

ROWS = 1000
A, B = Copier(0), Copier(1)


def right(share: float) -> Tensor:
    return torch.arange(ROWS) < round(share * ROWS)


def suite_of(**shares: tuple[float, float]) -> mc.Suite:
    """Accuracy of A and of B on each split; rows of classes 0, 1, 2 in turn, so that no answer is given always."""
    labels = torch.arange(ROWS) % 3

    def answers(share: float) -> Tensor:
        return torch.where(right(share), labels, (labels + 1) % 3).double()

    return mc.Suite({name: (torch.stack([answers(a), answers(b)], 1), labels) for name, (a, b) in shares.items()})


CASES: dict[str, tuple[dict[str, tuple[float, float]], str]] = {
    "both rely, B less": (
        {"rand_cue": (0.213, 0.689)},
        "Both rely on rand_cue; B less: 47.6 of 68.7 points less (<less rand_cue>).",
    ),
    "both rely, B more": (
        {"rand_cue": (0.5, 0.2)},
        "Both rely on rand_cue; B more: 30.0 points more than 40.0 (<more rand_cue>).",
    ),
    "both rely, about as much": (
        {"rand_cue": (0.5, 0.501)},
        "Both rely on rand_cue; whether B does less is not settled: 0.1 of 40.0 points less (<less rand_cue>).",
    ),
    "A alone": (
        {"rand_cue": (0.2, 0.9)},
        "A relies on rand_cue and B is invariant to it: 70.0 of 70.0 points less (<less rand_cue>).",
    ),
    "B alone": (
        {"rand_cue": (0.9, 0.2)},
        "B relies on rand_cue and A is invariant to it: -70.0 points (<b rand_cue>).",
    ),
    "neither": ({"rand_cue": (0.9, 0.9), "hue": (0.9, 0.9)}, "Both are invariant to rand_cue and hue."),
    "opposite": (
        {"rand_cue": (0.5, 1.0)},
        "Both are sensitive to rand_cue, in opposite directions: A by -40.0, B by +10.0 points.",
    ),
    "neither is helped": (
        {"rand_cue": (1.0, 1.0)},
        "Both are sensitive to rand_cue; whether B does less is not settled: "
        "0.0 of 10.0 points less (<less rand_cue>).",
    ),
    "open on both": ({"rand_cue": (0.86, 0.86)}, "Whether A or B is invariant to rand_cue is not settled."),
    "open on A": ({"rand_cue": (0.86, 0.9)}, "B is invariant to rand_cue; whether A is, is not settled."),
    "open on B": (
        {"rand_cue": (0.5, 0.86)},
        "A relies on rand_cue; whether B is invariant to it is not settled: "
        "36.0 of 40.0 points less (<less rand_cue>).",
    ),
    "B relies, open on A": (
        {"rand_cue": (0.86, 0.5)},
        "B relies on rand_cue; whether A is invariant to it is not settled: -40.0 points (<b rand_cue>).",
    ),
    "three, what differs first": (
        {"hue": (0.9, 0.9), "box": (0.2, 0.7), "rand_cue": (0.9, 0.2)},
        "B relies on rand_cue and A is invariant to it: -70.0 points (<b rand_cue>). "
        "Both rely on box; B less: 50.0 of 70.0 points less (<less box>). Both are invariant to hue.",
    ),
    "two alike": (
        {"hue": (0.2, 0.7), "box": (0.3, 0.8)},
        "Both rely on hue and box; B less: 50.0 of 70.0 points less (<less hue>) on hue; "
        "50.0 of 60.0 points less (<less box>) on box.",
    ),
    "many are named without numbers": (
        {"a": (0.2, 0.7), "b": (0.3, 0.8), "c": (0.2, 0.9), "d": (0.1, 0.9)},
        "A relies on c and d and B is invariant to them. Both rely on a and b; B less.",
    ),
}


def fill(text: str, found: mc.Comparison) -> str:
    """A headline with the intervals in it: <less x>, <more x> and <b x> stand for those of a split."""
    for name, less in found.less.items():
        low, high = (100 * bound for bound in less.interval)
        text = text.replace(f"<less {name}>", f"{low:.1f} to {high:.1f}")
        text = text.replace(f"<more {name}>", f"{-high:.1f} to {-low:.1f}")
    for name, effect in found.b.items():
        text = text.replace(f"<b {name}>", f"{100 * effect.interval[0]:+.1f} to {100 * effect.interval[1]:+.1f}")
    return text


@pytest.mark.parametrize("case", CASES)
def test_headlines(case: str) -> None:
    splits, headline = CASES[case]
    found = mc.compare_mechanisms(A, B, suite_of(cue=(0.9, 0.9), **splits))
    headline = fill(headline, found)
    assert found.headline == headline
    assert str(found).splitlines()[0] == headline
    assert found.to_dict()["headline"] == headline


def test_an_uninformative_model_is_told_of_in_the_headline() -> None:
    """A gives one class always: that it is invariant says nothing."""
    constant = build(lambda: nn.Linear(2, 3))
    with torch.no_grad():
        constant.get_parameter("weight").zero_()
    suite = suite_of(cue=(0.9, 0.9), rand_cue=(0.9, 0.2))
    found = mc.compare_mechanisms(constant, B, suite).headline
    assert found.startswith("B relies on rand_cue and A is invariant to it: ")
    assert found.endswith(" What A is invariant to says nothing about what it uses.")
    both = mc.compare_mechanisms(constant, constant, suite).headline
    assert both == "Both are invariant to rand_cue. What either is invariant to says nothing about what it uses."


def test_rows_that_were_chosen_show_no_reliance() -> None:
    y = torch.arange(ROWS) % 2
    place = torch.arange(ROWS) // 2 % 2
    x = torch.stack([place, y], 1).double()
    suite = mc.Suite(mc.split_by_agreement((x, y), place, agrees={0: 0, 1: 1}), reference="agree")
    found = mc.compare_mechanisms(A, B, suite).headline
    assert found.startswith("A is sensitive to conflict and B is invariant to it: 100.0 of 100.0 points less (")
    assert found.endswith(". This is observational: the splits hold other rows.")


def test_the_loss_and_metrics_have_their_own_units() -> None:
    suite = suite_of(cue=(0.9, 0.9), rand_cue=(0.2, 0.7))
    nats = mc.compare_mechanisms(A, B, suite, on="loss").headline
    assert nats.startswith("Both rely on rand_cue; B less: 5.00 of 7.00 nats less (4.")
    odd = mc.compare_mechanisms(A, B, suite, on="loss", loss=lambda z, y: 1.0 * (z.argmax(1) != y)).headline
    assert odd.startswith("Both rely on rand_cue; B less: 0.5 of 0.7 loss units less (0.4")
    wrong = {"misses": mc.Metric(lambda z, y: (z.argmax(1) != y).double(), bounds=(0.0, 1.0))}
    metric = mc.compare_mechanisms(A, B, suite, on="misses", metrics=wrong).headline
    assert metric.startswith("Both are sensitive to rand_cue; B less: in misses, 0.5 of 0.7 less (0.4")


def test_it_stands_first_in_print_page_and_json_with_the_users_names(tmp_path: Path) -> None:
    suite = suite_of(cue=(0.9, 0.9), rand_cue=(0.213, 0.689))
    found = mc.audit(A, B, suite, ts=3, names=("theta_C", "<tuned>"))
    low, high = (100 * bound for bound in found.comparison.less["rand_cue"].interval)
    assert 43 < low < 47.6 < high < 52
    said = f"Both rely on rand_cue; <tuned> less: 47.6 of 68.7 points less ({low:.1f} to {high:.1f})."
    assert found.headline == said and str(found).splitlines()[0] == said
    record = json.loads(found.to_json())
    assert record["headline"] == said
    assert record["comparison"]["headline"] == found.comparison.headline
    mc.save_report(found, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    first = page.partition("<h1>")[2].partition("</h1>")[0]
    assert html.unescape(first) == said
    assert "Do theta_C (A) and &lt;tuned&gt; (B) use the same mechanisms?" in page
    assert '<a href="#theory">' in page and '<section id="theory">' in page and "stand in docs/theory.md" in page
    # A page stands by itself, beside no other files.
    assert not re.search('href="(?!#|data:)', page)
    assert "47.60 of 68.70<small>43.3" in page and "69 %</small>" in page


def test_the_audits_sentences() -> None:
    """Accuracies of all splits, how much less, zero barriers together, and the theory in a sentence and a link."""
    suite = suite_of(cue=(0.9, 0.9), no_cue=(0.8, 0.7), rand_cue=(0.2, 0.7))

    class Scaled(Copier):
        """With a parameter, so that there is a path."""

        def __init__(self) -> None:
            super().__init__(0)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * super().forward(x)

    text = str(mc.audit(Scaled(), Scaled(), suite, ts=3, alignment="none"))
    assert "It is right on 90.0 % of cue, 80.0 % of no_cue, 20.0 % of rand_cue." in text
    assert "No barrier above 0.00 nats on cue, no_cue, rand_cue" in text and "Barriers in loss" not in text
    assert "docs/theory.md" in text.splitlines()[-1]
    text = str(mc.audit(A, B, suite, ts=3, names=("one", "two")))
    assert (
        "How much less two relies on what one is sensitive to, |effect on one| - |effect on two|: "
        "-10.00 of 10.00 points on no_cue (95 % interval " in text
    )
    opposite = str(mc.audit(A, B, suite_of(cue=(0.5, 0.5), rand_cue=(0.1, 0.9)), ts=3))
    assert (
        "The mechanisms of A and B are dissimilar: both are sensitive to rand_cue, in opposite directions. "
        "By the paper's definition, equal sets of invariances, the mechanisms are similar." in opposite
    )
