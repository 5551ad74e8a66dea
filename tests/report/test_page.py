import os
import re

import pytest

from mechconn.report import save_report
from page import Page
from run_records import quickstart_record


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = tmp_path_factory.mktemp("report") / "demo.html"
    save_report(quickstart_record(notes=("A note with <angle brackets> & an ampersand.",)), file)
    parsed = Page(file.read_text(encoding="utf-8"))
    assert not parsed.open
    return parsed


def test_page_needs_nothing_beside_it(page: Page):
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    outside = [value for value in sources if value and not value.startswith(("data:", "#"))]
    assert not outside
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe")]
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}]


def test_every_picture_says_what_it_shows(page: Page):
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 4
    assert all(attrs["alt"] for attrs in pictures)
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert [attrs["role"] for attrs in figures] == ["img", "img", "img"]
    assert all("theta_C" in str(attrs["aria-label"]) for attrs in figures)


def test_numbers_and_findings_are_on_the_page(page: Page):
    text = re.sub(r"\s+", " ", page.text)
    assert "A note with <angle brackets> & an ampersand." in text
    for expected in (
        "Same mechanism or a shortcut?",
        "theta_C relies on the cue: with the cue drawn at random",
        "theta_NC",
        "99.0",
        "undetermined",
        "0.40 to 0.40",
        "not connected",
        "training.lr",
        quickstart_record().settings_hash,
    ):
        assert expected in text


def test_an_existing_report_survives_a_failure(tmp_path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "demo.html"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        save_report(quickstart_record(), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_report_has_the_mode_that_the_umask_gives(tmp_path, umask: int, mode: int):
    before = os.umask(umask)
    try:
        save_report(quickstart_record(), tmp_path / "demo.html")
    finally:
        os.umask(before)
    assert (tmp_path / "demo.html").stat().st_mode & 0o777 == mode
