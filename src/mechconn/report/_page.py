"""A record as one HTML file: no scripts from elsewhere, no fonts, no images beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mechconn.core import SPLITS, Picture, short_name, write_whole
from mechconn.losses import NATS, loss_unit
from mechconn.mechanisms import AuditRecord, PathRecord
from mechconn.report._demo_record import DemoRecord


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
    write_whole(Path(file), (_demo(result) if isinstance(result, DemoRecord) else _audit(result)).encode())


def _demo(record: DemoRecord) -> str:
    return _page("demo.html.j2", record, timings=record.timings, unit=NATS, figure=_figure(record.path, NATS))


def _audit(record: AuditRecord) -> str:
    unit = loss_unit(record.settings)
    figures = {which: _figure(path, unit) for which, path in record.paths.items()}
    return _page("audit.html.j2", record, timings={"all": record.seconds}, unit=unit, figures=figures)


def _page(template: str, record: DemoRecord | AuditRecord, **values: Any) -> str:
    strips = {name: source(picture) for name, picture in record.pictures.items()}
    settings = flat(record.settings)
    return render(template, record=record, splits=SPLITS, strips=strips, settings=settings, **values)


def render(template: str, package: str = "report", **values: Any) -> str:
    """A page from its template, a file of a package of ours; every template may build on those of this package."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=ChoiceLoader([PackageLoader("mechconn", name) for name in dict.fromkeys((package, "report"))]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["short"] = short_name
    return templates.get_template(template).render(**values)


def _figure(path: PathRecord, unit: str) -> str:
    from mechconn.report._path_figure import path_figure

    return path_figure(path, unit)


def source(picture: Picture) -> str:
    """A picture as an address that holds it."""
    from mechconn.plotting import png

    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "none" if value is None else str(value)))
    return rows
