"""Static files in production: served by the web process, cached for ever; missing ones cause no error page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PASSED_ON, ROOT, Cli

PRODUCTION = {
    "DEBUG": "False",
    "SECRET_KEY": "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB",
    "ALLOWED_HOSTS": "testserver",
    "SECURE_SSL_REDIRECT": "False",
    "DJANGO_SETTINGS_MODULE": "techmarket.settings",
    "ENV_FILE": os.devnull,
}
FETCH_PAGE = """
import sys, warnings
warnings.simplefilter("ignore")  # WhiteNoise warns about the missing folder
import django
django.setup()
from django.test import Client
page = Client().get("/admin/login/")
print(page.status_code)
for address in set(__import__("re").findall(r'(?:href|src)="(/static/[^"]+)"', page.content.decode())):
    answer = Client().get(address)
    print(address, answer.status_code, answer.headers.get("Cache-Control"), sep="|")
"""


def fetch_login_page(folder: Path) -> list[str]:
    """Return the status of the login page, then a line for each of its static files: path|status|Cache-Control."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | PRODUCTION | {"VAR_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", FETCH_PAGE], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.fixture
def migrated(run_cli: Cli, tmp_path: Path) -> Path:
    assert run_cli("migrate", "--verbosity", "0").returncode == 0
    return tmp_path


def test_collected_files_are_served_with_hashed_names(run_cli: Cli, migrated: Path) -> None:
    collected = run_cli("collectstatic", "--noinput", "--verbosity", "0", env=PRODUCTION)
    assert (collected.returncode, collected.stderr) == (0, "")
    status, *files = fetch_login_page(migrated)
    assert status == "200" and files
    for line in files:
        address, code, caching = line.split("|")
        assert code == "200" and "immutable" in caching, line
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", address), address


def test_page_works_without_collected_files(migrated: Path) -> None:
    status, *files = fetch_login_page(migrated)
    assert status == "200"
    assert {line.split("|")[1] for line in files} == {"404"}
