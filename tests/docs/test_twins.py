"""A document and its Ukrainian translation have the same headings, tables and code blocks, and link to each other."""

from pathlib import Path

import pytest

from tests.docs.documents import ORIGINALS, TWINS, count_cells, find_blocks, find_heading_levels, find_links

each = pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.name)


def get_original(twin: Path) -> Path:
    return twin.with_name(twin.name.replace(".uk.md", ".md"))


def test_every_translation_has_an_original() -> None:
    assert {get_original(twin) for twin in TWINS} <= set(ORIGINALS) and len(TWINS) >= 8


@each
def test_headings_have_the_same_levels(twin: Path) -> None:
    assert find_heading_levels(twin) == find_heading_levels(get_original(twin))


@each
def test_tables_have_the_same_rows(twin: Path) -> None:
    assert count_cells(twin) == count_cells(get_original(twin))


@each
def test_code_blocks_are_equal(twin: Path) -> None:
    assert find_blocks(twin) == find_blocks(get_original(twin))


@each
def test_both_link_to_each_other_under_their_titles(twin: Path) -> None:
    assert read_line_under_the_title(get_original(twin)) == f"[Українською]({twin.name})"
    assert read_line_under_the_title(twin) == f"[English]({get_original(twin).name})"


def read_line_under_the_title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[2]


@each
def test_links_of_a_translation_lead_to_translations(twin: Path) -> None:
    targets = {(twin.parent / link.partition("#")[0]).resolve() for link in find_links(twin)}
    assert not [other.name for other in TWINS if other != twin and get_original(other) in targets]
