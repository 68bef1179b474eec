"""The window of a run: one value, validated where a run is started, for programs, commands and pages alike."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from apps.orchestration import api
from apps.orchestration.models import Mode, Run, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.window import Window
from techmarket.errors import Usage
from tests.conftest import Cli

FIRST, LAST = date(2026, 3, 28), date(2026, 3, 29)  # the clock goes forward in the second night
BOTH = "Give both a start and an end date; they may be the same day."
EITHER = "Give either a number of days or a start and an end date, not both."
FULL = "A full run takes everything. Give days or dates only with an incremental run."
LEDGER = pytest.mark.django_db(databases="__all__")


@LEDGER
def test_window_between_includes_both_days() -> None:
    assert Window.between(FIRST, LAST) == Window(datetime(2026, 3, 27, 22, tzinfo=UTC), datetime(2026, 3, 29, 21, tzinfo=UTC))


def test_no_options_mean_everything() -> None:
    assert Window.from_options() == Window.everything() and Window.everything().is_everything


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": FIRST}, BOTH),
        ({"last": LAST}, BOTH),
        ({"days": 7, "first": FIRST, "last": LAST}, EITHER),
        ({"days": 7, "last": LAST}, EITHER),
        ({"days": 0}, "0 is not a number of days from 1 to 3650."),
        ({"days": -3}, "-3 is not a number of days from 1 to 3650."),
        ({"first": LAST, "last": FIRST}, "The end, 2026-03-28, is before the start, 2026-03-29."),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Usage) as error:
        Window.from_options(**options)
    assert str(error.value) == message


@LEDGER
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "full", "days": 7}, FULL),
        ({"mode": "full", "start_date": FIRST, "end_date": LAST}, FULL),
        ({"end_date": LAST}, BOTH),
        ({"start_date": FIRST}, BOTH),
        ({"days": 7, "start_date": FIRST, "end_date": LAST}, EITHER),
    ],
)
def test_api_refuses_and_records_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Usage, match=message[:40]):
        api.run(**options)
    assert not Run.objects.exists()


@LEDGER
def test_start_run_refuses_an_end_without_a_start() -> None:
    with pytest.raises(Usage, match="both a start and an end date"):
        start_run(Mode.INCREMENTAL, Trigger.API, "test", Window(None, datetime(2026, 3, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "full", "--days", "7"], FULL),
        (["--end-date", "2026-03-29"], BOTH),
        (["--days", "7", "--start-date", "2026-03-28", "--end-date", "2026-03-29"], EITHER),
    ],
)
def test_command_refuses_with_one_line(arguments: list[str], message: str, run_cli: Cli) -> None:
    result = run_cli("run_etl", *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"{message}\n")
