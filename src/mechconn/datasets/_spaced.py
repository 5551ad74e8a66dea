"""Tables of text whose fields are divided by spaces, as CelebA's lists are."""

from __future__ import annotations

from pathlib import Path

FIRST_COLUMN = "image_id"
"""What the first column is called where a header names all but it, as in CelebA's list of attributes."""


def read_spaced_rows(file: Path, text: str) -> list[list[str]]:
    """The rows of a table divided by spaces, the header first; every row has as many fields as the header.

    A first line that is one whole number tells how many rows there are, and the line after it is the header, which need
    not name the first column. Without such a line there is no header, and columns are called "0", "1", ...

    Raises:
        ValueError: another number of rows than the first line tells, a row with more or fewer fields than the others.
    """
    lines = [line.split() for line in text.splitlines()]
    numbered = [(number, fields) for number, fields in enumerate(lines, start=1) if fields]
    if not numbered:
        return []
    count = numbered[0][1][0] if len(numbered[0][1]) == 1 and numbered[0][1][0].isdecimal() else None
    if count is None:
        header, rows = [str(place) for place in range(len(numbered[0][1]))], numbered
    else:
        header, rows = list(numbered[1][1]) if len(numbered) > 1 else [], numbered[2:]
        if rows and len(rows[0][1]) == len(header) + 1:
            header = [FIRST_COLUMN, *header]
        if int(count) != len(rows):
            raise ValueError(
                f"{file} tells of {count} rows in its first line, but holds {len(rows)}; it is cut short or was "
                "changed: copy it again"
            )
    for number, fields in rows:
        if len(fields) != len(header):
            raise ValueError(f"{file} line {number} has {len(fields)} fields, not {len(header)}; correct the file")
    return [header, *(fields for _, fields in rows)]
