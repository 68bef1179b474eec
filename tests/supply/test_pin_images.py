"""`make pin-images` on a copy of the repository's files, with a registry on this machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.supply.registry_server import RegistryServer, registry_server

pytestmark = pytest.mark.process

CONFIGURATION, DIFFERENT = 4, 6
FOLDERS = ("deploy", "k8s", ".devcontainer", ".github")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
REDIS, MYSQL = "library/redis:7.4-alpine", "library/mysql:8.4"
SHORT_LIMIT = "import sys, registry, pin_images; registry.TIMEOUT_S = 1; sys.exit(pin_images.main())"
BROKEN_REPLACE = """
import errno, sys, pin_images
from pathlib import Path
replace = Path.replace
def fail(self, target):
    if target.name == "redis.yaml":
        raise OSError(errno.EBUSY, "Device or resource busy")
    return replace(self, target)
Path.replace = fail
sys.exit(pin_images.main())
"""
Files = dict[str, bytes]


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the files that name images, not pinned."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("docker-compose*.yml"):
        shutil.copy(path, tmp_path)
    for path in list_files(tmp_path):
        path.write_text(DIGEST.sub("", path.read_text()))
    return tmp_path


def list_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc"]


def read_files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in list_files(folder)}


def run(folder: Path, *arguments: str, code: str = "", limit: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the script, or Python code beside it; `limit` is a command of the shell before."""
    program = [sys.executable, *(["-c", code] if code else ["pin_images.py"]), *arguments]
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "localhost"}
    command = ["sh", "-c", f'{limit or ":"} && exec "$@"', "sh", *program]
    return subprocess.run(command, cwd=folder / "deploy", env=env, capture_output=True, text=True, timeout=120)


def pin(folder: Path, registry: RegistryServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(folder, "--mirror", registry.url, *arguments)


def find_images(folder: Path) -> set[str]:
    """Return every image of Compose and Kubernetes that others build, read as YAML, with Compose's defaults."""
    texts = [path.read_text() for path in [*folder.glob("docker-compose*.yml"), *folder.glob("k8s/**/*.yaml")]]
    found: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            found.update(value for key, value in node.items() if key == "image")
        for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(each)

    for text in texts:
        collect(list(yaml.safe_load_all(re.sub(r"\$\{\w+:-([^}]*)}", r"\1", text))))
    return {image for image in found if not image.startswith("techmarket")}


# --- Pinned ---


def test_every_image_is_pinned_everywhere(folder: Path, registry: RegistryServer) -> None:
    images, before = find_images(folder), read_files(folder)
    result = pin(folder, registry)
    assert (result.returncode, result.stderr) == (0, "")
    repositories = {image: image if "/" in image else f"library/{image}" for image in images}
    assert find_images(folder) == {f"{image}@{registry.digest(name)}" for image, name in repositories.items()} and len(images) > 7
    after = {name: DIGEST.sub("", text.decode()).encode() for name, text in read_files(folder).items()}
    assert after == before, "nothing but digests was added"
    base = f"python:3.13-slim-bookworm@{registry.digest('library/python:3.13-slim-bookworm')}"
    assert f"ARG BASE={base}\n" in (folder / "deploy/Dockerfile").read_text()
    developers = f"python:3.13-bookworm@{registry.digest('library/python:3.13-bookworm')}\n"
    assert f"FROM {developers}" in (folder / ".devcontainer/Dockerfile").read_text()
    assert f"image: {developers}" in (folder / ".github/workflows/ci.yml").read_text()


def test_default_of_a_variable_is_pinned(folder: Path, registry: RegistryServer) -> None:
    pin(folder, registry)
    text = (folder / "docker-compose.yml").read_text()
    assert f"  image: mysql:${{MYSQL_VERSION:-8.4@{registry.digest(MYSQL)}}}\n" in text
    assert "image: techmarket:${TECHMARKET_VERSION:-latest}\n" in text


def test_pinned_images_stay_as_they_are(folder: Path, registry: RegistryServer) -> None:
    pin(folder, registry)
    before = read_files(folder)
    assert re.fullmatch(r"\d+ images, 0 references changed\n", pin(folder, registry).stdout)
    result = pin(folder, registry, "--check")
    assert result.returncode == 0 and re.fullmatch(r"\d+ images are pinned to what their tags stand for\n", result.stdout)
    assert read_files(folder) == before


def test_moved_tag_is_outdated_and_renewed(folder: Path, registry: RegistryServer) -> None:
    pin(folder, registry)
    registry.builds[REDIS] = 2
    result = pin(folder, registry, "--check")
    assert (result.returncode, result.stdout) == (DIFFERENT, "outdated: redis:7.4-alpine (docker-compose.yml, k8s/redis/redis.yaml)\n")
    assert pin(folder, registry).stdout.splitlines()[-1].endswith(" images, 3 references changed")
    assert f"image: redis:7.4-alpine@{registry.digest(REDIS)}\n" in (folder / "k8s/redis/redis.yaml").read_text()


def test_unpinned_images_are_named_without_a_request(folder: Path, registry: RegistryServer) -> None:
    result = pin(folder, registry, "--check")
    assert (result.returncode, result.stderr, registry.requests) == (DIFFERENT, "", [])
    assert "not pinned: redis:7.4-alpine (docker-compose.yml, k8s/redis/redis.yaml)\n" in result.stdout
    assert result.stdout.count("not pinned: ") == len(find_images(folder)) + 2, "and those of the Dockerfiles"


def test_dry_run_writes_nothing(folder: Path, registry: RegistryServer) -> None:
    before = read_files(folder)
    result = pin(folder, registry, "--dry-run")
    assert result.returncode == 0 and read_files(folder) == before
    assert f"redis:7.4-alpine@{registry.digest(REDIS)}: docker-compose.yml, k8s/redis/redis.yaml\n" in result.stdout
    assert re.search(r"^\d+ images, \d+ references would change$", result.stdout, re.MULTILINE)


def test_registry_in_the_name_answers(folder: Path, registry: RegistryServer) -> None:
    own = registry.url.removeprefix("http://")
    (folder / "docker-compose.extra.yml").write_text(f'services: {{}}\nx-extra:\n  - image: "{own}/team/app:1.2" # ours\n')
    assert pin(folder, registry).returncode == 0
    digest = registry.digest("team/app:1.2")
    assert f'  - image: "{own}/team/app:1.2@{digest}" # ours\n' in (folder / "docker-compose.extra.yml").read_text()


def test_token_is_not_passed_on_to_another_server(folder: Path, registry: RegistryServer) -> None:
    registry.faults[REDIS] = "elsewhere"
    result = pin(folder, registry)
    assert (result.returncode, result.stderr, registry.tokens_at_store) == (0, "", [None])


def test_same_base_in_several_stages_is_pinned_in_each(folder: Path, registry: RegistryServer) -> None:
    stages = "ARG NODE=node:22\nFROM --platform=linux/amd64 alpine:3 AS one\nFROM alpine:3\nFROM one AS two\nFROM ${NODE}\nFROM scratch\n"
    (folder / "deploy/docs/Dockerfile").write_text(stages)
    assert pin(folder, registry).returncode == 0
    alpine, node = (f"{name}@{registry.digest(f'library/{name}')}" for name in ("alpine:3", "node:22"))
    expected = stages.replace("alpine:3", alpine).replace("node:22", node)
    assert (folder / "deploy/docs/Dockerfile").read_text() == expected


# --- Refused: one line, and all files as they were ---


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("missing", "has no such image or tag"),
        ("private", "has no such image, or shows it only to those who log in"),
        ("login", "has no such image, or shows it only to those who log in"),
        ("forbidden", "has no such image, or shows it only to those who log in"),
        ("too many", "refuses so many requests; try again in 120 s"),
        ("no more tokens", "refuses so many requests; try again in some hours"),
        ("broken", "answers 503"),
        ("page", "answers with no manifest of an image but with text/html"),
        ("old", "answers with no manifest of an image but with application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ("huge", "answers with more than 4 MB"),
        ("damaged", "answers with a manifest that does not match its digest; it was damaged on the way"),
        ("no token", "answers with no token"),
        ("file", "names no server that gives tokens"),
        ("closed", "does not answer (Remote end closed connection without response)"),
    ],
)
def test_registry_that_does_not_answer(folder: Path, registry: RegistryServer, fault: str, cause: str) -> None:
    registry.faults["prom/prometheus:v3.5.0"] = fault
    before = read_files(folder)
    result = pin(folder, registry)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (CONFIGURATION, "", 1)
    more = r", nor are \d others" if "refuses" in cause or "does not answer" in cause else ""
    answer = re.escape(f"{registry.url.removeprefix('http://')} {cause}. Nothing was written.\n")
    assert re.fullmatch(f"pin_images: prom/prometheus:v3.5.0 is not pinned{more}: {answer}", result.stderr)
    assert read_files(folder) == before


def test_silent_registry_has_a_time_limit_for_all_images(folder: Path, registry: RegistryServer) -> None:
    registry.faults["library/adminer:5"] = "silent"
    before = read_files(folder)
    result = run(folder, "--mirror", registry.url, code=SHORT_LIMIT)
    assert result.returncode == CONFIGURATION and result.stderr.startswith("pin_images: adminer:5 is not pinned, nor are ")
    assert "does not answer (time limit)" in result.stderr and len(registry.requests) == 1 and read_files(folder) == before


def test_unreachable_registry(folder: Path) -> None:
    result = run(folder, "--mirror", "http://127.0.0.1:1")
    assert (result.returncode, result.stderr.count("\n")) == (CONFIGURATION, 1)
    assert "127.0.0.1:1 does not answer (Connection refused). Nothing was written." in result.stderr


def test_pinned_image_that_cannot_be_compared(folder: Path, registry: RegistryServer) -> None:
    pin(folder, registry)
    registry.faults[REDIS] = "missing"
    result = pin(folder, registry, "--check")
    assert (result.returncode, result.stdout) == (CONFIGURATION, "")
    assert result.stderr.startswith("pin_images: redis:7.4-alpine is not compared: 127.0.0.1:") and result.stderr.count("\n") == 1


def test_full_disk_leaves_every_file(folder: Path, registry: RegistryServer) -> None:
    """Compose's file is larger than the shell lets files become; it is not the first one that is written."""
    before = read_files(folder)
    result = run(folder, "--mirror", registry.url, limit="ulimit -f 24")
    assert (result.returncode, result.stderr.count("\n")) == (CONFIGURATION, 1)
    assert result.stderr == "pin_images: docker-compose.yml cannot be written (File too large). Nothing was written.\n"
    assert read_files(folder) == before


def test_failure_between_two_files_puts_the_first_ones_back(folder: Path, registry: RegistryServer) -> None:
    before = read_files(folder)
    result = run(folder, "--mirror", registry.url, code=BROKEN_REPLACE)
    assert result.returncode == CONFIGURATION
    assert result.stderr == "pin_images: k8s/redis/redis.yaml cannot be written (Device or resource busy). Nothing was written.\n"
    assert read_files(folder) == before


@pytest.mark.parametrize("image", ["redis", "${REDIS_IMAGE}", "redis@sha256:0123"])
def test_image_without_a_tag_is_refused(folder: Path, image: str) -> None:
    (folder / "docker-compose.extra.yml").write_text(f"services: {{a: {{}}}}\nx-extra:\n  image: {image}\n")
    result = run(folder, "--check")
    expected = f"pin_images: docker-compose.extra.yml: {image} has no tag. Write one, as in redis:7.4-alpine\n"
    assert (result.returncode, result.stderr) == (CONFIGURATION, expected)


@pytest.mark.parametrize("arguments", [["--mirror", "mirror.example.com"], ["--mirror", "file:///etc"], ["--check", "--dry-run"], ["all"]])
def test_wrong_usage(folder: Path, arguments: list[str]) -> None:
    result = run(folder, *arguments)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1) and result.stderr.startswith("pin_images: ")
