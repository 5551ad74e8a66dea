"""The pages in a real browser: answers above the fold, contrast, and what a keyboard or a screen reader needs."""

from pathlib import Path

import pytest
import torch

import mechconn as mc
from browser import in_frames
from mechconn.paper import save_runs
from mechconn.report import save_report
from planted_pairs import audit_planted, make_linear, planted_splits, reads
from run_records import fig4_record, fig13_record, quickstart_record, table1_record

MORE = ("photographs of another year", "box of another colour", "background at random", "no box and no caption")
WIDTHS = {"phone": 390, "tablet": 768, "desktop": 1280}
LOOK = """(page, window) => {
  const levels = [...page.querySelectorAll("h1, h2, h3, h4, h5")].map((h) => Number(h.tagName[1]));
  const ids = [...page.querySelectorAll("[id]")].map((e) => e.id);
  const cards = [...page.querySelector(".cards").children].map((c) => c.getBoundingClientRect().bottom);
  const told = (e) => e.getAttribute("aria-label") || e.getAttribute("alt") || "";
  return {
    wide: page.documentElement.scrollWidth > window.innerWidth,
    bottom: Math.max(0, ...cards),
    jumps: levels.filter((level, i) => i > 0 && level > levels[i - 1] + 1),
    heads: levels.filter((level) => level === 1).length,
    bare: [...page.querySelectorAll("table")].filter((t) => !t.caption || !t.caption.textContent.trim()).length,
    heading: [...page.querySelectorAll("th")].filter((t) => !t.textContent.trim() || !t.scope).length,
    blind: [...page.querySelectorAll("img, svg[role=img]")].filter((e) => told(e).length < 10).length,
    twice: ids.filter((id, i) => ids.indexOf(id) !== i),
    dead: [...page.querySelectorAll("a[href^='#']")].filter((a) => !page.getElementById(a.hash.slice(1))).length,
    nameless: [...page.querySelectorAll("a, button, [role=region]")].filter((e) => !told(e) && !e.textContent.trim())
      .length,
    unreached: [...page.querySelectorAll(".scroll, figure:not(.strips)")].filter((e) => e.tabIndex < 0).length,
    first: page.querySelector("a, button, [tabindex]").hash, landmark: page.querySelectorAll("main").length,
    language: page.documentElement.lang,
  };
}"""
GOOD = {
    "wide": False, "jumps": [], "heads": 1, "bare": 0, "heading": 0, "blind": 0, "twice": [], "dead": 0, "nameless": 0,
    "unreached": 0, "first": "#content", "landmark": 1, "language": "en",
}  # fmt: skip
CONTRAST = """(page, window) => {
  for (const d of page.querySelectorAll("details")) d.open = true;
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const linear = (v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(window.getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const bad = {};
  for (const e of page.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest("script, style, defs, .unseen, svg:has(image)")) continue;
    const style = window.getComputedStyle(e), ink = parse(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) bad[e.tagName + "." + e.className] = e.textContent.slice(0, 40);
  }
  return bad;
}"""
PRINTED = """(page, window) => {
  const open = () => [...page.querySelectorAll("details")].map((d) => d.open);
  const before = open();
  window.dispatchEvent(new window.Event("beforeprint"));
  const during = open();
  window.dispatchEvent(new window.Event("afterprint"));
  return { before, during, after: open() };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every kind that a command writes."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in ("audit", "demo", "runs", "merge", "relearning")}
    save_report(audit_planted(MORE, names=("fine-tuned on clean photographs", "trained without boxes")), files["audit"])
    save_report(quickstart_record(), files["demo"])
    save_runs([table1_record(), fig4_record(), fig13_record()], files["runs"])
    suite = mc.Suite(planted_splits(40), "with box")
    parents = {"reads the box": reads(0), "reads the photograph": reads(1)}
    save_report(mc.merge(parents, mc.Mean(), suite, align=mc.UniverseMatching()), files["merge"])
    save_report(relearn(suite), files["relearning"])
    return files


def relearn(suite: mc.Suite) -> mc.Result:
    never = make_linear(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    protocol = mc.Relearning(steps=(0, 2, 5), seeds=2, batch_size=8, lr=0.1)
    x, y = planted_splits(16)["with box"]
    return mc.measure_relearning([reads(1)], protocol, (x * 0.9, y), suite, split="with box", control=never)


@pytest.mark.slow
def test_every_page_reads_well_at_every_width_and_without_a_mouse(pages: dict[str, Path]):
    views = [(name, where) for name in pages for where in WIDTHS]
    found = in_frames([(pages[name], WIDTHS[where]) for name, where in views], LOOK)
    for view, told in zip(views, found, strict=True):
        bottom = told.pop("bottom")
        assert (view, told) == (view, GOOD)
        if view[1] == "desktop":
            assert 100 < bottom <= 900, view


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_the_contrast_that_wcag_asks_for(pages: dict[str, Path], dark: bool):
    """Level AA: 4.5 : 1, and 3 : 1 of large letters."""
    found = in_frames([(page, 1280) for page in pages.values()], CONTRAST, dark=dark)
    assert dict(zip(pages, found, strict=True)) == {name: {} for name in pages}


def test_what_is_folded_up_is_printed(pages: dict[str, Path]):
    (found,) = in_frames([(pages["demo"], 1280)], PRINTED)
    assert not any(found["before"]) and all(found["during"]) and found["after"] == found["before"]
