"""The ledger's messages are shown in the language of the page."""

import re
from string import Formatter

import psycopg
import pytest
from django.utils.translation import override

from apps.demo import faults, shop
from apps.orchestration import api
from apps.orchestration.models import CheckResult, Run, Trigger
from techmarket.diagnosis import diagnose
from techmarket.messages import MESSAGES, Message, load, message, store, translate

# The same in every language: identifiers of the code, SQL, signals, units and file formats.
NAMES = re.compile(
    r"[a-z]+(_[a-z]+)+|`manage\.py [a-z_]+( --[a-z-]+( ([a-z]+|[0-9]+|\"[^\"]+\"))?)*`|\b(TechMarket|SQLite|id)\b|[A-Z]{3,}(_[A-Z]+)*"
    r"|\?[a-z]+=|`[^`]+`|\b(net|sku|email|id|ID|InnoDB|MariaDB|UTF8|ON)\b"
)


def ukrainian(value: object) -> str:
    with override("uk"):
        return translate(value)


def find_english(text: str) -> list[str]:
    """Return the words in Latin letters that are not names."""
    return re.findall(r"[A-Za-z]{2,}", NAMES.sub("", text))


@pytest.mark.parametrize("code", MESSAGES)
def test_every_code_has_a_ukrainian_text(code: str) -> None:
    params = {name: "1" for _, name, _, _ in Formatter().parse(MESSAGES[code]) if name}
    text = ukrainian(message(code, **params))
    assert not find_english(text), text
    assert "{" not in text and text.count("1") >= len(params)


def test_unknown_code_and_missing_parameter_show_the_code() -> None:
    assert ukrainian(Message("gone.code", {"table": "orders"})) == "gone.code"
    assert ukrainian(Message("task.worker_died", {})) == "task.worker_died"
    with pytest.raises(KeyError):
        message("gone.code")


def test_text_is_shown_as_it_is() -> None:
    for text in ("", "No code here.", "{place} <b>does not answer</b>"):
        assert ukrainian(text) == text
    assert ukrainian(None) == ""


def test_amounts_have_the_decimal_mark_of_the_language() -> None:
    text = message("rows.uah", rows=message("rows.many", count=8), amount="211 506.38")
    assert translate(text) == "8 rows, 211 506.38 UAH" and ukrainian(text) == "рядків: 8, 211 506,38 грн"


def test_parameters_may_be_messages_and_lists_of_them() -> None:
    check = message("check.failed", table="orders", name=message("check.balance"), expected="6", observed=message("rows.read", count="5"))
    refused = message("checks.failed", checks=[check, message("check.more", count=2)])
    expected = "Не пройдено блокувальні перевірки: orders: баланс: очікувано 6, виявлено прочитано 5; та ще 2. Нічого не опубліковано."
    assert ukrainian(refused) == ukrainian(load(store(refused))) == expected
    assert refused == ("Blocking checks failed: orders: balance: expected 6, observed 5 read; and 2 more. Nothing was published.")


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_checks_of_a_shop_with_every_fault() -> None:
    shop.generate(60, 1)
    faults.plant()
    run = api.run("full")
    checks = CheckResult.objects.filter(run=run).values_list("name", "expected", "observed")
    assert checks and not [words for check in checks for words in check if find_english(ukrainian(words))]


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_causes() -> None:
    run = api.start_run("full", Trigger.CLI, "olena")
    skipped = Run.objects.get(pk=api.start_run("full", Trigger.API, "petro").pk)
    assert ukrainian(skipped.cause).startswith(f"Пропущено через запуск {run.pk} (olena), у черзі від ")
    lost = diagnose(psycopg.errors.ConnectionTimeout("connection timeout expired"), "dwh").message
    assert re.fullmatch(r"dwh \(.*\): немає відповіді\. Запустіть сервер або виправте DWH_URL\.", ukrainian(lost))
    deadlock = diagnose(psycopg.errors.DeadlockDetected("deadlock detected"), "dwh").message
    assert re.fullmatch(r"dwh \(.*\): deadlock detected; нічого не опубліковано\. Повторіть запуск\.", ukrainian(deadlock))
