"""Known vulnerabilities of the locked packages, as pip-audit finds them at PyPI, or at OSV with PIP_AUDIT_VULNERABILITY_SERVICE=osv."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.supply.outcome import Outcome, Unaudited, Verdict, read_answers, read_json, run_tool

LOCKS = ("requirements.txt", "requirements-dev.txt", "deploy/airflow/requirements.txt")
COMMAND = ("-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off", "--desc=off", "--aliases=on", "--format=json")
UNANSWERED = "no index of advisories answers as it should"
ERROR = re.compile(r"^ERROR:pip_audit[\w.]*:(.+)$", re.MULTILINE)
NAMED = 5  # packages, where not all of a lock were looked up


@dataclass(frozen=True)
class Advisory:
    """`ids`: its own and its aliases; any of them answers it."""

    lock: str
    package: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.lock}: {self.package} has {', '.join(self.ids)} ({fix})"


def audit() -> Outcome:
    advisories: list[Advisory] = []
    unaudited: list[str] = []
    packages = 0
    for lock in LOCKS:
        try:
            report = look_up(lock)
        except Unaudited as reason:
            unaudited.append(f"{lock}: {reason}")
            continue
        packages += len(report)
        advisories += parse_advisories(lock, report)
        unaudited += describe_skipped(lock, report)
    findings = list(find_unanswered(advisories, is_complete=not unaudited))
    if findings:
        return Outcome(Verdict.FOUND, f"{len(findings)} to answer", (*findings, *(f"not audited: {line}" for line in unaudited)))
    if unaudited:
        return Outcome(Verdict.NOT_AUDITED, "; ".join(unaudited))
    return Outcome(Verdict.PASSED, f"{packages} locked packages looked up")


def look_up(lock: str) -> list[dict[str, Any]]:
    """Return what pip-audit reports, package by package. Raises Unaudited where no index answers."""
    result = run_tool(*COMMAND, "--requirement", lock)
    causes = ERROR.findall(result.stderr)
    return list(read_json(result, causes[-1] if causes else UNANSWERED)["dependencies"])


def parse_advisories(lock: str, report: list[dict[str, Any]]) -> Iterator[Advisory]:
    for each in report:
        for found in each.get("vulns", []):
            yield Advisory(lock, f"{each['name']} {each['version']}", (found["id"], *found["aliases"]), tuple(found["fix_versions"]))


def describe_skipped(lock: str, report: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line where packages are unknown to the index, for which pip-audit itself ends as if it had looked them up."""
    skipped = [each["name"] for each in report if "skip_reason" in each]
    if skipped and len(skipped) == len(report):
        yield f"{lock}: the index knows none of its {len(report)} packages"
    elif skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        yield f"{lock}: the index does not know {', '.join(skipped[:NAMED])}{more}"


def find_unanswered(advisories: Iterable[Advisory], is_complete: bool) -> Iterator[str]:
    """Yield the advisories that pyproject.toml does not answer, and where all were looked up its answers that answer nothing."""
    answers = read_answers()["advisories"].keys()
    found = {name for each in advisories for name in each.ids}
    yield from (str(each) for each in advisories if not answers & {*each.ids})
    if is_complete:
        yield from (f"pyproject.toml: {name} is answered, but no locked package has it any more" for name in sorted(answers - found))
