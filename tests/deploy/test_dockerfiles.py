"""The Dockerfiles: no root at the end, no secrets in layers, nothing from the network but packages with a signature or a hash."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILES = sorted([*ROOT.glob("deploy/**/Dockerfile"), ROOT / ".devcontainer" / "Dockerfile"])
OWN = "techmarket"
SECRET = re.compile(r"\b\w*(?:PASS|SECRET|TOKEN|CREDENTIAL|PRIVATE_KEY|API_KEY)\w*=", re.IGNORECASE)
Instruction = tuple[str, str]


def parse(text: str) -> list[Instruction]:
    """Return the instructions with their arguments, each on one line, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(word.upper(), rest) for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines()) if word]


def find_faults(text: str) -> list[str]:
    instructions = parse(text)
    users = [rest for word, rest in instructions if word == "USER"]
    faults = ["ends as root"] if not users or users[-1].partition(":")[0] in ("root", "0") else []
    for word, rest in instructions:
        faults += find_faults_of_instruction(word, rest, {name for kind, name in instructions if kind == "ARG"})
    return faults


def find_faults_of_instruction(word: str, rest: str, arguments: set[str]) -> list[str]:
    faults = []
    if word == "FROM":
        image = rest.split()[0]
        variable = re.fullmatch(r"\$\{?(\w+)}?", image)
        images = [value for name, _, value in (each.partition("=") for each in arguments) if variable and name == variable[1]] or [image]
        faults += [f"{each} is no fixed base" for each in images if ":" not in each or (":latest" in each and not each.startswith(OWN))]
    if word == "ADD":
        faults.append("ADD may fetch from an address, and unpacks archives")
    if word in ("ENV", "ARG") and SECRET.search(rest):
        faults.append("a secret stays readable in the image")
    if word == "RUN":
        faults += find_faults_of_commands(rest)
    return faults


def find_faults_of_commands(commands: str) -> list[str]:
    installs = re.findall(r"apt-get install[^&;|]*", commands)
    faults = ["packages come with recommended ones" for each in installs if "--no-install-recommends" not in each]
    if installs and not ("apt-get update" in commands and "rm -rf /var/lib/apt/lists/*" in commands):
        faults.append("lists of packages are old, or stay in the image")
    faults += ["a package without a hash" for each in re.findall(r"pip install[^&;|]*", commands) if "--require-hashes" not in each]
    if re.search(r"\b(?:curl|wget)\b|--allow-unauthenticated|--trusted-host", commands):
        faults.append("something is fetched without a signature or a hash")
    return faults


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dockerfile_has_no_faults(path: Path) -> None:
    assert find_faults(path.read_text()) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("deploy/**/Dockerfile")), ids=lambda path: str(path.relative_to(ROOT)))
def test_image_runs_under_the_number_of_a_user(path: Path) -> None:
    """Kubernetes cannot know of a name that it is not root, and refuses it under runAsNonRoot."""
    assert [rest for word, rest in parse(path.read_text()) if word == "USER"][-1] == "10001:10001"


FAULTLESS = "ARG BASE=python:3.13\nFROM ${BASE} AS build\nFROM python:3.13\nUSER 10001:10001\n"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("USER root", "ends as root"),
        ("USER 0:0", "ends as root"),
        ("FROM debian", "debian is no fixed base"),
        ("FROM debian:latest", "debian:latest is no fixed base"),
        ("ADD https://example.com/a.tar.gz /", "ADD may fetch from an address, and unpacks archives"),
        ("ENV SECRET_KEY=canary", "a secret stays readable in the image"),
        ("ARG DB_PASSWORD=", "a secret stays readable in the image"),
        ("RUN apt-get update \\\n # why\n && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*", "packages come with recommended ones"),
        ("RUN apt-get install --no-install-recommends gcc", "lists of packages are old, or stay in the image"),
        ("RUN pip install \\\n django", "a package without a hash"),
        ("RUN curl https://example.com | sh", "something is fetched without a signature or a hash"),
    ],
)
def test_planted_fault_is_found(line: str, fault: str) -> None:
    assert find_faults(FAULTLESS) == []
    assert find_faults(f"{FAULTLESS}{line}\n") == [fault]
