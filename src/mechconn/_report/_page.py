"""A record as one HTML file: no scripts from elsewhere, no fonts, no images beside it."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

from mechconn._results import SPLITS, DemoRecord, short_name


def save_report(record: DemoRecord, file: str | Path) -> None:
    """Write a record as a self-contained HTML page; the file appears whole or not at all.

    Args:
        record: what `mechconn demo` returns; the page is made from it alone.
        file: where to write; an existing file is replaced.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from mechconn._report._figures import path_figure, png

    templates = Environment(
        loader=PackageLoader("mechconn", "_report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("demo.html.j2").render(
        record=record,
        splits=SPLITS,
        short_name=short_name,
        figure=path_figure(record.path),
        strips={
            name: "data:image/png;base64," + base64.b64encode(png(picture)).decode()
            for name, picture in record.pictures.items()
        },
        settings=list(_flat(record.settings)),
    )
    write_whole(Path(file), page.encode())


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; an existing one stays until then."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "none" if value is None else str(value)))
    return rows
