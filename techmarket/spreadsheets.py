"""CSV that a spreadsheet opens as it is: UTF-8 with a byte order mark, and no cell that it would take for a formula."""

import csv
from collections.abc import Iterable, Iterator, Sequence

BYTE_ORDER_MARK = "\ufeff"
# A spreadsheet reads a cell that starts with one of these as a formula; the last four are full-width.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class LineBuffer:
    """A file for the csv module whose `write` returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of the file. Numbers are written as they are, None as an empty cell."""
    writer = csv.writer(LineBuffer())
    yield BYTE_ORDER_MARK + writer.writerow(header)
    for row in rows:
        yield writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])


def escape_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
