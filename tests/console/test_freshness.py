"""Green on schedule, amber once a due run is missed, red when two are or the last one failed."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from apps.orchestration.freshness import read_freshness
from apps.orchestration.models import Mode, Run, State, Trigger
from apps.orchestration.schedules import set_enabled
from apps.warehouse.loads import Load
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("schedules")]
WEDNESDAY = datetime(2026, 3, 4, 2, 0, 20, tzinfo=UTC)  # the daily run's instant is 02:00


def create_load(mark: datetime) -> None:
    Load.objects.create(run_uuid=uuid.uuid4(), run_id=1, mode="full", high_water_mark=mark, counts={}, published_at=mark)


def make_run(state: State, created: datetime | None = None) -> Run:
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=state)
    run.created_at = created or timezone.now()
    return run


@pytest.mark.parametrize(
    ("later", "light", "missed"),
    [
        (timedelta(hours=5), "green", 0),
        (timedelta(hours=24, minutes=5), "green", 0),  # beat may fire late
        (timedelta(hours=24, minutes=15), "amber", 1),
        (timedelta(hours=49), "red", 2),
        (timedelta(days=300), "red", 4),  # at most two of each schedule are counted
    ],
)
def test_light_by_missed_runs(later: timedelta, light: str, missed: int) -> None:
    create_load(WEDNESDAY)
    found = read_freshness(make_run(State.SUCCEEDED), None, WEDNESDAY + later)
    assert (found.light, found.missed, found.age, found.as_of) == (light, missed, later, WEDNESDAY)


def test_running_scheduled_run_is_not_missed() -> None:
    create_load(WEDNESDAY)
    now = WEDNESDAY + timedelta(hours=24, minutes=40)
    at_work = make_run(State.RUNNING, WEDNESDAY + timedelta(hours=24))
    assert read_freshness(None, at_work, now).light == "green"
    at_work.created_at = now
    assert read_freshness(None, at_work, now).light == "amber", "it started after that instant"


@pytest.mark.parametrize("state", [State.FAILED, State.LOST])
def test_failed_run_is_red(state: State) -> None:
    create_load(WEDNESDAY)
    assert read_freshness(make_run(state), None, WEDNESDAY + timedelta(minutes=1)).light == "red"
    assert read_freshness(make_run(State.CANCELLED), None, WEDNESDAY + timedelta(minutes=1)).light == "green"


@pytest.mark.parametrize("wrong", [{"day_of_week": "7"}, {"day_of_month": "31", "month_of_year": "2"}])
def test_schedule_that_never_comes_is_not_on_schedule(wrong: dict[str, str]) -> None:
    """The admin refuses such a crontab; SQL, a fixture and the years between two 29ths of February do not."""
    create_load(WEDNESDAY)
    CrontabSchedule.objects.filter(periodictask__name="techmarket-etl-weekly-full").update(**wrong)
    fresh = read_freshness(None, None, WEDNESDAY + timedelta(hours=1))
    assert (fresh.light, fresh.paused, fresh.unplanned) == ("amber", False, True)


def test_empty_warehouse_is_red_and_paused_schedules_miss_nothing() -> None:
    assert (read_freshness(None, None).light, read_freshness(None, None).as_of) == ("red", None)
    create_load(WEDNESDAY)
    for name in ("techmarket-etl-daily", "techmarket-etl-weekly-full"):
        set_enabled(name, enabled=False)
    fresh = read_freshness(None, None, WEDNESDAY + timedelta(days=30))
    assert (fresh.light, fresh.missed, fresh.paused, fresh.unplanned) == ("amber", 0, True, False)
