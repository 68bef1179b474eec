"""Licenses of the packages that TechMarket runs on, as their metadata states them, against those that pyproject.toml allows."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata

from license_expression import AND, OR, ExpressionError, LicenseExpression, get_spdx_licensing

from tests.supply.lock import Locked, read_lock
from tests.supply.outcome import ROOT, Outcome, Verdict, read_answers

SPDX = get_spdx_licensing()
CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?(?!OSI Approved$)(.+)")


def audit() -> Outcome:
    stated = {package: read_licenses(package.name) for package in read_lock(ROOT / "requirements.txt")}
    answers = read_answers()["licenses"]
    findings = tuple(find_unanswered(stated, answers["allowed"], answers["exceptions"]))
    listing = group_by_license(stated)
    if findings:
        return Outcome(Verdict.FOUND, f"{len(findings)} to answer", findings, listing)
    return Outcome(Verdict.PASSED, f"{len(stated)} packages under {len(listing)} licenses", listing=listing)


def read_licenses(name: str) -> tuple[str, ...]:
    """Return the licenses of an installed package, of which all apply: an SPDX expression, else the names of its classifiers.

    The free text of `License` counts where it is an expression (BSD-3-Clause), or where there is nothing else (LGPLv3). Where the metadata
    name none, what pyproject.toml says of the package's file counts. Empty: unknown.
    """
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return ()
    text = " ".join((fields["License"] or "").split())
    if expression := fields["License-Expression"] or (text if parse(text) else ""):
        return (expression,)
    classifiers = tuple(found[1] for each in fields.get_all("Classifier", []) if (found := CLASSIFIER.fullmatch(each)))
    return classifiers or tuple(filter(None, [text or read_answers()["licenses"]["read"].get(name, "")]))


def parse(text: str) -> LicenseExpression | None:
    """Return the SPDX expression, None where the text is none."""
    try:
        return SPDX.parse(text, validate=True, strict=True)
    except ExpressionError:
        return None


def find_unanswered(stated: Mapping[Locked, tuple[str, ...]], allowed: list[str], exceptions: dict[str, str]) -> Iterator[str]:
    """Yield the packages with a license that is neither allowed nor an exception, and the exceptions that answer nothing."""
    used = set()
    for package, licenses in stated.items():
        if licenses and all(is_allowed(each, {*allowed}) for each in licenses):
            continue
        if licenses and ", ".join(licenses) == exceptions.get(package.name):
            used.add(package.name)
        elif licenses:
            yield f"{package.name} {package.version}: {', '.join(licenses)} is not allowed in pyproject.toml"
        else:
            yield f"{package.name} {package.version}: states no license, or is not installed (`make setup`)"
    yield from (f"pyproject.toml: the exception of {name} answers nothing any more" for name in sorted(exceptions.keys() - used))


def is_allowed(text: str, allowed: set[str]) -> bool:
    """Return True if the license is allowed by its name, or if its expression can be met by allowed ones."""
    expression = parse(text)
    return text in allowed or (expression is not None and can_meet(expression, allowed))


def can_meet(expression: LicenseExpression, allowed: set[str]) -> bool:
    if isinstance(expression, AND):
        return all(can_meet(each, allowed) for each in expression.args)
    if isinstance(expression, OR):
        return any(can_meet(each, allowed) for each in expression.args)
    return str(expression) in allowed


def group_by_license(stated: Mapping[Locked, tuple[str, ...]]) -> tuple[str, ...]:
    """Return a line for each license with its packages, the most frequent first."""
    groups = defaultdict(list)
    for package, licenses in stated.items():
        groups[", ".join(licenses) or "unknown"].append(f"{package.name} {package.version}")
    return tuple(f"{name}: {', '.join(groups[name])}" for name in sorted(groups, key=lambda name: (-len(groups[name]), name)))
