"""HTML of results: templates filled with values, for pages and notebooks."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from mechconn.core import SPLITS, Picture, abbreviate_split
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
    templates.filters["short"] = abbreviate_split
    templates.filters |= {"svg": _draw_inline, "url": _make_data_url, "meaning": _describe_split}
    templates.filters["csv_url"] = _make_csv_url
    return templates.get_template(template).render(**values)


def _draw_inline(drawing: Drawing) -> Any:
    """A drawing as an element of a page."""
    from markupsafe import Markup

    return Markup(inline_svg(drawing.draw, drawing.description))


def _describe_split(name: str) -> str:
    """What a split of the paper holds, in words; of any other its name."""
    return SPLITS[name][1] if name in SPLITS else name


def _make_data_url(picture: Picture) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode()


def _make_csv_url(text: str) -> str:
    """A table as text, as an address that holds it."""
    return "data:text/csv;charset=utf-8," + quote(text)


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
