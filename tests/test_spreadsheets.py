"""The workbook: read by a library that shares no code with its writer, it holds each number and each text as it was."""

import tracemalloc
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.utils.escape import unescape

from techmarket import spreadsheets
from techmarket.spreadsheets import MAX_CELL_UNITS, MAX_WIDTH, MAX_XLSX_ROWS, TooManyRows, write_xlsx

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MONEY = st.decimals(Decimal("-9999999999999.99"), Decimal("9999999999999.99"), places=2)


def write(rows: Iterable[Sequence[object]], header: Sequence[str] = ("number", "text")) -> Any:
    """Write a workbook, and return its sheet as read."""
    file = BytesIO()
    write_xlsx(header, rows, file)
    return load_workbook(file).active


def write_cells(*cells: object) -> list[Any]:
    """Write the cells below each other, and return them as read."""
    return [row[0] for row in write(([cell] for cell in cells), ["cell"]).iter_rows(min_row=2)]


@settings(deadline=None)
@given(st.lists(MONEY, min_size=1))
def test_money_is_a_number_to_the_kopiyka(amounts: list[Decimal]) -> None:
    cells = write_cells(*amounts)
    assert [Decimal(repr(cell.value)) for cell in cells] == amounts
    assert {(cell.data_type, cell.number_format) for cell in cells} == {("n", "#,##0.00")}


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1))
def test_text_comes_back(texts: list[str]) -> None:
    """Also control characters, which XML cannot hold, and text that looks like an escaped one."""
    cells = write_cells(*texts)
    assert [unescape(cell.value) for cell in cells] == texts and {cell.data_type for cell in cells} == {"s"}


def test_no_text_is_a_formula_or_a_link_or_breaks_the_file() -> None:
    texts = [f"{sign}1+1" for sign in FORMULA_STARTS] + ["{=1+1}", "https://evil.example", "a\x00b\x0bc", "\ufffe\uffff", "_x0041_", "007"]
    cells = write_cells(*texts)
    assert [unescape(cell.value) for cell in cells] == texts
    assert {cell.data_type for cell in cells} == {"s"} and not any(cell.hyperlink for cell in cells)
    [surrogate] = write_cells("a\ud800b")
    assert surrogate.value == "a\\ud800b"


def test_long_text_is_cut_where_it_can_be_seen() -> None:
    whole, cut, wide = (cell.value for cell in write_cells("x" * MAX_CELL_UNITS, "x" * (MAX_CELL_UNITS + 1), "😀" * MAX_CELL_UNITS))
    assert whole == "x" * MAX_CELL_UNITS and cut == "x" * (MAX_CELL_UNITS - 1) + "…"
    assert wide == "😀" * (MAX_CELL_UNITS // 2) + "…"


def test_number_or_date_that_a_spreadsheet_would_change_is_text() -> None:
    """It stores 15 digits of a number, and no date before 1900."""
    exact = write_cells(7, -(10**15) + 1, date(2026, 1, 31), None)
    assert [cell.value for cell in exact[:2]] == [7, -(10**15) + 1] and exact[2].value.date() == date(2026, 1, 31)
    assert [cell.number_format for cell in exact[:3]] == ["0", "0", "yyyy-mm-dd"]
    texts = write_cells(2**63 - 1, Decimal("12345678901234.56"), date(1899, 12, 31))
    assert [cell.value for cell in texts] == ["9223372036854775807", "12345678901234.56", "1899-12-31"]


def test_header_is_bold_and_frozen_and_columns_fit() -> None:
    sheet = write([(1, "x" * 500), (2, None)])
    assert [cell.value for cell in sheet[1]] == ["number", "text"] and all(cell.font.bold for cell in sheet[1])
    assert sheet.freeze_panes == "A2" and sheet["B3"].value is None
    narrow, wide = (sheet.column_dimensions[letter].width for letter in "AB")
    assert len("number") < narrow < 10 and MAX_WIDTH < wide < MAX_WIDTH + 4


def test_more_rows_than_a_sheet_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut: XlsxWriter would leave out the rest."""
    assert MAX_XLSX_ROWS == 1_048_575
    monkeypatch.setattr(spreadsheets, "MAX_XLSX_ROWS", 2)
    assert write([(1, "a"), (2, "b")]).max_row == 3
    with pytest.raises(TooManyRows):
        write([(1, "a"), (2, "b"), (3, "c")])


def test_memory_does_not_grow_with_the_rows() -> None:
    with TemporaryFile() as file:
        write_xlsx(["number", "text"], [], file)
        tracemalloc.start()
        write_xlsx(["number", "text"], ((number, f"{number:0200}") for number in range(10_000)), file)
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_000_000, "the texts alone are twice as large"
