"""The Ukrainian twin of a document is built like it: headings, tables, what is typed. Each leads to the other."""

from pathlib import Path

import pytest

from tests.docs.documents import ORIGINALS, TWINS, blocks, headings, links, rows

each = pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.name)


def original(twin: Path) -> Path:
    return twin.with_name(twin.name.replace(".uk.md", ".md"))


def test_no_twin_is_without_its_original() -> None:
    assert {original(twin) for twin in TWINS} <= set(ORIGINALS) and len(TWINS) >= 8


@each
def test_headings_are_of_the_same_levels(twin: Path) -> None:
    assert headings(twin) == headings(original(twin))


@each
def test_tables_have_the_same_rows(twin: Path) -> None:
    assert rows(twin) == rows(original(twin))


@each
def test_what_is_typed_is_the_same(twin: Path) -> None:
    assert blocks(twin) == blocks(original(twin))


@each
def test_both_lead_to_each_other_under_their_titles(twin: Path) -> None:
    assert under_the_title(original(twin)) == f"[Українською]({twin.name})"
    assert under_the_title(twin) == f"[English]({original(twin).name})"


def under_the_title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[2]


@each
def test_links_stay_in_ukrainian_where_there_is_a_twin(twin: Path) -> None:
    targets = {(twin.parent / link.partition("#")[0]).resolve() for link in links(twin)}
    assert not [other.name for other in TWINS if other != twin and original(other) in targets]
