"""Exports: what a spreadsheet reads of a file is the text that was written, and never a formula, whatever separates the cells."""

import csv
import io
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.utils.escape import unescape

from techmarket.spreadsheets import BYTE_ORDER_MARK, write_csv, write_xlsx
from tests.fuzz.inputs import fuzzed, spliced, texts

FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# Excel and LibreOffice take the separator of the region: in Ukraine and in most of Europe the semicolon. Neither reads the header first.
SEPARATORS = (",", ";", "\t")
formulas = spliced(
    ["", " ", "\t", "\r", "\n", "\xa0", "'", '"', '""', "\ufeff", "\u200b", ";", "\x00", "a;", "a\t", "a\n", 'a";'],
    list(FORMULAS),
    ["1+1", "cmd|' /C calc'!A0", 'HYPERLINK("http://evil.example")', "SUM(A1;A2)", ""],
    ["", ";", ",", "\n", '"', "; =2"],
)
cells = st.lists(st.one_of(formulas, texts), min_size=1, max_size=4)


def is_formula(cell: str) -> bool:
    """Return True for what a spreadsheet may evaluate; some skip spaces and what is invisible before the sign."""
    shown = [letter for letter in cell if not letter.isspace() and letter != '"' and unicodedata.category(letter) not in ("Cc", "Cf")]
    return bool(shown) and shown[0] in FORMULAS


@pytest.mark.parametrize("separator", SEPARATORS)
@fuzzed(2)
@given(row=cells)
@example(row=["x;=1+1", 'x";=HYPERLINK("http://evil.example")', " =1", "\ufeff=1"])
@example(row=["a\n=1+1", "a\r@SUM(A1)", "a\t=1"])
def test_no_cell_is_a_formula_whatever_separates_cells(separator: str, row: list[str]) -> None:
    whole = "".join(write_csv(["name"], [row])).removeprefix(BYTE_ORDER_MARK)
    read = csv.reader(io.StringIO(whole, newline=""), delimiter=separator)
    assert not [cell for cells in read for cell in cells if is_formula(cell)]


@fuzzed()
@given(row=cells)
def test_texts_that_are_no_formulas_are_read_back(row: list[str]) -> None:
    plain = [cell for cell in row if not re.search(r"[=+\-@＝＋－＠\t\r\n]", cell)]
    whole = "".join(write_csv(["name"], [plain])).removeprefix(BYTE_ORDER_MARK)
    assert list(csv.reader(io.StringIO(whole, newline="")))[1:] == ([plain] if plain else [[]])


@fuzzed(0.1)
@given(row=cells)
def test_workbook_has_the_texts_and_no_formula(row: list[str]) -> None:
    file = io.BytesIO()
    write_xlsx(["name"] * len(row), [row], file)
    sheet: Any = load_workbook(file).active
    [read] = sheet.iter_rows(min_row=2)
    assert {cell.data_type for cell in read} <= {"s", "n"} and not any(cell.hyperlink for cell in read)
    shown = [unescape(cell.value or "") for cell in read]
    assert [normalize(text) for text in shown] == [normalize(text) for text in row]


def normalize(text: str) -> str:
    """Return the text without what XML cannot hold: lone surrogates, which are escaped, and differences of line ends."""
    return re.sub(r"\r\n?|_x000D_", "\n", text.encode("utf-8", "backslashreplace").decode())
