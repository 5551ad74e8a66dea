"""Tables on the terminal, none of whose words are cut."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

BORDER = 3
"""Characters that a column takes beside its text; the table has one more."""


def print_table(console: Console, table: Table) -> None:
    """Print a table; one that is wider than the terminal as a list, a block for each row.

    Cells are broken between words. Where the output is no terminal, lines are as long as the longest words need.
    """
    texts = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    least = [max((len(word) for text in own for word in text.split()), default=1) for own in texts]
    frame = BORDER * len(texts) + 1
    if sum(least) + frame > console.width and console.is_terminal:
        _print_blocks(console, table)
        return
    width = max(console.width, sum(least) + frame)
    spare = width - sum(least) - frame
    wanted = [max(map(len, own)) - low for own, low in zip(texts, least, strict=True)]
    share = min(1.0, spare / max(sum(wanted), 1))
    for column, low, more in zip(table.columns, least, wanted, strict=True):
        column.width = low + int(share * more)
    Console(width=width, file=console.file).print(table)


def _print_blocks(console: Console, table: Table) -> None:
    """`heading: value`, a line for each cell of a row, and an empty line behind each row."""
    if table.title:
        console.print(table.title, style="italic", highlight=False, markup=False)
    cells = [(str(column.header), list(column.cells)) for column in table.columns]
    for row in range(table.row_count):
        for heading, values in cells:
            if str(values[row]):
                console.print(f"{heading}: {values[row]}", highlight=False, markup=False)
        console.print()
