"""The pages in a real browser: nothing overflows on a phone, dark mode is dark, tables sort, pictures load."""

from pathlib import Path

import pytest

from browser import in_browser
from demo_record import demo_record
from mechconn.paper import save_runs
from mechconn.report import save_report
from run_records import fig4_record, fig13_record, table1_record

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("runs") / "runs.html"
    save_runs([table1_record(), fig4_record(), fig13_record()], file)
    return file


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "demo.html"
    save_report(demo_record(), file)
    return file


@pytest.mark.parametrize("which", ["runs", "demo"])
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
