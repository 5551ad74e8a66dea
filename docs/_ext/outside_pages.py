"""Pages that stand outside of docs/ become pages of the site, and links between both are followed.

Copies are written to docs/project/, which git ignores. Links stay as GitHub reads them: relative to their own file.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "benchmarks/RESULTS.md": "benchmarks",
}
FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.M | re.S)
LINK = re.compile(r"(!?\[)([^\[\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def find_place(path: str) -> str:
    """Where the site has a file of the project; both paths are relative to the project."""
    if path == "README.md":
        return "docs/index.md"
    return f"docs/project/{PAGES[path]}.md" if path in PAGES else path


def follow_links(text: str, folder: str, new_folder: str) -> str:
    """Text with the links of a file in `folder` as they must read in `new_folder`.

    A link whose text is no more than the name of a page gets the page's title for a text: Sphinx writes it.
    """

    def follow(link: re.Match[str]) -> str:
        opening, words, target, anchor = link.groups()
        if ":" in target:
            return link[0]
        path = os.path.normpath(os.path.join(folder, target)).replace(os.sep, "/")
        place = os.path.relpath(find_place(path), new_folder).replace(os.sep, "/")
        named = opening == "[" and path.endswith(".md") and words in (path, target, os.path.basename(path))
        return f"{opening}{'' if named else words}]({place}{anchor or ''})"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(follow, part) for part in parts)


def write_if_new(path: Path, text: str) -> None:
    """Write a file whose content has changed; others keep their time, so that Sphinx does not read them again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)


def write_folder(folder: Path, pages: dict[str, str]) -> None:
    """Write pages by file name; others that an older version of the project left there are removed."""
    for name, text in pages.items():
        write_if_new(folder / name, text)
    for path in folder.iterdir():
        if path.suffix in (".md", ".rst") and path.name not in pages:
            path.unlink()


def write_pages(app: Sphinx) -> None:
    """Write the copies."""
    found = {source: app.srcdir.parent / source for source in PAGES}
    texts = {source: path.read_text(encoding="utf-8") for source, path in found.items() if path.exists()}
    pages = {source: follow_links(text, os.path.dirname(source), "docs/project") for source, text in texts.items()}
    write_folder(Path(app.srcdir) / "project", {f"{PAGES[source]}.md": text for source, text in pages.items()})


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Follow the links of a page of docs/ to files outside of it."""
    if not name.startswith(("project/", "api/")):
        folder = os.path.dirname(f"docs/{name}")
        source[0] = follow_links(source[0], folder, folder)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write pages before Sphinx looks for them."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
