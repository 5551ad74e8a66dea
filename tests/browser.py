"""Pages in a real browser: a headless Chromium, looked at from a page around them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from work import HANGING

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--allow-file-access-from-files",
)  # fmt: skip

AROUND = """<!doctype html><meta charset="utf-8">
<pre id="found"></pre><script>
const frames = {frames}, found = {{}};
for (const [name, page, width, height] of frames) {{
  const frame = document.createElement("iframe");
  frame.style = `width:${{width}}px;height:${{height}}px;border:0`;
  frame.addEventListener("load", () => {{
    found[name] = ({look})(frame.contentDocument, frame.contentWindow);
    const all = Object.keys(found).length === frames.length;
    if (all) document.getElementById("found").textContent = JSON.stringify(found);
  }});
  frame.src = page;
  document.body.append(frame);
}}
</script>"""


def in_browser(page: Path, look: str, *, width: int = 1100, dark: bool = False) -> Any:
    """What the JavaScript function `look(document, window)` says of the page in a frame `width` pixels wide."""
    return in_frames([(page, width)], look, dark=dark)[0]


def in_frames(pages: Sequence[tuple[Path, int]], look: str, *, dark: bool = False, height: int = 800) -> list[Any]:
    """The same of several pages of one folder, each in a frame of a width, in one browser."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM}; on Debian: apt-get install chromium")
    folder = pages[0][0].parent
    frames = [(str(number), page.name, width, height) for number, (page, width) in enumerate(pages)]
    probe, profile = folder / f"probe-{pages[0][0].name}", folder / f"profile-{pages[0][0].stem}"
    probe.write_text(AROUND.format(frames=json.dumps(frames), look=look), encoding="utf-8")
    shutil.rmtree(profile, ignore_errors=True)
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [CHROMIUM, *FLAGS, *scheme, f"--user-data-dir={profile}", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None and found.group(1), done.stderr
    told = json.loads(html.unescape(found.group(1)))
    return [told[name] for name, *_ in frames]
