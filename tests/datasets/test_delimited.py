"""Tables of text with quotation marks: what was written is read, or refused in one line; no row is lost or merged."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_files import pixels, write_class_folder
from mechconn.datasets import load, load_column, load_splits

NAMES = ("one", "two", "three")
# What ends lines or fields, what quotes, and what Python's own splitting into lines would take for an end.
SIGNS = st.sampled_from('"",\t\n\r\x0b\x85\u2028 ab1\N{BOM}')
VALUES = st.text(SIGNS, min_size=1, max_size=5)
TABLES = st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1))
ENDS, ENCODINGS = st.sampled_from(["\r\n", "\n"]), st.sampled_from(["utf-8", "utf-8-sig"])


def read(file: Path, width: int, **how: Any) -> list[list[str]] | None:
    """All rows, column by column; None where the file is refused."""
    try:
        columns = [load_column(file, name, **how) for name in NAMES[:width]]
    except ValueError as error:
        assert str(error).startswith(str(file)) and len(str(error).splitlines()) == 1
        return None
    return [list(map(str, row)) for row in zip(*columns, strict=True)]


def written(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def by_csv(rows: list[list[str]], **how: Any) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, **how).writerows(rows)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@hypothesis.settings(max_examples=150)
@given(
    rows=TABLES,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE]),
    suffix=st.sampled_from(["csv", "tsv"]),
    end=ENDS,
    encoding=ENCODINGS,
)
def test_what_a_csv_writer_wrote_is_read_or_refused(
    folder: Path, rows: list[list[str]], quoting: Any, suffix: str, end: str, encoding: str
) -> None:
    width, how = len(rows[0]), {"quoting": quoting, "delimiter": {"csv": ",", "tsv": "\t"}[suffix]}
    try:
        text = by_csv([list(NAMES[:width]), *rows], lineterminator=end, **how)
    except csv.Error:  # without quoting, a field that needs it
        hypothesis.reject()
    # Python before 3.13 leaves a CR unquoted where lines end in LF; at a line's end it becomes a part of that.
    hypothesis.assume(quoting == csv.QUOTE_ALL or not (end == "\n" and "\r" in text))
    file = written(folder / f"written.{suffix}", text, encoding)
    found = read(file, width)
    assert found == rows or (found is None and quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE))
    if quoting != csv.QUOTE_NONE:
        assert read(file, width, quoting="minimal") == rows


@hypothesis.settings(max_examples=150)
@given(rows=TABLES, end=ENDS, encoding=ENCODINGS, last=st.booleans())
def test_joined_lines_are_read_or_refused(
    folder: Path, rows: list[list[str]], end: str, encoding: str, last: bool
) -> None:
    """As GLUE's files are written: no quoting, so no value can hold a tab or an end of line."""
    rows = [[value.translate(dict.fromkeys(map(ord, "\t\n\r"))) or "x" for value in row] for row in rows]
    text = end.join("\t".join(row) for row in [list(NAMES[: len(rows[0])]), *rows]) + end * last
    file = written(folder / "joined.tsv", text, encoding)
    found = read(file, len(rows[0]))
    assert found == rows or (found is None and '"' in text)
    assert read(file, len(rows[0]), quoting="none") == rows


GLUE = (
    'one\ttwo\n1\tAmrozi accused his brother , whom he called " the witness " , of lying .\n0\t" I see , he said .\n'
    '1\t"" Quoted twice""\n0\t"\n'
)


def test_marks_that_belong_to_the_text_are_kept(tmp_path: Path) -> None:
    file = written(tmp_path / "train.tsv", GLUE)
    assert load_column(file, "one") == ("1", "0", "1", "0")
    assert load_column(file, "two")[1:] == ('" I see , he said .', '"" Quoted twice""', '"')


READ: dict[str, tuple[str, list[list[str]]]] = {
    "quoted": ('one,two\n"a, b","c\nd"\n"say ""hi""",e\n', [["a, b", "c\nd"], ['say "hi"', "e"]]),
    "marks in csv": ('one,two\n"a","b"\n', [["a", "b"]]),
    "inches": ('one,two\n5" disk,b\n', [['5" disk', "b"]]),
    "ends of lines": ("\n\r\none,two\r\na,b\n\nc,d\r\n\r\n\n", [["a", "b"], ["c", "d"]]),
    "old ends of lines": ('one,two\ra,b\r"c\rd",e', [["a", "b"], ["c\rd", "e"]]),
    "no column's name": (",one,two,\n0,a,b,\n1,c,d,", [["a", "b"], ["c", "d"]]),
    "other signs": ("one,two\na\x0bb\u2028c,\x85\n", [["a\x0bb\u2028c", "\x85"]]),
}


@pytest.mark.parametrize("case", READ)
def test_tables_as_they_come(tmp_path: Path, case: str) -> None:
    text, rows = READ[case]
    assert read(written(tmp_path / "t.csv", text), 2) == rows


def test_a_header_in_marks_says_that_fields_are_quoted(tmp_path: Path) -> None:
    file = written(tmp_path / "t.tsv", '"one"\t"two"\n"a"\t"b"\n"c"\t"d\n\te"\n')
    assert read(file, 2) == [["a", "b"], ["c", "d\n\te"]]


def test_marks_that_may_mean_two_things_are_refused_and_both_remedies_work(tmp_path: Path) -> None:
    """Two rows, or one whose value runs over two lines; one row whose marks are part of it, or not."""
    two: list[tuple[str, int, list[list[str]], list[list[str]]]] = [
        ('one\ttwo\n"Yes\t1\nNo"\t0\n', 2, [["Yes\t1\nNo", "0"]], [['"Yes', "1"], ['No"', "0"]]),
        ('one\ttwo\na\tb\n"Yes"\t1\n', 3, [["a", "b"], ["Yes", "1"]], [["a", "b"], ['"Yes"', "1"]]),
    ]
    for text, line, quoted, raw in two:
        file = written(tmp_path / "t.tsv", text)
        with pytest.raises(ValueError) as caught:
            load_column(file, "two")
        assert str(caught.value) == (
            f"{file} line {line}: quotation marks may quote fields ({len(quoted)} rows in the file) or be text "
            f'({len(raw)} rows); pass quoting="minimal" (marks quote fields, doubled within) or quoting="none" (marks '
            "are text); an argument of load, load_splits and load_column, in a configuration under [images]"
        )
        assert read(file, 2, quoting="minimal") == quoted and read(file, 2, quoting="none") == raw


REFUSED = {
    "more": (
        "t.csv",
        "one,two\na,b\n\nc,d,e\n",
        ": row 1 (line 4) has 3 fields, but the header has 2; correct the file",
    ),
    "fewer": ("t.tsv", "one\ttwo\na\n", ": row 0 (line 2) has 1 field, but the header has 2; correct the file"),
    "after a long row": (
        "t.csv",
        'one,two\n"a\nb",c\n"d"\n',
        " can be read neither with quotation marks that quote (row 1 (line 4) has 1 field, but the header has 2) nor "
        "with marks that are text (row 0 (line 2) has 1 field, but the header has 2); correct the file",
    ),
    "never closed": (
        "t.csv",
        '"one","two"\n"a","b\n',
        ': line 2: a quotation mark that is never closed; correct the line, or pass quoting="minimal"',
    ),
    "a slip among quoted fields": (
        "t.csv",
        'one,two\n"a","b"\n"c","d" e\n',
        ': line 3: text behind a closing quotation mark; correct the line, or pass quoting="minimal"',
    ),
    "a mark within": (
        "t.csv",
        'one,two\n"a, b",c"d\n',
        " can be read neither with quotation marks that quote (line 2: a quotation mark within a field that is not "
        "quoted) nor with marks that are text (row 0 (line 2) has 3 fields, but the header has 2); correct the file",
    ),
    "carriage return": ("t.tsv", "one\ttwo\na\tb\rc\n", ": line 2 holds a carriage return; correct the file"),
    "a blank value": ("t.csv", "one\na\n\n", " row 1: column 'one' is empty; every row needs a value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_are_refused(tmp_path: Path, case: str) -> None:
    name, text, expected = REFUSED[case]
    file = written(tmp_path / name, text)
    with pytest.raises(ValueError) as caught:
        load_column(file, "one")
    assert str(caught.value).startswith(f"{file}{expected}") and "\n" not in str(caught.value)


def test_the_way_that_was_asked_for_is_kept_to(tmp_path: Path, unchecked: None) -> None:
    file = written(tmp_path / "t.csv", 'one,two\n"a","b"\n')
    assert read(file, 2, quoting="none") == [['"a"', '"b"']]
    written(file, 'one,two\n5" disk,b\n')
    with pytest.raises(
        ValueError, match="line 2: a quotation mark within a field that is not quoted; correct the file"
    ):
        load_column(file, "one", quoting="minimal")
    for reader in (
        load,
        lambda file, **how: load_column(file, "one", **how),
        lambda f, **how: load_splits({"cue": f}, **how),
    ):
        with pytest.raises(
            ValueError, match="quoting must be one of 'auto', 'minimal', 'none', got 'non'; did you mean"
        ):
            reader(file, quoting="non")  # pyright: ignore[reportArgumentType]


def test_images_are_listed_with_marks(tmp_path: Path) -> None:
    """The file's own remedy reaches every reader: columns, images, and splits of them."""
    write_class_folder(tmp_path, {'"0.png"': pixels(0), "0.png": pixels(1)})
    file = written(tmp_path / "t.tsv", 'file\tlabel\tsplit\n"0.png"\ta\ttest\n')
    with pytest.raises(ValueError, match=r"line 2: quotation marks may quote fields \(1 rows in the file\) or be text"):
        load_splits({"cue": f"{file}#test"})
    for quoting, value in (("minimal", 1), ("none", 0)):
        found = load_splits({"cue": f"{file}#test"}, quoting=quoting)["cue"]  # pyright: ignore[reportArgumentType]
        assert load_splits({"cue": file}, quoting=quoting)["cue"].y.tolist() == [0]  # pyright: ignore
        assert found.x[0, 0, 0, 0] == value == load(file, split="test", quoting=quoting).x[0, 0, 0, 0]  # pyright: ignore
