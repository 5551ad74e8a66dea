"""Equations as MathML, which browsers draw without scripts or fonts from elsewhere; docutils converts them."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


# Commands that docutils does not know, which others that it knows stand for.
OTHER_WORDS = (
    (r"\\([bB]igg?)(?![A-Za-z])", r"\\\1l"),
    (r"\\dots(?![A-Za-z])", r"\\ldots"),
    (r"\\texttt(?![A-Za-z])", r"\\text"),
)
# In equations of their own docutils sets an index of an accented letter below it, unless something stands beside it.
ACCENT = re.compile(r"\\(?:tilde|bar|hat|vec|dot|overline|widehat|widetilde)\s*(?:\{[^{}]*\}|\\[A-Za-z]+|\w)")


def to_known_commands(tex: str) -> str:
    """LaTeX in the commands that docutils knows; in text an underscore needs no backslash there."""
    tex = ACCENT.sub(r"{\g<0>{}}", tex)
    for pattern, other in OTHER_WORDS:
        tex = re.sub(pattern, other, tex)
    return re.sub(r"\\text\{[^{}]*\}", lambda found: found[0].replace("\\_", "_"), tex)


def write_mathml(self: Any, node: nodes.Node, as_block: bool) -> str:
    """An equation, or its source and a warning where it cannot be converted."""
    try:
        return tex2mathml(to_known_commands(node.astext()), as_block=as_block)
    except MathError as error:
        logger.warning("no MathML for %r: %s", node.astext(), error, location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def visit_inline(self: Any, node: nodes.math) -> None:
    """An equation in a line of text."""
    self.body.append(write_mathml(self, node, as_block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """An equation of its own, which scrolls where it is wider than the page."""
    self.body.append(f'<div class="equation">{write_mathml(self, node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer that conf.py names."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
