"""Dockerfiles, Compose files and Kubernetes manifests: the tests that hold their rules, and the images that are not pinned to a digest."""

import re

from tests.supply.outcome import Outcome, Unaudited, Verdict, run_tool

TESTS = ("tests/deploy/test_dockerfiles.py", "tests/deploy/test_compose.py", "tests/deploy/test_kubernetes.py")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+)$", re.MULTILINE)
PASSED = re.compile(r"(\d+) passed")
ALL_PINNED, DIFFERENT = 0, 6  # exit codes of deploy/pin_images.py


def audit_rules() -> Outcome:
    result = run_tool("-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers", "-q", "--tb=no", "-rfE", *TESTS)
    failed = tuple(FAILED.findall(result.stdout))
    if failed:
        return Outcome(Verdict.FOUND, f"{len(failed)} rules are broken", failed)
    passed = PASSED.search(result.stdout)
    if result.returncode or not passed:
        raise Unaudited(f"pytest ended with code {result.returncode}")
    return Outcome(Verdict.PASSED, f"{passed[1]} rules hold")


def audit_pins() -> Outcome:
    """Ask registries only about images that are pinned, whether their tags stand for something newer."""
    result = run_tool("deploy/pin_images.py", "--check")
    found, causes = tuple(result.stdout.splitlines()), result.stderr.splitlines()
    if result.returncode == DIFFERENT:
        return Outcome(Verdict.WARNING, "unpinned or outdated images: `make pin-images`", (*found, *causes))
    if result.returncode == ALL_PINNED:
        return Outcome(Verdict.PASSED, found[-1])
    raise Unaudited(causes[-1].removeprefix("pin_images: ") if causes else f"deploy/pin_images.py ended with code {result.returncode}")
