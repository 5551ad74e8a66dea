"""`mc.align(...)` and other public names in the pages become links to the API; names that it has not are mistakes."""

import re

from docutils import nodes
from public_names import find_by_name, list_packages, resolve
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
CALL = re.compile(r"((?:mc\.|mechconn\.)?[A-Za-z_][\w.]*)(\(.*\)\S*)?", re.S)


def find_target(text: str) -> str | None:
    """The public name that a piece of code names or calls; functions of packages, and words of one part, need "mc."."""
    found = CALL.fullmatch(text)
    if not found:
        return None
    name = found[1]
    ours = name.startswith(("mc.", "mechconn."))
    if not ours and not re.search(r"[A-Z]|_", name):
        return None
    if ours and name.split(".", 1)[1] in list_packages():
        return "mechconn." + name.split(".")[1]
    public = resolve(name) if ours or "." not in name else None
    if public is None and ours:  # an attribute: mc.Suite.shared, or a result's
        public = find_by_name().get(name.split(".")[1])
    return public.target if public and (ours or public.flat or name[0].isupper()) else None


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap what is named in a reference, which Sphinx resolves later."""
    if app.env.docname.startswith("api/"):
        return
    for node in list(doctree.findall(nodes.literal)):
        inside = isinstance(node.parent, nodes.reference | nodes.title | pending_xref)
        target = None if inside else find_target(node.astext())
        if target:
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False,
                refdoc=app.env.docname,
            )  # fmt: skip
            node.replace_self(link)
            link += node
        elif node.astext().startswith("mc.") and not inside and not app.env.docname.startswith("project/"):  # of today
            logger.warning("mechconn has no %s", node.astext(), location=node)


def setup(app: Sphinx) -> dict[str, bool]:
    """Join once a page has been read."""
    app.connect("doctree-read", link_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
