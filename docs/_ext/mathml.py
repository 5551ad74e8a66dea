"""Equations as MathML, which browsers draw without scripts or fonts from elsewhere; docutils converts them."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def write_mathml(self, node: nodes.Node, as_block: bool) -> str:
    """An equation, or its source and a warning where it cannot be converted."""
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("no MathML for %r: %s", node.astext(), error, location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def visit_inline(self, node: nodes.math) -> None:
    """An equation in a line of text."""
    self.body.append(write_mathml(self, node, as_block=False))
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    """An equation of its own, which scrolls where it is wider than the page."""
    self.body.append(f'<div class="equation">{write_mathml(self, node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer that conf.py names."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
