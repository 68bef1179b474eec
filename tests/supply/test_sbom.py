"""The SBOM: valid, complete, and in the image only beside the requirements that it describes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from pip_requirements_parser import RequirementsFile

from tests.conftest import ROOT
from tests.deploy.test_dockerfiles import parse

pytestmark = pytest.mark.process

CONFIGURATION = 4


def run_sbom(*arguments: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.supply.sbom", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sbom") / "var" / "sbom.json"
    result = run_sbom(path)
    assert (result.returncode, result.stderr) == (0, "")
    return path


def read_components(sbom: Path) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in json.loads(sbom.read_text())["components"]}


def test_sbom_meets_the_schema(sbom: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(sbom.read_text()) is None
    assert validator.validate_str(sbom.read_text().replace('"library"', '"books"')) is not None


def test_sbom_has_every_locked_package(sbom: Path) -> None:
    """Compared with what pip's own parser reads."""
    locked = [
        each
        for each in RequirementsFile.from_file(str(ROOT / "requirements.txt")).requirements
        if not each.marker or each.marker.evaluate()
    ]
    components = read_components(sbom)
    assert {name: each["version"] for name, each in components.items()} == {each.name: each.get_pinned_version for each in locked}
    for each in locked:
        component = components[each.name]
        assert component["purl"] == f"pkg:pypi/{each.name}@{each.get_pinned_version}" and component["licenses"]
        hashes = {(found["alg"], found["content"]) for found in component["hashes"]}
        assert hashes == {("SHA-256", option.removeprefix("sha256:")) for option in each.hash_options}


def test_sbom_leaves_out_packages_of_other_platforms(sbom: Path) -> None:
    assert re.search(r"^colorama==\S+ ; sys_platform == 'win32'", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert "colorama" not in read_components(sbom)


def test_sbom_states_what_requires_what(sbom: Path) -> None:
    edges = {each["ref"].partition("@")[0]: each.get("dependsOn", []) for each in json.loads(sbom.read_text())["dependencies"]}
    direct = {ref.removeprefix("pkg:pypi/").partition("@")[0] for ref in edges["techmarket"]}
    named = set(re.findall(r"^([A-Za-z][\w-]*)", (ROOT / "requirements.in").read_text(), re.MULTILINE))
    assert direct == {name.lower() for name in named}
    assert {ref.partition("@")[0] for ref in edges["pkg:pypi/django"]} >= {"pkg:pypi/asgiref", "pkg:pypi/sqlparse"}
    assert "pkg:pypi/psycopg-binary" in {ref.partition("@")[0] for ref in edges["pkg:pypi/psycopg"]}


def run_check_of_the_image(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the instruction of deploy/Dockerfile that looks at var/sbom.json."""
    instructions = parse((ROOT / "deploy" / "Dockerfile").read_text())
    (command,) = [rest for word, rest in instructions if word == "RUN" and "sbom.json" in rest]
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)


def test_image_carries_no_sbom_of_other_requirements(sbom: Path, tmp_path: Path) -> None:
    assert "!var/sbom.json" in (ROOT / ".dockerignore").read_text().splitlines()
    requirements = Path(shutil.copy(ROOT / "requirements.txt", tmp_path))
    assert run_check_of_the_image(tmp_path).returncode == 0
    (tmp_path / "var").mkdir()
    shutil.copy(sbom, tmp_path / "var")
    assert run_check_of_the_image(tmp_path).returncode == 0
    requirements.write_text(requirements.read_text().replace("django==", "django==1"))
    result = run_check_of_the_image(tmp_path)
    assert (result.returncode, result.stderr) == (1, "var/sbom.json describes other requirements. Run make sbom, or delete it.\n")


def test_file_that_cannot_be_written_is_named() -> None:
    result = run_sbom("/proc/none/sbom.json")
    assert (result.returncode, result.stderr.count("\n")) == (CONFIGURATION, 1)
    assert result.stderr.startswith("sbom: /proc/none/sbom.json cannot be written (No such file or directory); name another file: ")


@pytest.mark.parametrize("arguments", [["one", "two"], ["--help"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert run_sbom(*arguments).returncode == 2
