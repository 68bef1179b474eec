"""Weaknesses in TechMarket's own code, as bandit finds them. `# nosec BXXX # reason` answers one, `skips` in pyproject.toml a class."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.supply.outcome import ROOT, Outcome, Verdict, read_json, run_tool

CODE = ("apps", "techmarket", "deploy", "manage.py")
COMMAND = ("-m", "bandit", "--quiet", "--configfile=pyproject.toml", "--format=json", "--recursive", *CODE)
ANSWER = re.compile(r"#\s*nosec\b(.*)")
# Ruff's own mark may stand between; the text after it is then the reason of both.
REASONED_ANSWER = re.compile(r" B\d{3}(?:, ?B\d{3})* #(?: noqa: [A-Z]+\d+(?:, [A-Z]+\d+)* )? ?\w.*")


def audit() -> Outcome:
    report = read_json(run_tool(*COMMAND), "bandit did not end with a report")
    findings = [describe(found) for found in report["results"]]
    findings += [f"{each['filename']}: {each['reason']}" for each in report["errors"]]
    findings += find_unreasoned_answers()
    if findings:
        return Outcome(Verdict.FOUND, f"{len(findings)} to answer", tuple(findings))
    total = report["metrics"]["_totals"]
    answered = total["nosec"] + total["skipped_tests"]
    return Outcome(Verdict.PASSED, f"{total['loc']} lines of code, {answered} findings answered beside the code")


def describe(found: dict[str, Any]) -> str:
    return f"{found['filename']}:{found['line_number']}: {found['test_id']} {found['issue_text']}"


def find_unreasoned_answers() -> Iterator[str]:
    """Yield the lines with `# nosec` that name no test, which bandit would take for all of them, or no reason."""
    for path in list_code():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (answer := ANSWER.search(line)) and not REASONED_ANSWER.fullmatch(answer[1]):
                yield f"{path.relative_to(ROOT)}:{number}: # nosec without the number of a test or without a reason"


def list_code() -> Iterator[Path]:
    for name in CODE:
        yield from sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / name]
