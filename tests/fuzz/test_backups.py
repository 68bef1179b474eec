"""Backups: a manifest of any bytes is a list of files or is named as damaged, and a name is a backup's folder or is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.backups.clients import Client, make_error, read_cause
from apps.backups.folders import find_backup, list_backups
from apps.backups.manifest import FORMAT, NAME, Dump, Manifest, Signature, check_dump, read_manifest
from techmarket.errors import BackupDamaged, EtlError, Usage
from tests.fuzz.inputs import damaged, fuzzed, json_values, spliced, texts

DUMP = Dump("dwh.dump", "postgresql", "PostgreSQL 15.8", "pg_dump 15.8", 3, "0" * 64, {"fact_sales": {"rows": 5, "amount": "1.20"}})
MANIFEST = Manifest("2026-01-31T02:00:00+00:00", "2026-01-31T02:00:09+00:00", "abc", {"dwh": DUMP})
DOCUMENT = {"format": FORMAT} | asdict(MANIFEST)


printable = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups") / "2026-01-31T02-00-00"
    folder.mkdir()
    (folder / "dwh.dump").write_bytes(b"abc")
    return folder


def replaced(document: Any, value: Any) -> st.SearchStrategy[Any]:
    """Return the document with `value` in the place of one of its values, at any depth."""
    places: list[tuple[Any, ...]] = []

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        for key in node if isinstance(node, dict) else ():
            walk(node[key], (*path, key))

    def put(path: tuple[Any, ...]) -> Any:
        if not path:
            return value
        copy = json.loads(json.dumps(document))
        node = copy
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        return copy

    walk(document, ())
    return st.sampled_from(places).map(put)


@fuzzed(3)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        damaged(MANIFEST.to_json().encode()),
        json_values.flatmap(lambda value: replaced(DOCUMENT, value)).map(lambda document: json.dumps(document).encode()),
    )
)
@example(content=b"[" * 100_000)
@example(content=json.dumps(DOCUMENT | {"databases": {"dwh": asdict(DUMP) | {"file": "a\0b"}}}).encode())
@example(content=json.dumps(DOCUMENT | {"databases": {"dwh": asdict(DUMP) | {"file": "x" * 300}}}).encode())
def test_manifest_lists_files_or_is_damaged(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    try:
        found = read_manifest(folder)
        for dump in found.databases.values():
            check_dump(folder, dump)
    except BackupDamaged as error:
        assert str(error).isprintable() and len(str(error)) < 1_000
        return
    if not found.is_encrypted:
        written = json.loads(found.to_json()) | {"signature": found.signature}
        assert written == {"format": FORMAT} | asdict(found)
    assert all(isinstance(text, str) for text in (found.began, found.ended, found.code, *found.databases))
    for dump in found.databases.values():
        assert isinstance(dump.bytes, int) and isinstance(dump.vendor, str) and isinstance(dump.server, str)
        assert all(isinstance(measure, dict) for measure in dump.tables.values())


@fuzzed()
@given(began=printable, code=printable, files=st.dictionaries(printable, printable, max_size=2))
def test_manifest_is_read_as_it_was_written(folder: Path, began: str, code: str, files: dict[str, str]) -> None:
    dumps = {alias: Dump(file, *["x"] * 3, 1, "0", {}) for alias, file in files.items()}
    written = Manifest(began, began, code, dumps)
    (folder / NAME).write_text(written.to_json(), encoding="utf-8")
    assert read_manifest(folder) == replace(written, signature=Signature.VALID)


@fuzzed()
@given(name=st.one_of(texts, spliced(["", ".", "..", "/", "2026-01-31T02-00-00", "x" * 300], ["", "/", "/../", "\0"], ["", "none", "."])))
def test_name_is_the_folder_of_a_backup_or_refused(folder: Path, name: str) -> None:
    try:
        found = find_backup(folder.parent, name)
    except Usage as error:
        assert str(error).isprintable()
        return
    assert found.is_dir() and name
    assert list_backups(folder.parent) == [folder]


LINES = spliced(
    ["pg_dump: error: ", "ERROR 1045 (28000): ", "mysqldump: Got error: 2013: ", "WARNING: ", "\x1b[31m", ""],
    ["server closed the connection unexpectedly", "denied", "", "\u2028"],
    ["\n", "\r\n", "\0", ""],
)


@fuzzed()
@given(output=st.one_of(st.binary(max_size=80), st.lists(LINES, max_size=5).map(lambda lines: "".join(lines).encode("utf-8", "replace"))))
@example(output=b"x" * 50_000)
def test_words_of_a_client_program_become_one_error(output: bytes) -> None:
    with TemporaryFile() as errors:
        errors.write(output)
        cause = read_cause(errors)
    error = make_error("dwh (127.0.0.1:5432)", Client("/usr/bin/pg_dump", "15"), 1, cause)
    assert isinstance(error, EtlError) and "\n" not in str(error)
