"""Command lines and schedules: days, numbers and crontabs of any text are read or refused, in one line that shows what was typed."""

import re
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import ParseException
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django_celery_beat.models import CrontabSchedule
from hypothesis import example, given
from hypothesis import strategies as st

from apps.orchestration import clock
from apps.orchestration.schedules import scheduled_instants
from apps.orchestration.window import MAX_DAYS, Window, parse_day
from techmarket.commands import ExitCode, whole_number
from techmarket.errors import Usage
from techmarket.messages import Message, load, message, store, translate
from tests.fuzz.inputs import SECRET, fuzzed, json_values, spliced, texts

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
days = st.one_of(texts, st.dates().map(str), st.from_regex(r"\A[0-9]{3,5}-[0-9]{1,2}-[0-9]{1,2}\Z"))


@fuzzed()
@given(text=days)
def test_day_is_one_of_the_calendar(text: str) -> None:
    try:
        found = parse_day(text)
    except Usage as error:
        assert str(error).isprintable() and (not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) or "no day" in str(error))
        return
    assert found.isoformat() == text


@fuzzed()
@given(count=st.one_of(st.none(), st.integers()), first=st.one_of(st.none(), st.dates()), last=st.one_of(st.none(), st.dates()))
def test_window_is_whole_days_that_have_begun(count: int | None, first: date | None, last: date | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: NOW)
        try:
            window = Window.from_options(count, first, last)
        except Usage as error:
            assert str(error).isprintable()
            return
    if window.start is None or window.end is None:
        assert window.is_everything and count is None and first is last is None
        return
    kyiv = ZoneInfo("Europe/Kyiv")
    start, end = window.start.astimezone(kyiv), window.end.astimezone(kyiv)
    assert start.time() == end.time() == datetime.min.time() and start < end <= NOW.astimezone(kyiv) + timedelta(days=1)
    assert count is None or (end.date() - start.date()).days == count <= MAX_DAYS


@fuzzed()
@given(text=st.one_of(texts, st.integers().map(str), st.just("9" * 5_000)))
def test_whole_number_is_plain_digits(text: str) -> None:
    try:
        assert 1 <= whole_number(1, 2**63 - 1)(text) < 2**63 and re.fullmatch("[0-9]+", text)
    except ArgumentTypeError as error:
        assert str(error).isprintable() and len(str(error)) < 200


COMMANDS = (
    "run_etl",
    "rejects",
    "audit",
    "report",
    "restore",
    "backup",
    "reconcile",
    "schedules",
    "generate_data",
    "kpis",
    "seed_metabase",
)


@fuzzed()
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(
        spliced(["--", "-", ""], ["mode", "days", "resume", "last", "x"], ["=", ""], ["-1", "\x1b[31m"]), min_size=1, max_size=3
    ),
)
@example(command="run_etl", words=["--\x1b[31m", "\u2028"])
def test_unknown_arguments_are_refused_in_one_line(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call_command(command, *words, "--no-such-option")
    shown = capsys.readouterr()
    assert stopped.value.code == ExitCode.USAGE or "help" in shown.out
    assert shown.err.removesuffix("\n").isprintable()


FIELDS = {"minute": 60, "hour": 24, "day_of_month": 32, "month_of_year": 13, "day_of_week": 8}
parts = st.one_of(
    st.just("*"),
    st.integers(0, 60).map(str),
    spliced(["*", "1", "1-5", "5-1", "mon", "0"], ["/", ",", ""], ["2", "0", "", "99", "*"]),
    texts,
)


@pytest.mark.filterwarnings("ignore")
@fuzzed(2)
@given(fields=st.fixed_dictionaries(dict.fromkeys(FIELDS, parts)), zone=st.sampled_from(["UTC", "Europe/Kyiv", "America/St_Johns"]))
@example(fields={"minute": "0", "hour": "*/0", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}, zone="UTC")
def test_crontab_that_the_form_takes_has_instants_in_order(fields: dict[str, str], zone: str) -> None:
    crontab = CrontabSchedule(**fields, timezone=ZoneInfo(zone))
    try:
        crontab.clean_fields()
    except ValidationError:
        return
    try:
        found = list(islice(scheduled_instants(crontab, NOW), 4))
    except (ValueError, ParseException):  # what the schedules' pages and commands show as a schedule without a time
        return
    assert found == sorted(set(found)) and all(instant > NOW for instant in found)
    back = list(islice(scheduled_instants(crontab, NOW, backwards=True), 2))
    assert back == sorted(set(back), reverse=True) and all(instant <= NOW for instant in back)


# --- Messages of the ledger ---

codes = st.sampled_from(["database.unreachable", "brake.worth_of", "batch.gone", "rows.uah", "database.bad_password"])


@fuzzed(2)
@given(
    stored=st.one_of(
        json_values, st.builds(lambda code, params: {"code": code, "params": params}, st.one_of(codes, json_values), json_values)
    )
)
@example(stored={"code": [], "params": {}})
@example(stored={"code": "batch.gone", "params": []})
def test_any_json_of_a_message_is_shown(stored: Any) -> None:
    """A row of an older or a newer version, or one that somebody has changed."""
    assert isinstance(translate(load(stored)), str)


@fuzzed()
@given(values=st.fixed_dictionaries({"place": texts, "object": texts}))
def test_message_is_loaded_as_it_was_stored(values: dict[str, str]) -> None:
    written = message("batch.gone", **values)
    read = load(store(written))
    assert isinstance(read, Message) and (read, read.code, read.params) == (written, written.code, written.params)
    assert SECRET not in read
