"""Files that a spreadsheet opens as they are: CSV in UTF-8 with a byte order mark, and XLSX. It takes no cell for a formula."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import IO, Any

BYTE_ORDER_MARK = "\ufeff"
SIGNS = r"=+\-@＝＋－＠"  # with which a formula begins; the last four are full-width
# What some spreadsheets skip before the sign: spaces, quotes, controls, and what is invisible.
SKIPPED = r"[\s\x00-\x20\"\x7f-\xa0\u200b-\u200f\u2028-\u202f\ufeff]*"
# Where a cell may begin: at the text's begin, or after what separates cells or rows elsewhere than here: in Ukraine it is the semicolon.
FORMULA = re.compile(rf"\A(?=[\t\r\n])|(?:\A|(?<=[;\t\r\n]))(?={SKIPPED}[{SIGNS}])")

MAX_XLSX_ROWS = 2**20 - 1  # of a sheet, below the header
MAX_CELL_UNITS = 32_767  # of UTF-16
MAX_DIGITS = 15  # that a spreadsheet stores of a number
MAX_WIDTH = 60  # of a column, in characters
CELL_FORMATS = {int: "0", Decimal: "#,##0.00", date: "yyyy-mm-dd"}
# Rows wait in a file. No text becomes a formula or a link.
XLSX_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


class TooManyRows(Exception):
    """There are more rows than a sheet holds."""


class LineBuffer:
    """A file for the csv module whose `write` returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of the file. Numbers are written as they are, None as an empty cell."""
    writer = csv.writer(LineBuffer())
    yield BYTE_ORDER_MARK + writer.writerow(header)
    for row in rows:
        yield writer.writerow([cell if cell is None or isinstance(cell, int | Decimal) else escape_formula(str(cell)) for cell in row])


def escape_formula(cell: str) -> str:
    """Return the text with an apostrophe wherever a spreadsheet may see a cell begin that is a formula."""
    return FORMULA.sub("'", cell)


def write_xlsx(header: Sequence[str], rows: Iterable[Sequence[object]], file: IO[bytes]) -> None:
    """Write a workbook of one sheet in constant memory. Raises TooManyRows."""
    from xlsxwriter import Workbook  # takes 0.2 s, and few programs write XLSX

    with TemporaryDirectory() as folder, Workbook(file, XLSX_OPTIONS | {"tmpdir": folder}) as workbook:
        workbook.use_zip64()  # a sheet of more than 4 GB
        formats = {kind: workbook.add_format({"num_format": pattern}) for kind, pattern in CELL_FORMATS.items()}
        sheet = workbook.add_worksheet()
        sheet.freeze_panes(1, 0)
        sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
        sheet.write_row(0, 0, header, workbook.add_format({"bold": True}))
        widths = [len(name) for name in header]
        for number, row in enumerate(rows, 1):
            if number > MAX_XLSX_ROWS:
                raise TooManyRows
            for column, cell in enumerate(row):
                write_cell(sheet, number, column, cell, formats)
                widths[column] = max(widths[column], len(str(cell)))
        for column, width in enumerate(widths):
            sheet.set_column(column, column, min(width, MAX_WIDTH) + 2)


def write_cell(sheet: Any, row: int, column: int, cell: object, formats: Mapping[type, Any]) -> None:
    """Write a number or a date as such where a spreadsheet stores it exactly, anything else as text, and None as an empty cell."""
    if type(cell) in formats and is_exact(cell):
        sheet.write(row, column, cell, formats[type(cell)])
    elif cell is not None:
        sheet.write_string(row, column, fit_text(str(cell)))


def is_exact(cell: object) -> bool:
    """Return True if a spreadsheet stores the number or the date without loss: its calendar begins in 1900, and it has no NaN."""
    if isinstance(cell, Decimal | int):
        return Decimal(cell).is_finite() and len(Decimal(cell).as_tuple().digits) <= MAX_DIGITS
    return isinstance(cell, date) and cell.year >= 1900


def fit_text(text: str) -> str:
    """Return the text with lone surrogates escaped, cut where it is longer than a cell holds. XlsxWriter escapes control characters."""
    units = text.encode("utf-16-le", "backslashreplace")
    if len(units) <= 2 * MAX_CELL_UNITS:
        return units.decode("utf-16-le")
    return units[: 2 * (MAX_CELL_UNITS - 1)].decode("utf-16-le", "ignore") + "…"
