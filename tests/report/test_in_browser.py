"""The pages in a real browser: nothing overflows on a phone, dark mode is dark, tables sort, pictures load."""

from pathlib import Path

import pytest

import mechconn as mc
from browser import in_browser
from mechconn.paper import save_runs
from mechconn.report import save_report
from run_records import fig4_record, fig13_record, quickstart_record, table1_record
from zoo import build, mlp, rows

OVERFLOW = """(page) => ({
  page: page.documentElement.scrollWidth,
  wide: [...page.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 391
    && !e.parentElement.closest("figure, .scroll, details")).map((e) => e.outerHTML.slice(0, 80)),
})"""
COLOURS = """(page, window) => [page.body, page.querySelector("svg text")].map((e) => {
  const style = window.getComputedStyle(e);
  return [style.backgroundColor, style.color, style.fill];
})"""
SORTED = """(page) => {
  const table = [...page.querySelectorAll("table.sortable")].find((t) => t.tHead.textContent.includes("model"));
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const click = (column) => { table.tHead.rows[0].cells[column].querySelector("button").click(); return names(); };
  const sort = () => table.tHead.rows[0].cells[1].getAttribute("aria-sort");
  return { before: names(), up: click(1), said: sort(), down: click(1), name: click(0), after: sort() };
}"""
PICTURES = """(page) => [...page.querySelectorAll("details")].forEach((d) => { d.open = true; }) || ({
  loaded: [...page.images].map((i) => i.complete && i.naturalWidth > 0),
  figures: [...page.querySelectorAll("figure > svg")].map((f) => f.getBoundingClientRect().height > 100),
  words: [...page.querySelectorAll("figure > svg")].map((f) => f.getAttribute("aria-label").length > 40),
})"""


SCALES = """(page) => [...page.querySelectorAll("figure > svg")].map(
  (f) => f.getBoundingClientRect().width / f.viewBox.baseVal.width * 72 / 96)"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("runs") / "runs.html"
    save_runs([table1_record(), fig4_record(), fig13_record()], file)
    return file


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "demo.html"
    save_report(quickstart_record(), file)
    return file


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("audit") / "audit.html"
    (x, y), models = rows(20), (build(mlp, 0), build(mlp, 1))
    suite = mc.Suite({"cue": (x, y), "rand_cue": (x.flip(1), y)})
    save_report(mc.audit(models[0], models[1], suite, ts=3, blocks=1, layers="all"), file)
    return file


@pytest.mark.parametrize("which", ["runs", "demo", "audit"])
def test_nothing_overflows_on_a_phone(which: str, request: pytest.FixtureRequest):
    found = in_browser(request.getfixturevalue(which), OVERFLOW, width=390)
    assert found == {"page": 390, "wide": []}


def test_dark_mode_is_dark_and_figures_follow(runs: Path):
    (paper, ink, _), (_, _, text) = in_browser(runs, COLOURS, dark=True)
    assert paper == "rgb(13, 17, 23)" and ink == text == "rgb(230, 237, 243)"
    (paper, ink, _), (_, _, text) = in_browser(runs, COLOURS)
    assert paper == "rgb(255, 255, 255)" and ink == text == "rgb(27, 31, 36)"


def test_a_click_on_a_heading_sorts(runs: Path):
    found = in_browser(runs, SORTED)
    table = {"before": ["theta_C", "FT-M", "CBFT"], "up": ["theta_C", "FT-M", "CBFT"], "said": "ascending"}
    assert found == {**table, "down": ["CBFT", "theta_C", "FT-M"], "name": ["CBFT", "FT-M", "theta_C"], "after": None}


def test_pictures_load_and_figures_have_size_and_words(runs: Path):
    found = in_browser(runs, PICTURES)
    assert found == {"loaded": [True] * 8, "figures": [True] * 5, "words": [True] * 5}


def test_letters_of_figures_are_legible_and_no_larger_than_the_pages(audit: Path):
    """Letters of 10 points, scaled: figures of two panels, and narrow ones, which are not stretched to the page."""
    scales = in_browser(audit, SCALES)
    assert len(scales) == 8 and all(0.7 <= scale <= 1.26 for scale in scales)
