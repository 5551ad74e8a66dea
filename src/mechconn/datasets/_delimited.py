"""Tables of text as rows of fields: no row is lost, merged or padded.

RFC 4180 puts a field with a delimiter, a line end or a quotation mark between quotation marks and doubles those within.
Others write lines as they are, with marks that belong to the text (GLUE's .tsv files). A file is read in both ways, and
refused where that leaves open what the marks mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mechconn.datasets._spaced import read_spaced_rows

Quoting: TypeAlias = Literal["auto", "minimal", "none"]
QUOTINGS: tuple[Quoting, ...] = ("auto", "minimal", "none")
"""Whether quotation marks are found to quote, do quote, or are text."""

QUOTING_ADVICE = (
    'quoting="minimal" (marks quote fields, doubled within) or quoting="none" (marks are text); an argument of load, '
    "load_splits and load_column, in a configuration under [images]"
)


@dataclass
class DelimitedReading:
    """A file read in one way.

    Attributes:
        rows: the fields of each row, the header first.
        lines: the line, from 1, on which each row starts.
        fault: why the file cannot be read in this way; empty where it can.
    """

    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    fault: str = ""

    def add(self, fields: list[str], line: int, blank: bool) -> None:
        """One row more; blank lines are none, but in a table of one column empty values."""
        if blank and not (self.rows and len(self.rows[0]) == 1):
            return
        self.rows.append(fields)
        self.lines.append(line)
        wanted = len(self.rows[0])
        if len(fields) != wanted:
            self.fault = (
                f"row {len(self.rows) - 2} (line {line}) has {_count_fields(len(fields))}, but the header has {wanted}"
            )


def read_rows(file: Path, quoting: Quoting = "auto") -> list[list[str]]:
    """The rows of a .csv, .tsv or .txt file in UTF-8, the header first; every row has as many fields as the header.

    Args:
        file: .tsv is divided by tabs; .txt by tabs where its first line has some, else by spaces (see
            `read_spaced_rows`); any other by commas. Lines end in LF, CR LF or CR.
        quoting: "minimal": quotation marks quote, as in RFC 4180; "none": they are text, and every line is a row;
            "auto": the one way in which the file can be read. Where it can be read in both, marks quote if they are
            around names in the header, or if it is a .csv file of as many rows either way; else the file is refused.

    Raises:
        ValueError: the file is not UTF-8, a row has more or fewer fields than the header, the marks are not those of
            quoted fields, or what they are cannot be decided.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} cannot be read as a table in UTF-8 ({error}); save it again as .csv or .tsv"
        ) from error
    if file.suffix == ".txt" and "\t" not in text.partition("\n")[0]:
        return read_spaced_rows(file, text)
    delimiter = "\t" if file.suffix in (".tsv", ".txt") else ","
    if quoting == "none" or (quoting == "auto" and '"' not in text):
        return _check_sound(file, _read_raw(text, delimiter))
    quoted = _read_quoted(text, delimiter)
    return (
        _check_sound(file, quoted)
        if quoting == "minimal"
        else _choose_reading(file, quoted, _read_raw(text, delimiter), delimiter)
    )


def _check_sound(file: Path, found: DelimitedReading, hint: str = "correct the file") -> list[list[str]]:
    if found.fault:
        raise ValueError(f"{file}: {found.fault}; {hint}")
    return found.rows


def _choose_reading(file: Path, quoted: DelimitedReading, raw: DelimitedReading, delimiter: str) -> list[list[str]]:
    """The rows in the one way that is sound."""
    if raw.rows and any(map(_is_quoted, raw.rows[0])):
        return _check_sound(file, quoted, f"correct the line, or pass {QUOTING_ADVICE}")
    if quoted.fault and raw.fault:
        raise ValueError(
            f"{file} can be read neither with quotation marks that quote ({quoted.fault}) nor with marks that are text "
            f"({raw.fault}); correct the file"
        )
    if raw.fault:
        return quoted.rows
    if quoted.fault:
        # A .csv file whose fields are quoted, but for a mistake, is not one of text that is full of marks.
        if delimiter == "," and any(map(_is_quoted, (value for row in raw.rows for value in row))):
            return _check_sound(file, quoted, f"correct the line, or pass {QUOTING_ADVICE}")
        return raw.rows
    if delimiter == "," and quoted.lines == raw.lines:
        return quoted.rows
    row = next((k for k, (a, b) in enumerate(zip(quoted.rows, raw.rows, strict=False)) if a != b), 0)
    raise ValueError(
        f"{file} line {raw.lines[row]}: quotation marks may quote fields ({len(quoted.rows) - 1} rows in the file) or "
        f"be text ({len(raw.rows) - 1} rows); pass {QUOTING_ADVICE}"
    )


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def _find_line_end(text: str) -> str:
    """What ends a line, as a pattern: CR alone only where no line ends otherwise."""
    return r"\r?\n" if "\n" in text else r"\r"


def _read_raw(text: str, delimiter: str) -> DelimitedReading:
    """Every line is a row, divided at each delimiter."""
    found, end = DelimitedReading(), _find_line_end(text)
    lines = re.split(end, text)
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            found.fault = f"line {number} holds a carriage return"
        else:
            found.add(line.split(delimiter), number, blank=not line)
        if found.fault:
            break
    return found


def _read_quoted(text: str, delimiter: str) -> DelimitedReading:
    """As the grammar of RFC 4180 has it: a field is wholly in marks, doubled within, or has none."""
    found, row, first = DelimitedReading(), [], 1
    line, newline = first, "\n" if "\n" in text else "\r"
    for match in _match_fields(text, delimiter):
        if isinstance(match, str):
            found.fault = f"line {line}: {match}"
            break
        inner, plain, end = match.groups()
        row.append(plain if inner is None else inner.replace('""', '"'))
        line += match[0].count(newline)
        if end == delimiter:
            continue
        found.add(row, first, blank=row == [""] and inner is None)
        if found.fault:
            break
        row, first = [], line
    return found


def _match_fields(text: str, delimiter: str) -> Iterator[re.Match[str] | str]:
    """(inside of marks or None, plain text or None, what ended it) field by field, or why there is none; then ends."""
    end, place = _find_line_end(text), 0
    pattern = re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"{delimiter}\r\n]*+))({delimiter}|{end}|\Z)')
    # An end of line at the end of the file begins no row; a delimiter there does begin a field.
    while place < len(text) or (text and text[-1] == delimiter):
        match = pattern.match(text, place)
        if match is None:
            yield _explain_mistake(text, place, delimiter)
            return
        yield match
        if match[3] == "":
            return
        place = match.end()


def _explain_mistake(text: str, place: int, delimiter: str) -> str:
    """Why no field starts at `place`."""
    if text[place] != '"':
        plain = re.compile(rf'[^"{delimiter}\r\n]*+').match(text, place)
        assert plain is not None
        within = plain.end() < len(text) and text[plain.end()] == '"'
        return "a quotation mark within a field that is not quoted" if within else "a carriage return within the line"
    closed = re.compile(r'"[^"]*+(?:""[^"]*+)*+"').match(text, place)
    return "a quotation mark that is never closed" if closed is None else "text behind a closing quotation mark"


def _count_fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"
