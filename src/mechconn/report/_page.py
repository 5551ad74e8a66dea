"""A result as one self-contained HTML file, and results read back from files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Results of every package are known by their kinds once these are imported.
from mechconn import connectivity, mechanisms, merging, paper, theory
from mechconn.core import to_plain, write_atomically
from mechconn.plotting import Result, flatten_settings, make_page_parts, read_result, render_template

RESULTS = (connectivity, mechanisms, merging, paper, theory)
WRITTEN = "result.save(file), or --json of audit, reliances, dose, demo or compare, wrote"
"""Which files hold a result, in errors."""


def load_result(source: str | Path | Mapping[str, Any]) -> Result:
    """The result that `save` wrote to a file, or that `to_dict` gave: the typed one, with all it can do.

    Networks and the values of single samples are not in files; a result that was read says so where they are asked
    for. Files of release 0.1.0 are read where they hold enough.

    Args:
        source: a JSON file, or plain values: what `save`, `to_dict`, `mechconn audit --json`, `mechconn demo --json`
            gave, or a store's record of a run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON, no result, one of a newer version, or one of release 0.1.0 that lacks what is needed.

    Example:
        >>> from mechconn.connectivity import Profile
        >>> profile = Profile((0.0, 0.5, 1.0), {"cue": (1.0, 4.0, 3.0)}, {}, {"cue": 1}, "cue", (), {})
        >>> load_result(profile.to_dict()) == profile
        True
    """
    if isinstance(source, Mapping):
        return read_result(_unwrap(source))
    if not isinstance(source, str | Path):
        raise TypeError(f"expected a file or plain values, got a {type(source).__name__}; pass a path or to_dict()")
    file = Path(source)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}; name one that {WRITTEN}")
    plain = _read_json(file)
    if not isinstance(plain, dict):
        raise ValueError(f"{file} holds no result but a {type(plain).__name__}; name a file that {WRITTEN}")
    if "kind" not in plain and {"run", "results"} <= plain.keys():
        raise ValueError(
            f"{file} holds the numbers of a run and not its record; draw its page by mechconn report {plain['run']}"
        )
    return read_result(_unwrap(plain), str(file))


def _read_json(file: Path) -> Any:
    """The values of a JSON file: no key twice, no NaN, as `save` writes it."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_read_pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON ({error}); name a file that {WRITTEN}") from error


def _read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one table")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON; results hold it as a text")


def _unwrap(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result in what `mechconn demo --json` prints, or a store keeps under its hash; else the values themselves."""
    inner = plain.get("result", plain.get("record"))
    return inner if "kind" not in plain and isinstance(inner, Mapping) else plain


def save_report(result: Result | Mapping[str, Any] | str | Path, file: str | Path) -> None:
    """Write a result as a self-contained HTML page; the file appears whole or not at all.

    Args:
        result: any result, its plain values (`to_dict`), or a file that holds these. The page of a result that was read
            from a file equals that of the result that was saved.
        file: where to write; an existing file is replaced.

    Raises:
        OSError: the folder does not exist or cannot be written.
        TypeError: it is no result.
        ValueError: as `load_result`.
    """
    if not isinstance(result, Result):
        if not isinstance(result, Mapping | str | Path):
            raise TypeError(
                f"a {type(result).__name__} has no page; pass a result of mechconn, its to_dict(), or a saved file"
            )
        if isinstance(result, str | Path) and Path(result).resolve() == Path(file).resolve():
            raise ValueError(f"the page would replace the result that it is drawn of, {result}; name another file")
        result = load_result(result)
    write_atomically(Path(file), _render_result(result).encode(errors="backslashreplace"))


def _render_result(result: Result) -> str:
    settings = getattr(result, "settings", None) or getattr(result, "compute", None) or {}
    return render_template(
        "page.html.j2",
        "report",
        record=result,
        page=make_page_parts(result),
        settings=flatten_settings(to_plain(settings)),
        timings={"all": result.seconds} if isinstance(getattr(result, "seconds", None), float) else {},  # pyright: ignore
    )
