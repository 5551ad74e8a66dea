"""HTML of results: templates filled with values, for pages and notebooks."""

from __future__ import annotations

import base64
from itertools import count
from typing import Any

from mechconn.core import Picture
from mechconn.plotting._sections import Drawing
from mechconn.plotting._svg import encode_png, inline_svg


def render_template(template: str, package: str = "plotting", **values: Any) -> str:
    """HTML from a template, a file of a package of ours; every template may build on those of this package."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=ChoiceLoader([PackageLoader("mechconn", name) for name in dict.fromkeys((package, "plotting"))]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = count()
    templates.filters |= {
        "svg": lambda drawing: _draw_inline(drawing, f"figure-{next(figures)}"),
        "url": _make_data_url,
        "download": _make_download,
    }
    return templates.get_template(template).render(**values)


def _draw_inline(drawing: Drawing, name: str) -> Any:
    """A drawing as an element of a page."""
    from markupsafe import Markup

    return Markup(inline_svg(drawing.draw, drawing.description, name))


def _make_data_url(picture: Picture) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode()


def _make_download(text: str, file: str) -> str:
    """A file as an address that holds it."""
    kind = "application/json" if file.endswith(".json") else "text/csv"
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode(errors='backslashreplace')).decode()}"


def flatten_settings(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, dict):
            rows += flatten_settings(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "none" if value is None else str(value)))
    return rows
