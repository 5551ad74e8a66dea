"""A record as one HTML file: no scripts from elsewhere, no fonts, no images beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mechconn.core import SPLITS, Picture, abbreviate_split, write_atomically
from mechconn.losses import NATS, find_loss_unit
from mechconn.mechanisms import AuditRecord
from mechconn.plotting import encode_png
from mechconn.report._demo_record import DemoRecord
from mechconn.report._path_figure import draw_path_figure


@runtime_checkable
class HasRecord(Protocol):
    """A result that becomes a record, such as `mechconn.Audit`."""

    def to_record(self) -> dict[str, Any]:
        """Plain values."""
        ...


def save_report(result: DemoRecord | AuditRecord | HasRecord, file: str | Path) -> None:
    """Write a result as a self-contained HTML page; the file appears whole or not at all.

    Args:
        result: an `Audit`, its record, or what `mechconn demo` returns; the page is made from the record alone.
        file: where to write; an existing file is replaced.

    Raises:
        OSError: the folder does not exist or cannot be written.
        TypeError: the result is none that has a page.
    """
    if not isinstance(result, DemoRecord | AuditRecord):
        plain = result.to_record() if isinstance(result, HasRecord) else {}
        if "findings" not in plain:
            raise TypeError(f"a {type(result).__name__} has no page; pass an Audit, or a record of one")
        result = AuditRecord.of(plain)
    write_atomically(
        Path(file), (_render_demo(result) if isinstance(result, DemoRecord) else _render_audit(result)).encode()
    )


def _render_demo(record: DemoRecord) -> str:
    return _render_page(
        "demo.html.j2", record, timings=record.timings, unit=NATS, figure=draw_path_figure(record.path, NATS)
    )


def _render_audit(record: AuditRecord) -> str:
    unit = find_loss_unit(record.settings)
    figures = {which: draw_path_figure(path, unit) for which, path in record.paths.items()}
    return _render_page("audit.html.j2", record, timings={"all": record.seconds}, unit=unit, figures=figures)


def _render_page(template: str, record: DemoRecord | AuditRecord, **values: Any) -> str:
    strips = {name: make_data_url(picture) for name, picture in record.pictures.items()}
    settings = flatten_settings(record.settings)
    return render_template(template, record=record, splits=SPLITS, strips=strips, settings=settings, **values)


def render_template(template: str, package: str = "report", **values: Any) -> str:
    """A page from its template, a file of a package of ours; every template may build on those of this package."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=ChoiceLoader([PackageLoader("mechconn", name) for name in dict.fromkeys((package, "report"))]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["short"] = abbreviate_split
    return templates.get_template(template).render(**values)


def make_data_url(picture: Picture) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode()


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
