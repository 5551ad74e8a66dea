"""Figures as parts of a page: SVG text that takes its text colour from the page, and pictures as PNG files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any
from warnings import catch_warnings, filterwarnings

from mechconn.core import Picture
from mechconn.plotting._labels import escape_label

INK = "#010203"  # stands for the page's own text colour, put in when the SVG is done
SMALLEST, LARGEST = 0.75, 1.25
"""How far a page shrinks a figure and magnifies it: letters stay legible, and no larger than the page's own."""


def inline_svg(draw: Callable[[], Any], description: str, name: str) -> str:
    """A matplotlib figure as an element of a page, in the page's own text colour.

    Args:
        draw: gives the figure.
        description: what it shows, in words.
        name: stands before its identifiers, so that no two figures of a page share one.
    """
    from matplotlib import rc_context

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "mechconn path",
        "font.family": "sans-serif",
        "font.size": 10,
        **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    }
    with rc_context(style), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from")  # the letters are the reader's own, and no font is embedded
        figure = draw()
        figure.patch.set_alpha(0.0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _make_inline(buffer.getvalue(), description, name)


def draw_sheet(pictures: Mapping[str, Picture], title: str) -> bytes:
    """Strips of samples under each other with their splits' names, as a PNG file."""
    from matplotlib.figure import Figure

    widest, heights = max(p.width for p in pictures.values()), [p.height for p in pictures.values()]
    inches = 8.0 * sum(heights) / widest
    figure = Figure(figsize=(9.5, inches + 1.0), dpi=150, layout="constrained")
    figure.suptitle(escape_label(title, 110))
    rows = figure.subplots(len(pictures), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (split, picture) in zip(rows, pictures.items(), strict=True):
        axes.imshow(picture.pixels(), interpolation="nearest")
        axes.set_ylabel(escape_label(split), rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def encode_png(picture: Picture) -> bytes:
    """A picture as a PNG file."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, picture.pixels(), format="png")
    return buffer.getvalue()


def _make_inline(svg: str, description: str, name: str) -> str:
    """An SVG file's text as an element of a page: scaled to it, in its colours, described."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', _limit_width, body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # nothing refers to these, and a page may hold many figures
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = body.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    return body.replace(INK, "currentColor")


def _limit_width(found: re.Match[str]) -> str:
    """The element's beginning, with limits of its width in place of the width in points."""
    least, most = (f"{scale * float(found[2]):.0f}pt" for scale in (SMALLEST, LARGEST))
    return f'{found[1]} style="max-width: {most}; min-width: min(34rem, {least})"'
