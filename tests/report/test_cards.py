"""What stands first on a page: a card for each question, samples of every split, and the numbers as files."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import mechconn as mc
from mechconn.datasets import show_examples
from mechconn.mechanisms import Audit
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
    assert len(card.answers) == 4 and card.more == "and 1 more below: 1 relies on it"


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


# ---------------------------------------------------------------- samples


def test_images_are_shown_side_by_side_with_their_labels():
    images = mc.datasets.ImageSet(torch.zeros(9, 3, 300, 200, dtype=torch.uint8), torch.arange(9) % 2, ("cat", "dog"))
    found = show_examples(mc.Suite({"photos": images}, "photos"))
    picture = found.pictures["photos"]
    assert (picture.height, picture.width) == (128, 8 * 85 + 7 * 2)
    assert found.labels["photos"] == ("cat", "dog") * 4 and not found.texts


def test_images_on_an_unknown_scale_are_stretched_to_their_range():
    x = torch.linspace(3.0, 5.0, 16).reshape(1, 1, 4, 4)
    pixels = show_examples(mc.Suite({"odd": (x, torch.tensor([0]))}, "odd")).pictures["odd"].pixels()
    assert pixels.min() == 0 and pixels.max() == 255


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
    assert found.labels["rows"] == ("0", "1", "0", "1") and data.read <= 9


def test_batches_are_not_read_for_the_page():
    loader = DataLoader(Counting(), batch_size=2)
    assert not show_examples(mc.Suite({"rows": loader}, "rows")).texts
