"""Pages in a real browser: a headless Chromium, looked at from a page around them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
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
<iframe src="{page}" style="width:{width}px;height:800px;border:0"></iframe>
<pre id="found"></pre><script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const page = event.target.contentDocument;
  document.getElementById("found").textContent = JSON.stringify(({look})(page, event.target.contentWindow));
}});
</script>"""


def in_browser(page: Path, look: str, *, width: int = 1100, dark: bool = False) -> Any:
    """What the JavaScript function `look(document, window)` says of the page in a frame `width` pixels wide."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM}; on Debian: apt-get install chromium")
    probe = page.with_name(f"probe-{page.name}")
    probe.write_text(AROUND.format(page=page.name, width=width, look=look), encoding="utf-8")
    profile = page.with_name(f"profile-{page.stem}")
    shutil.rmtree(profile, ignore_errors=True)
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [CHROMIUM, *FLAGS, *scheme, f"--user-data-dir={profile}", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None and found.group(1), done.stderr
    return json.loads(html.unescape(found.group(1)))
