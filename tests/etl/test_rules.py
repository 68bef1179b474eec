"""Every rejection in the transforms names a rule of rules.py and fills its reason."""

import ast
from string import Formatter

import pytest

from apps.etl.tables import SOURCES
from apps.etl.transform.rows import UNREADABLE, unreadable_parameters
from apps.etl.transform.rules import RULES, render_label, render_reason
from tests.conftest import ROOT

RULE_ARGUMENT = {"reject": 1, "reject_missing": 1, "reject_unlisted": 2}
FILLED_BY_ROWS = {"reject": set(), "reject_missing": {"column"}, "reject_unlisted": {"column", "allowed"}}


def find_rejections() -> list[tuple[str, set[str]]]:
    """Return rule and parameter names of every call that rejects by a literal code."""
    files = [ast.parse(path.read_text()) for path in (ROOT / "apps/etl/transform").glob("*.py")]
    calls = [node for file in files for node in ast.walk(file) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    found = []
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in RULE_ARGUMENT:
            rule = (call.args[RULE_ARGUMENT[call.func.attr] :] or [ast.Constant("missing_value")])[0]
            if isinstance(rule, ast.Constant):
                found.append((str(rule.value), {keyword.arg or "" for keyword in call.keywords} | FILLED_BY_ROWS[call.func.attr]))
    return found


def find_placeholders(reason: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(reason) if name}


def test_rejections_and_rules_match() -> None:
    unreadable = [(UNREADABLE[column.kind], set(unreadable_parameters(column))) for source in SOURCES.values() for column in source.columns]
    used = find_rejections() + unreadable
    assert {rule for rule, _ in used} == set(RULES)
    for rule, names in used:
        assert names >= find_placeholders(RULES[rule].reason), rule


@pytest.mark.parametrize(
    ("code", "params", "label", "reason"),
    [
        ("missing_value", {"column": "email"}, "Missing value", "email is empty"),
        ("missing_value", {}, "Missing value", "missing_value"),
        ("missing_value", None, "Missing value", "missing_value"),
        ("no_such_rule", {"column": "email"}, "no_such_rule", "no_such_rule"),
        ("duplicate", {"column": "{0} {x}"}, "Duplicate key", "another row has the same {0} {x}"),
    ],
)
def test_label_and_reason_are_rendered(code: str, params: dict[str, str], label: str, reason: str) -> None:
    assert (render_label(code), render_reason(code, params)) == (label, reason)


def test_reason_is_rendered_in_the_language_of_the_reader() -> None:
    ukrainian = {"{column} is empty": "стовпець {column} порожній"}
    assert render_reason("missing_value", {"column": "email"}, ukrainian.__getitem__) == "стовпець email порожній"
