"""The version of a release is written in pyproject.toml; what repeats it for people or clusters agrees."""

import re

import pytest
import yaml

from techmarket.version import package_version
from tests.conftest import ROOT, Cli


def test_version_has_the_form_of_a_release() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", package_version())


def test_commands_print_the_version(run_cli: Cli) -> None:
    result = run_cli("run_etl", "--version")
    assert (result.returncode, result.stdout) == (0, f"{package_version()}\n"), result.stderr


@pytest.mark.parametrize("document", ["CHANGELOG.md", "CHANGELOG.uk.md"])
def test_newest_release_of_the_changelog_is_this_one(document: str) -> None:
    releases = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    assert releases[0] == package_version()


def test_production_overlay_names_this_release() -> None:
    overlay = yaml.safe_load((ROOT / "k8s/overlays/production/kustomization.yaml").read_text())
    assert [image["newTag"] for image in overlay["images"] if image["name"] == "techmarket"] == [package_version()]


def test_image_gets_the_file_that_holds_the_version() -> None:
    assert "!pyproject.toml" in (ROOT / ".dockerignore").read_text().splitlines()
