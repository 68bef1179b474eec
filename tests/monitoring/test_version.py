"""The version of the package and of the code, and `manage.py version`."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from techmarket.version import code_version, package_version, read_git_commit
from tests.conftest import ROOT, Cli

COMMIT = r"[0-9a-f]{12}"


@pytest.fixture(autouse=True)
def uncached() -> Iterator[None]:
    code_version.cache_clear()
    yield
    code_version.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    (tmp_path / "file").write_text("one")
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    for command in (("init", "--quiet"), ("add", "file"), (*author, "commit", "--quiet", "--message", "One"), ("tag", "v1")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_package_version_is_that_of_pyproject() -> None:
    assert f'version = "{package_version()}"' in (ROOT / "pyproject.toml").read_text()


def test_code_version_prefers_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_VERSION", "abc123")
    assert code_version() == "abc123"


def test_code_version_falls_back_to_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_VERSION", "")
    assert code_version() == read_git_commit(ROOT)


def test_commit_is_marked_if_files_have_changed(checkout: Path) -> None:
    commit = read_git_commit(checkout)
    assert re.fullmatch(COMMIT, commit)
    (checkout / "file").write_text("two")
    assert read_git_commit(checkout) == f"{commit}-dirty"


def test_commit_is_empty_outside_a_checkout_or_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "unpacked").mkdir()
    assert read_git_commit(checkout / "unpacked") == ""
    monkeypatch.setenv("PATH", "")
    assert read_git_commit(checkout) == ""


def test_version_command(run_cli: Cli) -> None:
    result = run_cli("version", env={"CODE_VERSION": "abc123"})
    assert (result.returncode, result.stdout, result.stderr) == (0, f"TechMarket {package_version()} (commit abc123)\n", "")
    document = json.loads(run_cli("version", "--json", env={"CODE_VERSION": "abc123"}).stdout)
    assert document == {"version": package_version(), "commit": "abc123"}


def test_version_command_refuses_an_unknown_option(run_cli: Cli) -> None:
    result = run_cli("version", "--verbose")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
