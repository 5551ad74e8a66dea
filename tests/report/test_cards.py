"""What stands first on a page: a card for each question, samples of every split, and the numbers as files."""

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mechconn as mc
import run_records
from mechconn.core import MapStyle
from mechconn.datasets import show_examples
from mechconn.mechanisms import Audit, join_relearned, make_relearned_card
from mechconn.plotting import Card
from mechconn.report import save_report
from planted_pairs import SPLITS, audit_planted, make_linear, planted_splits, reads
from text_folders import make_bert, make_tokenizer, save_folder, write_csv


@pytest.fixture(scope="module")
def audit() -> Audit:
    return audit_planted()


def test_a_card_for_each_question_with_the_verdicts_numbers(audit: Audit):
    """A reads the column that "box at random" draws anew, B does not: the truth is known."""
    first, second, less, hidden, merged = audit.cards()
    assert [card.question for card in (first, second, less)] == [
        "Does reader rely on box at random?",
        "Does fixed rely on box at random?",
        "How much less does fixed rely on box at random?",
    ]
    effect = audit.comparison.a["box at random"]
    (answer,) = first.answers
    assert (answer.verdict, answer.style) == ("relies on it", "sensitive") and effect.verdict == "sensitive"
    assert answer.number == f"{100 * effect.effect:+.2f} points"
    low, high = effect.adjusted_interval
    assert answer.interval.endswith(f"% interval {100 * low:+.2f} to {100 * high:+.2f}")
    assert [one.verdict for one in second.answers] == ["invariant"]
    reduction = audit.comparison.less["box at random"]
    assert less.answers[0].verdict == "less"
    assert less.answers[0].number == f"{100 * reduction.amount:.2f} of {100 * reduction.of:.2f} points"
    assert hidden.question == "Is it gone, or hidden?" and hidden.answers[0].verdict == "not asked"
    assert merged.question == "May they be merged?" and merged.anchor == "path-before"
    assert merged.answers[0].verdict == {
        "connected": "a straight path joins them", "not connected": "a barrier lies between",
        "undetermined": "not settled",
    }[audit.connections["before"].verdict]  # fmt: skip


def test_what_is_not_settled_says_how_many_rows_would_settle_it():
    found = mc.measure_invariance(reads(0), few_rows(), margin=0.3)
    effect = found["box at random"]
    (card,) = found.cards()
    assert effect.verdict == "undetermined" and effect.to_settle is not None
    assert card.answers[0].verdict == "not settled"
    assert card.advice == f"About {effect.to_settle:,} rows would settle box at random."


def few_rows() -> mc.Suite:
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]] * 4)
    changed = x.clone()
    changed[:3, 0] *= -1
    return mc.Suite({SPLITS[0]: (x, (x[:, 0] > 0).long()), SPLITS[1]: (changed, (x[:, 0] > 0).long())}, SPLITS[0])


def test_a_metric_of_ones_own_is_never_said_to_be_relied_on():
    """Of a metric it is not known what harm is."""
    metric = mc.Metric(lambda z, y: (z.argmax(1) != y).float(), (0.0, 1.0))
    suite = mc.Suite(planted_splits(400), SPLITS[0])
    (card,) = mc.measure_invariance(reads(0), suite, metrics={"errors": metric}, on="errors").cards()
    assert card.answers[0].verdict == "sensitive" and card.answers[0].number == "+0.5 errors"


def test_a_card_shows_some_answers_and_counts_the_others():
    x = torch.eye(6).repeat(20, 1)
    y = torch.arange(120) % 6
    splits = {"as it is": (x, y)} | {f"shift {k}": (x.roll(k, 1), y) for k in range(1, 6)}
    (card,) = mc.measure_invariance(make_linear(torch.eye(6)), mc.Suite(splits, "as it is")).cards()
    assert len(card.answers) == 4 and card.more == "and 1 more below: relies on it (1)"


def test_the_page_shows_answers_then_samples_then_figures_then_sentences_then_tables(audit: Audit, tmp_path: Path):
    save_report(audit, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h[1-4][^>]*>(.*?)</h[1-4]>", page)
    order = [
        "Does reader rely on box at random?", "May they be merged?", "The first samples of every split",
        "How often each is right", "What each relies on", "The straight path, as it is", "What was found", "Numbers",
    ]  # fmt: skip
    places = [headings.index(heading) for heading in order]
    assert places == sorted(places)
    assert headings.count("What each relies on") == 2  # the figure, and its table below


def test_the_users_own_names_stand_everywhere(tmp_path: Path):
    """The paper's short names are those of its recipes alone."""
    given, changed = planted_splits(400).values()
    names = {"cue": given, "rand_cue": changed}
    found = mc.audit(reads(0), reads(1), mc.Suite(names, "cue"), ts=3, alignment="none")
    save_report(found, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "rand_cue" in page and not re.search(r">\s*(RC|NC|RI|C)\s*<", page)


def test_the_numbers_are_files_of_the_page(audit: Audit, tmp_path: Path):
    save_report(audit, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    files = {
        name: base64.b64decode(text).decode()
        for name, text in re.findall(r'download="([^"]+)" href="data:[^,"]+;base64,([^"]+)"', page)
    }
    assert list(csv.DictReader(io.StringIO(files["audit.csv"]))) == [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in audit.rows()
    ]
    plain = json.loads(files["audit.json"])
    assert plain == {name: value for name, value in audit.to_dict().items() if name != "examples"}
    assert mc.load_result(plain).cards() == audit.cards()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_result_that_was_read_shows_the_same_samples(audit: Audit, tmp_path: Path):
    audit.save(tmp_path / "audit.json")
    again = mc.load_result(tmp_path / "audit.json")
    assert isinstance(again, Audit) and again.examples == audit.examples


def card_of(found: mc.Result, question: str) -> Card:
    """The card whose question begins so."""
    return next(card for card in found.cards() if card.question.startswith(question))


def test_what_is_not_settled_is_never_called_no_effect():
    """Also where nothing says how many rows would settle it."""
    found = replace_effect(verdict="undetermined", to_settle=None)
    (card,) = found.cards()
    assert card.answers[0].verdict == "not settled" and "No effect" not in card.advice
    assert card.advice.startswith("More rows would narrow the interval on box at random")


def replace_effect(**changes: Any) -> mc.Invariance:
    """A measurement with one effect changed."""
    found = mc.measure_invariance(reads(1), mc.Suite(planted_splits(400), SPLITS[0]))
    (name,) = found.interventions
    return replace(found, effects={name: replace(found[name], **changes)})


def test_over_training_runs_it_says_how_many_runs_would_settle_it():
    found = replace(replace_effect(verdict="undetermined", to_settle=30), over="runs", runs=3)
    assert found.cards()[0].advice == "About 30 training runs would settle box at random."


def test_a_suite_without_interventions_has_no_card():
    found = mc.measure_invariance(reads(0), mc.Suite({"rows": planted_splits(40)[SPLITS[0]]}, "rows"))
    assert found.cards() == []


def test_rows_that_were_chosen_are_called_observational():
    x, y = planted_splits(40)[SPLITS[0]]
    places = ["land" if row % 8 in (1, 3, 5, 6) else "sea" for row in range(40)]
    suite = mc.Suite(
        mc.split_by_agreement(
            (x, y),
            places,
            agrees={0: "sea", 1: "land"},
        ),
        reference="agree",
    )
    (card,) = mc.measure_invariance(reads(0), suite).cards()
    assert card.question == "Does the model respond to conflict?" and card.why.startswith("Observational")
    assert "shortcut" not in card.advice


def test_opposite_directions_are_not_called_less():
    splits = planted_splits(400)
    y = splits[SPLITS[0]][1]
    helped = (torch.stack([torch.ones(400), -torch.ones(400)], 1), torch.ones(400).long())
    suite = mc.Suite({"plain": (torch.ones(400, 2), y), "shifted": helped}, "plain")
    found = mc.compare_mechanisms(reads(0), reads(1), suite)
    assert found.a["shifted"].effect * found.b["shifted"].effect < 0
    card = card_of(found, "How much less")
    assert [answer.verdict for answer in card.answers] == ["in opposite directions"]


def test_a_model_that_gives_one_answer_is_not_praised_for_relying_less():
    constant = make_linear(torch.zeros(2, 2))
    found = mc.compare_mechanisms(reads(0), constant, mc.Suite(planted_splits(400), SPLITS[0]))
    card = card_of(replace(found, names=("reader", "constant")), "How much less")
    assert card.answers[0].style == "open" and card.advice.startswith("The invariance of constant says nothing")


@pytest.mark.parametrize(("value", "verdict"), [(math.inf, "a barrier lies between"), (math.nan, "not settled")])
def test_a_loss_that_is_not_finite_is_named_in_the_place_of_a_barrier(audit: Audit, value: float, verdict: str):
    path = audit.paths["before"]
    loss = {**path.loss, "box at random": (path.loss["box at random"][0], value, path.loss["box at random"][2])}
    card = card_of(replace(audit, paths={"before": replace(path, loss=loss)}), "May they be merged?")
    assert (card.answers[0].verdict, card.answers[0].number) == (verdict, "the loss is not finite on box at random")
    assert "More rows" not in card.advice


def test_models_of_different_architectures_have_the_reason_on_the_card():
    wide = nn.Sequential(make_linear(torch.eye(2)), make_linear(torch.eye(2)))
    found = mc.audit(reads(0), wide, mc.Suite(planted_splits(40), SPLITS[0]), ts=3, alignment="none")
    card = card_of(replace(found, notes=("12 texts were cut", *found.notes)), "May they be merged?")
    assert card.answers[0].verdict == "no path in weight space" and card.why.endswith("joins them.")


def relearned(state: Any, effect: str = "invariant", excess: float = 0.3) -> mc.Relearned:
    """A result of one run of which relearning says this, and whose effect has that verdict."""
    accuracy = dict.fromkeys(("no_cue", "cue", "rand_cue"), 0.9) | {"rand_image": 0.1}
    found = run_records.model(run_records.SHORTCUT if effect == "sensitive" else accuracy, rand_cue=effect)
    return run_records.relearned(found, state, excess)


@pytest.mark.parametrize(
    ("states", "advice"),
    [
        ({"a": "uses", "b": "gone"}, "Gone in b: nothing came back"),
        ({"a": "uses", "b": "hidden"}, "Hidden in b: a few steps bring it back"),
        ({"a": "uses", "b": "uses"}, "Change what is in use first"),
    ],
)
def test_the_advice_of_relearning_is_about_the_network_that_it_names(states: dict[str, str], advice: str):
    found = {
        name: relearned("gone" if state == "uses" else state, "sensitive" if state == "uses" else "invariant")
        for name, state in states.items()
    }
    assert {name: own.state for name, own in found.items()} == states
    assert make_relearned_card(found).advice.startswith(advice)


def test_where_the_effect_is_open_relearning_alone_says_nothing():
    card = make_relearned_card({"": relearned("hidden", "undetermined")})
    assert card.answers[0].verdict == "not settled" and card.answers[0].number.startswith("effect ")
    assert card.answers[0].interval.endswith("relearning by itself says hidden")


def test_several_runs_are_counted_by_their_states():
    two = join_relearned([relearned("hidden", "sensitive"), relearned("hidden")])
    card = make_relearned_card({"": two})
    assert card.answers[0].verdict == "in use in 1, hidden in 1 of 2" and card.answers[0].style == "open"


def test_a_merge_shows_the_bounds_that_its_verdict_rests_on():
    suite = mc.Suite(planted_splits(400), SPLITS[0])
    found = mc.merge({"a": reads(0), "b": reads(1)}, mc.Mean(), suite, tolerance=0.01)
    card = card_of(found, "May they be merged?")
    pair = min(found.judged.worse or found.judged.open or found.judged.differences, key=lambda one: one.difference)
    low, high = pair.judged_interval
    assert card.answers[0].interval == f"bounds {100 * low:+.2f} to {100 * high:+.2f}, tolerance 1.00"
    alone = mc.merge(
        {"a": reads(0), "b": reads(1)}, mc.Mean(), mc.Suite({"rows": planted_splits(40)[SPLITS[0]]}, "rows")
    )
    assert [one.question for one in alone.cards()] == ["May they be merged?"]


def test_runs_have_cards_of_their_networks_paths_and_claims():
    demo = run_records.quickstart_record()
    assert [card.question for card in demo.cards()] == [
        "Which networks rely on the cue?", "Is the cue gone, or hidden?", "Which paths join them?",
    ]  # fmt: skip
    table = run_records.table1_record()
    claims = card_of(table, "Does what the paper says hold here?")
    assert sum(int(answer.number.split()[0]) for answer in claims.answers) == 4


# ---------------------------------------------------------------- samples


def test_images_are_shown_side_by_side_with_their_labels():
    images = mc.datasets.ImageSet(torch.zeros(9, 3, 300, 200, dtype=torch.uint8), torch.arange(9) % 2, ("cat", "dog"))
    found = show_examples(mc.Suite({"photos": images}, "photos"))
    picture = found.pictures["photos"]
    assert (picture.height, picture.width) == (128, 8 * 85 + 7 * 2)
    assert found.labels["photos"] == ("cat", "dog") * 4 and not found.texts


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.0, 0.5, 1.0), (0, 128, 255)),  # as torchvision's ToTensor leaves them
        ((-1.0, 0.0, 1.0), (0, 128, 255)),
        ((3.0, 4.0, 5.0), (0, 128, 255)),  # stretched
        ((5.0, 5.0, 5.0), (128, 128, 128)),
        ((math.nan, 2.0, math.inf), (0, 128, 255)),
    ],
)
def test_images_of_any_scale_are_shown(values: tuple[float, ...], shown: tuple[int, ...]):
    x = torch.tensor(values).reshape(1, 1, 1, 3)
    pixels = show_examples(mc.Suite({"odd": (x, torch.tensor([0]))}, "odd")).pictures["odd"].pixels()
    assert pixels[0, :, 0].tolist() == list(shown)


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (4, 1, 2, 3, 3), (4, 2, 3, 3)])
def test_what_is_no_picture_is_shown_in_numbers(shape: tuple[int, ...]):
    found = show_examples(mc.Suite({"odd": (torch.zeros(shape), torch.zeros(4).long())}, "odd"))
    assert not found.pictures and found.texts["odd"][0] == "0, 0, 0, 0, 0, 0, 0, 0, ..."


def test_a_label_without_a_name_is_a_number():
    images = mc.datasets.ImageSet(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("cat", "dog"))
    object.__setattr__(images, "y", torch.tensor([-1, 7]))
    assert show_examples(mc.Suite({"photos": images}, "photos")).labels["photos"] == ("-1", "7")


class Broken(Dataset):
    """A map-style dataset that cannot be read any more."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        raise OSError("the disk is gone")


def test_what_cannot_be_shown_is_named_and_loses_no_result(caplog: pytest.LogCaptureFixture):
    suite = mc.Suite({"fine": (torch.zeros(2, 3), torch.tensor([0, 1]))}, "fine")
    suite._splits["broken"] = MapStyle("broken", Broken())  # as a disk that went away after the check
    found = show_examples(suite)
    assert found.left_out == ("broken",) and list(found.texts) == ["fine"]
    assert "split 'broken' is not shown: OSError: the disk is gone" in caplog.text


def test_samples_that_are_private_stand_nowhere(tmp_path: Path):
    suite = mc.Suite(planted_splits(40), SPLITS[0])
    found = mc.audit(reads(0), reads(1), suite, ts=3, alignment="none", samples=False)
    save_report(found, tmp_path / "audit.html")
    assert found.to_dict()["examples"]["texts"] == {}
    assert "samples of every split" not in (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_texts_are_shown_as_the_model_reads_them(tmp_path: Path):
    folder = save_folder(tmp_path / "reader", make_bert(), make_tokenizer())
    texts = mc.datasets.load_text(write_csv(tmp_path / "reviews.csv"), folder)
    suite = mc.intervened(texts, {"shuffled": "word-shuffle"}, seed=0)
    found = show_examples(suite)
    first, second = (found.texts[name][2].split() for name in suite)
    assert sorted(first) == sorted(second) and first != second and found.same_rows
    assert len(found.texts["shuffled"]) == len(found.labels["shuffled"]) == 4


class Counting(Dataset):
    """A map-style dataset that counts how many samples were read."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int):
        self.read += 1
        return torch.full((3,), float(index)), index % 2


def test_of_a_map_style_dataset_the_shown_samples_alone_are_read():
    data = Counting()
    suite = mc.Suite({"rows": data}, "rows")
    data.read = 0
    found = show_examples(suite)
    assert found.texts["rows"] == ("0, 0, 0", "1, 1, 1", "2, 2, 2", "3, 3, 3")
    assert found.labels["rows"] == ("0", "1", "0", "1") and data.read == 8


def test_batches_are_not_read_for_the_page():
    loader = DataLoader(Counting(), batch_size=2)
    found = show_examples(mc.Suite({"rows": loader}, "rows"))
    assert not found.texts and found.left_out == ("rows",)
