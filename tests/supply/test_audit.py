"""`make audit` on a copy of the repository: what it answers to planted findings, with which exit code."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supply import outcome
from tests.supply.advisories import describe_skipped
from tests.supply.advisory_server import AdvisoryServer, advisory_server
from tests.supply.outcome import ROOT, Unaudited, run_tool

pytestmark = pytest.mark.process

FOUND = 1
IGNORED = shutil.ignore_patterns(".git", ".venv", "var", "docs", "locale", "__pycache__", ".*_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT, tmp_path / "clone", ignore=IGNORED)
    return tmp_path / "clone"


def audit(folder: Path, part: str, **env: str) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # the copy is not what is measured
    env = inherited | {"PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1", "COLUMNS": "180"} | env
    command = [sys.executable, "-m", "tests.supply", part]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=500)
    assert result.stderr == ""
    return result.returncode, result.stdout


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


# --- Weaknesses in the code ---


ANSWERED = ("  # nosec B324 # a fingerprint, no signature", "  # nosec B324 # noqa: S324  a fingerprint, no signature")
UNANSWERED = ("", "  # nosec", "  # nosec B324", "  # nosec B101 # another weakness")


def plant_weaknesses(folder: Path, answers: tuple[str, ...]) -> None:
    lines = [f"{name} = hashlib.md5(b'x').hexdigest(){answer}" for name, answer in zip("ABCDEF", answers, strict=False)]
    (folder / "apps" / "planted.py").write_text("\n".join(["import hashlib", *lines]))


def test_weakness_is_named_until_it_is_answered(folder: Path) -> None:
    plant_weaknesses(folder, ANSWERED)
    code, text = audit(folder, "code")
    assert code == 0 and re.search(r"no findings │ \d+ lines of code, \d+ findings answered", text)
    plant_weaknesses(folder, UNANSWERED + ANSWERED)
    code, text = audit(folder, "code")
    assert code == FOUND and "4 to answer" in text
    assert re.findall(r"apps/planted\.py:(\d+): (B324|# nosec)", text) == [("2", "B324"), ("5", "B324"), ("3", "# nosec"), ("4", "# nosec")]


# --- Advisories ---


@pytest.fixture
def osv() -> Iterator[AdvisoryServer]:
    with advisory_server() as server:
        yield server


def audit_at(osv: AdvisoryServer, folder: Path) -> tuple[int, str]:
    return audit(folder, "advisories", PIP_AUDIT_VULNERABILITY_SERVICE="osv", PIP_AUDIT_OSV_URL=osv.url)


def test_every_locked_package_is_looked_up(folder: Path, osv: AdvisoryServer) -> None:
    code, text = audit_at(osv, folder)
    assert code == 0 and "no findings" in text
    locks = ["requirements.txt", "requirements-dev.txt", "deploy/airflow/requirements.txt"]
    locked = {pair for lock in locks for pair in re.findall(r"^([\w.-]+)(?:\[.*])?==(\S+) ", (ROOT / lock).read_text(), re.MULTILINE)}
    assert osv.packages <= locked and len(osv.packages) > 0.95 * len(locked), "but those of other platforms"


def test_advisory_is_named_until_it_is_answered(folder: Path, osv: AdvisoryServer) -> None:
    osv.advise("django", "PYSEC-2099-1", "CVE-2099-1", fixed="5.2.999")
    code, text = audit_at(osv, folder)
    assert code == FOUND and re.search(r"requirements\.txt: django 5\.2\.\d+ has PYSEC-2099-1, CVE-2099-1 \(fixed in 5\.2\.999\)", text)
    change(folder / "pyproject.toml", "[tool.techmarket.advisories]\n", '[tool.techmarket.advisories]\nCVE-2099-1 = "not used here"\n')
    assert audit_at(osv, folder)[0] == 0
    osv.advisories.clear()
    code, text = audit_at(osv, folder)
    assert code == FOUND and "CVE-2099-1 is answered, but no locked package has it any more" in text


@pytest.mark.parametrize("answer", [(200, b"<html>proxy</html>"), (503, b"{}"), (200, b'{"vulns": 7}')])
def test_index_that_answers_wrongly_is_not_audited(folder: Path, osv: AdvisoryServer, answer: tuple[int, bytes]) -> None:
    osv.answer = answer
    code, text = audit_at(osv, folder)
    assert code == 0 and "not audited" in text and "no index of advisories answers as it should" in text
    assert "no findings" not in text and "Traceback" not in text


def test_index_that_cannot_be_reached_is_not_audited(folder: Path) -> None:
    code, text = audit(folder, "advisories", HTTPS_PROXY="http://127.0.0.1:1", PIP_NO_CACHE_DIR="1")
    assert code == 0 and "not audited" in text and "no findings" not in text


def test_lock_that_cannot_be_read_is_not_audited(folder: Path, osv: AdvisoryServer) -> None:
    with (folder / "requirements.txt").open("a") as lock:
        lock.write("planted==1.0\n")
    code, text = audit_at(osv, folder)
    assert code == 0 and "not audited" in text and "no findings" not in text and "planted" in text


def test_packages_unknown_to_the_index_are_not_audited() -> None:
    """Where PyPI's JSON API answers 404, as behind a mirror, pip-audit itself finds no vulnerabilities and ends with 0."""
    skipped = [{"name": name, "skip_reason": "Dependency not found on PyPI"} for name in "abcdefg"]
    audited = {"name": "django", "version": "5.2", "vulns": []}
    assert [*describe_skipped("lock", [audited])] == []
    assert [*describe_skipped("lock", skipped)] == ["lock: the index knows none of its 7 packages"]
    assert [*describe_skipped("lock", [audited, *skipped])] == ["lock: the index does not know a, b, c, d, e and 2 more"]


def test_audit_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "STEP_TIMEOUT_S", 1)
    with pytest.raises(Unaudited, match="did not end within 1 s"):
        run_tool("-c", "import time; time.sleep(60)")


# --- Images and manifests ---


@pytest.mark.long
def test_broken_rules_are_named(folder: Path) -> None:
    change(folder / "deploy" / "Dockerfile", "USER 10001:10001\n", "USER root\n")
    change(folder / "k8s" / "redis" / "redis.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    change(folder / "docker-compose.yml", "    image: adminer:5\n", "    image: adminer:latest\n    privileged: true\n")
    code, text = audit(folder, "rules", ENV_FILE=os.devnull, VAR_DIR=str(folder / "var"))
    assert code == FOUND
    for test in (
        "test_dockerfiles.py::test_dockerfile_has_no_faults[deploy/Dockerfile]",
        "test_kubernetes.py::test_pod_meets_the_restricted_profile[redis]",
        "test_compose.py::test_service_has_no_power_over_the_machine[adminer]",
        "test_compose.py::test_image_of_others_has_a_tag_that_is_not_latest[adminer]",
    ):
        assert f"tests/deploy/{test}" in text


def test_unpinned_image_is_a_warning(folder: Path) -> None:
    change(folder / "docker-compose.yml", "    image: adminer:5\n", "    image: adminer:5.5\n")
    code, text = audit(folder, "pins")
    assert code == 0 and "warning" in text and "not pinned: adminer:5.5 (docker-compose.yml)" in text


# --- Licenses ---


def plant_package(folder: Path, license_lines: str) -> None:
    """Lock and install a package with these lines in its metadata."""
    metadata = folder / "planted-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: planted\nVersion: 1.0\n{license_lines}")
    with (folder / "requirements.txt").open("a") as lock:
        lock.write(f"planted==1.0 \\\n    --hash=sha256:{'0' * 64}\n    # via -r requirements.in\n")


@pytest.mark.parametrize(
    ("lines", "stated"),
    [
        ("License-Expression: MIT OR AGPL-3.0-only\n", ""),
        ("License-Expression: AGPL-3.0-only WITH GCC-exception-3.1 OR (MIT AND Zlib)\n", ""),
        ("Classifier: License :: OSI Approved :: MIT License\n", ""),
        ("License: MIT\n", ""),
        ("License: MIT\nLicense-Expression: AGPL-3.0-only\n", "AGPL-3.0-only is not allowed"),
        ("License-Expression: MIT AND AGPL-3.0-only\n", "MIT AND AGPL-3.0-only is not allowed"),
        ("License: Free for schools\n", "Free for schools is not allowed"),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other/Proprietary License\n",
            "MIT License, Other/Proprietary License is not allowed",
        ),
        ("", "states no license"),
    ],
)
def test_license_that_is_not_allowed_is_named(folder: Path, lines: str, stated: str) -> None:
    plant_package(folder, lines)
    code, text = audit(folder, "licenses")
    assert code == (FOUND if stated else 0) and (f"planted 1.0: {stated}" in text or not stated)


def test_exception_answers_one_license_of_one_package(folder: Path) -> None:
    plant_package(folder, "License-Expression: AGPL-3.0-only\n")
    project = folder / "pyproject.toml"
    change(project, "[tool.techmarket.licenses.exceptions]\n", '[tool.techmarket.licenses.exceptions]\nplanted = "AGPL-3.0-only"\n')
    assert audit(folder, "licenses")[0] == 0
    change(project, 'planted = "AGPL-3.0-only"', 'planted = "GPL-3.0-only"')
    code, text = audit(folder, "licenses")
    assert code == FOUND and "planted 1.0: AGPL-3.0-only is not allowed" in text
    assert "the exception of planted answers nothing any more" in text


def test_every_license_is_listed(folder: Path) -> None:
    text = audit(folder, "licenses")[1]
    listed = set(re.findall(r"([a-z][\w-]*) \d[\w.]*(?=,|$)", text, re.MULTILINE))
    locked = set(re.findall(r"^([\w-]+)(?:\[.*])?==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert locked - {"colorama"} <= listed


# --- Usage ---


def test_unknown_part_is_refused() -> None:
    result = subprocess.run([sys.executable, "-m", "tests.supply", "all"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "audit: there is no part all; there are advisories, code, rules, pins, licenses\n"
