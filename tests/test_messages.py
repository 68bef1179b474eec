"""Every text of the pages has a Ukrainian translation, without fuzzy or obsolete entries, and the compiled catalogues match."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.apps import apps
from django.utils.translation import gettext, ngettext, override

from tests.conftest import ROOT, require_program

CATALOGS = sorted(path for top in ("techmarket", "apps") for path in (ROOT / top).rglob("locale/uk/LC_MESSAGES/django.po"))
OURS = ("orders_db", "catalog_db", "payments_db", "auth_db", "dwh", "orchestration")
HOLES = re.compile(r"%\(\w+\)[sd]|%[sd%]|<[^>]+>|\{\w+\}")


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="uk")


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.relative_to(ROOT).parts[-5])
def test_all_is_translated_and_compiled(path: Path) -> None:
    catalog = read(path)
    assert not catalog.obsolete, "run `make messages`, then remove what no code has"
    for message in catalog:
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(forms) and not (message.fuzzy and message.id), message.id
        names = message.id if isinstance(message.id, tuple) else (message.id,)
        assert not message.id or len(forms) == (4 if len(names) == 2 else 1), message.id
        for form in forms if message.id else ():
            assert sorted(HOLES.findall(form)) == sorted(HOLES.findall(names[-1])), f"{message.id}: {form}"
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    assert path.with_suffix(".mo").read_bytes() == compiled.getvalue(), "run `make messages`"


def test_no_text_of_the_code_is_missing(tmp_path: Path) -> None:
    require_program("xgettext", "gettext")
    for name in ("manage.py", "techmarket", "apps", "templates"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = (sys.executable, "manage.py", "makemessages", "-l", "uk", "--no-wrap", "--add-location", "file")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    for path in CATALOGS:
        copied = tmp_path / path.relative_to(ROOT)
        assert {message.id for message in read(copied)} == {message.id for message in read(path)}, "run `make messages`"


def test_models_and_columns_speak_ukrainian() -> None:
    same = {"ID", "IP", "UUID"}
    with override("uk"):
        for label in OURS:
            for model in apps.get_app_config(label).get_models():
                words = [
                    model._meta.verbose_name,
                    model._meta.verbose_name_plural,
                    *(field.verbose_name for field in model._meta.concrete_fields),
                ]
                assert not [str(word) for word in words if re.fullmatch(r"[\x00-\x7f]+", str(word)) and str(word) not in same], model


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "записано 1 рядок"), (3, "записано 3 рядки"), (11, "записано 11 рядків"), (22, "записано 22 рядки"), (112, "записано 112 рядків")],
)
def test_ukrainian_plurals(count: int, text: str) -> None:
    with override("uk"):
        assert ngettext("%(shown)s row written", "%(shown)s rows written", count) % {"shown": count} == text
        assert gettext("Kyiv") == "Київ"
