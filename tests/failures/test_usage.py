"""Invalid arguments: exit code 2 and one sentence, before any database access (which pytest refuses without its mark).

The kinds are in tests/refusals/cases.py; here are further spellings. Only what day it is the control database is asked.
"""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.conf import settings
from django.core.management import execute_from_command_line
from django.test import override_settings

from apps.orchestration.management.commands.run_etl import parse_window
from apps.orchestration.window import MAX_DAYS, today
from techmarket.commands import ExitCode, whole_number

# Replaced by the date when the test runs: the suite may run past midnight.
TOMORROW = "TOMORROW"
asks_the_day = pytest.mark.django_db


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # modes
        ("--mode", "--mode"),
        ("--mode=", "--mode"),
        # days
        *((f"--days {days}", "a whole number from 1 to 3650") for days in ("1_000", "７", "1.0", "+7", "x", "3651")),
        ("--days " + "9" * 5000, "a whole number from 1 to 3650"),
        ("--days " + "0" * 5000, "a whole number from 1 to 3650"),
        # days of the calendar
        ("--start-date 2024-01-01 --end-date 2024-13-01", "no day 2024-13-01"),
        *(
            (f"--start-date {day} --end-date 2024-12-31", "as 2024-01-31")
            for day in ("2024-1-1", "20240101", "2024-W01-1", "２０２４-01-01", "now()")
        ),
        # windows
        ("--end-date 2024-02-01", "both a start and an end date"),
        ("--start-date 2024-01-01 --days 7", "not both"),
        ("--end-date 2024-01-01 --days 7", "not both"),
        ("--start-date= --days 7", "is not a day"),
        ("--start-date= --end-date=", "as 2024-01-31"),
        # unknown options
        ("--tables fact_sales;drop", "--tables"),
        ("--run-id not-a-uuid", "--run-id"),
        ("--day 7", "--day"),
        # --resume
        *((f"--resume {run}", "a whole number") for run in ("x", "1_0", "٣", "9223372036854775808", "1;drop")),
        ("--resume 1 --dry-run", "--resume"),
        ("--resume", "--resume"),
        # --cancel
        ("--cancel x", "a whole number"),
        ("--cancel 1 --mode full", "Combine --cancel only with --reason"),
    ],
)
def test_invalid_arguments_are_refused(arguments: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_usage_error(arguments.split(" "), expected, capsys)


@asks_the_day
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--mode full --start-date 2024-01-01 --end-date 2024-01-31", "only with an incremental run"),
        (f"--start-date {TOMORROW} --end-date {TOMORROW}", "in the future"),
        (f"--start-date 2024-01-01 --end-date {TOMORROW}", "in the future"),
        ("--resume 1 --days 7", "--resume"),
    ],
)
def test_window_that_no_run_can_have_is_refused(arguments: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    tomorrow = (today() + timedelta(days=1)).isoformat()
    assert_usage_error([tomorrow if word == TOMORROW else word for word in arguments.split(" ")], expected, capsys)


@pytest.mark.parametrize("day", ["", " 2024-01-01", "2024-01-01 ", "\u00a02024-01-01"])
def test_day_with_invisible_characters(day: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_usage_error(["--start-date", day, "--end-date", "2024-12-31"], "as 2024-01-31", capsys)


def assert_usage_error(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        execute_from_command_line(["manage.py", "run_etl", *arguments])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (ExitCode.USAGE, "")
    assert expected in err and err.count("\n") == 1 and err.endswith(".\n") and len(err) < 6000
    assert "Traceback" not in err and "Database access" not in err


def parse_options(**options: object) -> tuple[datetime | None, datetime | None]:
    window = parse_window({"mode": None, "days": None, "start_date": None, "end_date": None} | options)
    return window.start, window.end


def test_no_options_mean_no_window() -> None:
    assert parse_options() == (None, None)


@asks_the_day
def test_start_and_end_on_one_day_cover_that_day() -> None:
    """Item 19: the end is included, so the window is not empty. It is a day in Kyiv, of 23 to 25 hours."""
    assert parse_options(start_date="2024-02-29", end_date="2024-02-29") == (
        datetime(2024, 2, 28, 22, tzinfo=UTC),
        datetime(2024, 2, 29, 22, tzinfo=UTC),
    )
    spring = parse_options(start_date="2024-03-31", end_date="2024-03-31")
    assert spring == (datetime(2024, 3, 30, 22, tzinfo=UTC), datetime(2024, 3, 31, 21, tzinfo=UTC))


@asks_the_day
@pytest.mark.parametrize("days", [1, 7, MAX_DAYS])
def test_the_last_days_include_today(days: int) -> None:
    start, end = parse_options(days=days)
    assert start and end and start <= datetime.now(UTC) < end
    assert (end.date() - start.date()).days == days
    assert parse_options(start_date=(today() - timedelta(days=days - 1)).isoformat(), end_date=today().isoformat()) == (start, end)


@asks_the_day
def test_today_follows_the_shop_time_zone() -> None:
    """In a time zone a day ahead, a date that is tomorrow elsewhere is not in the future."""
    with override_settings(SHOP_TIME_ZONE="Pacific/Kiritimati"):
        ahead = today()
        assert parse_options(start_date=ahead.isoformat(), end_date=ahead.isoformat())[0] is not None
    with override_settings(SHOP_TIME_ZONE="Pacific/Niue"):
        assert date.today() - today() in (timedelta(days=0), timedelta(days=1), timedelta(days=-1)) and today() < ahead


@pytest.mark.parametrize("text", ["1", "3650", "0000000000000007"])
def test_whole_number_takes_plain_digits(text: str) -> None:
    assert whole_number(1, MAX_DAYS)(text) == int(text)


@pytest.mark.servers
def test_every_database_has_a_connect_timeout() -> None:
    for config in settings.DATABASES.values():
        if not config["ENGINE"].endswith("sqlite3"):
            assert config["OPTIONS"]["connect_timeout"] <= 10
        assert {"read_timeout", "keepalives_count", "timeout"} & set(config["OPTIONS"])
