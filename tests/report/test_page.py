import os
import re
from pathlib import Path

import pytest

from demo_record import demo_record, path
from mechconn.report import describe_path, draw_path_figure, save_report
from page import Page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = tmp_path_factory.mktemp("report") / "demo.html"
    save_report(demo_record(), file)
    parsed = Page(file.read_text(encoding="utf-8"))
    assert not parsed.open
    return parsed


def test_page_needs_nothing_beside_it(page: Page):
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    outside = [value for value in sources if value and not value.startswith(("data:", "#"))]
    assert not outside
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]


def test_every_picture_says_what_it_shows(page: Page):
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 4
    assert all(attrs["alt"] for attrs in pictures)
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert [attrs["role"] for attrs in figures] == ["img"]
    assert "theta_C" in str(figures[0]["aria-label"])


def test_numbers_and_findings_are_on_the_page(page: Page):
    text = re.sub(r"\s+", " ", page.text)
    assert "A finding with <angle brackets> & an ampersand." in text
    for expected in (
        "theta_NC",
        "99.0 %",
        "undetermined",
        "0.400",
        "0.400 to 0.400",
        "not connected",
        "training.lr",
        "0" * 64,
    ):
        assert expected in text


@pytest.mark.parametrize(("settings", "told"), [({"draws": 5}, True), ({"draws": 1}, False), ({}, False)])
def test_several_draws_are_told(tmp_path: Path, settings: dict[str, int], told: bool):
    record = demo_record()
    others = {name: value for name, value in record.settings.items() if name != "draws"}
    file = tmp_path / "demo.html"
    save_report(record.model_copy(update={"settings": {**others, **settings}}), file)
    assert ("were drawn 5 times" in Page(file.read_text(encoding="utf-8")).text) == told


def test_an_existing_report_survives_a_failure(tmp_path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "demo.html"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        save_report(demo_record(), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_report_has_the_mode_that_the_umask_gives(tmp_path, umask: int, mode: int):
    before = os.umask(umask)
    try:
        save_report(demo_record(), tmp_path / "demo.html")
    finally:
        os.umask(before)
    assert (tmp_path / "demo.html").stat().st_mode & 0o777 == mode


def test_figure_takes_its_text_colour_from_the_page_and_its_size_too():
    svg = draw_path_figure(path())
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert not re.match(r"<svg[^>]* (width|height)=", svg)
    assert svg == draw_path_figure(path())


def test_figure_is_described_in_words():
    words = describe_path(path())
    assert "NC accuracy 90 % at t = 0 and 90 % at t = 1" in words
    assert "0.40 nats at t = 0.5" in words
