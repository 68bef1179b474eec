"""The schedules' pages: the next runs, invalid crontabs, Run now, and the decision on missed runs."""

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.console.schedules import describe_crontab, describe_instant
from apps.orchestration.models import Decision, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.schedules import fire, next_instants
from tests.console.conftest import SignIn, list_messages
from tests.orchestration.harness import FakeBroker, ago, fresh

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("schedules")]
DAILY, WEEKLY = "techmarket-etl-daily", "techmarket-etl-weekly-full"
WHEN = {"minute": "30", "hour": "4", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "Europe/Kyiv"}


def beat(name: str = DAILY) -> PeriodicTask:
    return PeriodicTask.objects.select_related("crontab").get(name=name)


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:{name}", args=args)


def schedule_page(name: str = DAILY) -> str:
    return page("django_celery_beat_periodictask_change", beat(name).pk)


@pytest.fixture
def missed(broker: FakeBroker) -> ScheduledRun:
    """Return the run that a schedule missed, paused three days ago and resumed now."""
    Schedule.objects.filter(name=DAILY).update(paused_at=ago(days=3), enabled_since=timezone.now())
    due = fire(DAILY)
    assert due and due.decision == Decision.HELD
    return due


# --- Crontabs in words ---


@pytest.mark.parametrize(
    ("fields", "english", "ukrainian"),
    [
        ({}, "every day at 04:30, Kyiv", "щодня о 04:30, Київ"),
        ({"day_of_week": "0", "timezone": "UTC"}, "Sundays at 04:30, UTC", "щонеділі о 04:30, UTC"),
        (
            {"day_of_week": "mon,tue", "hour": "6,18"},
            "Mondays, Tuesdays at 06:30, 18:30, Kyiv",
            "щопонеділка, щовівторка о 06:30, 18:30, Київ",
        ),
        ({"hour": "*/2"}, "30 */2 * * *, Kyiv", "30 */2 * * *, Київ"),
        ({"day_of_month": "1"}, "30 4 1 * *, Kyiv", "30 4 1 * *, Київ"),
    ],
)
def test_crontabs_in_words(fields: dict[str, str], english: str, ukrainian: str) -> None:
    crontab = CrontabSchedule(**WHEN | fields)
    assert describe_crontab(crontab) == english
    with override("uk"):
        assert describe_crontab(crontab) == ukrainian


def test_next_five_instants_are_shown_in_the_shops_time(sign_in: SignIn) -> None:
    for group in (VIEWER, OPERATOR, ADMINISTRATOR):
        client = sign_in(group)
        shown = client.get(schedule_page(WEEKLY)).content.decode()
        for instant in next_instants(WEEKLY):
            local = timezone.localtime(instant)
            assert local.hour in (5, 6) and f"{local:%H:%M} Kyiv" in shown and f"Sunday, {local.day} {local:%B %Y}" in shown
            assert describe_instant(instant).split(" (in ")[0] in shown
    with override("uk"):
        shown = describe_instant(next_instants(WEEKLY)[0])
        assert shown.startswith("Неділя, ") and " Київ (до запуску: " in shown
    PeriodicTask.objects.filter(name=WEEKLY).update(enabled=False)
    assert "Paused. Enable the schedule" in client.get(schedule_page(WEEKLY)).content.decode()
    client.cookies["django_language"] = "uk"
    shown = client.get(schedule_page(WEEKLY)).content.decode()
    assert "Планування" in shown and "Periodic" not in shown


# --- Invalid crontabs ---


@pytest.mark.parametrize(
    "fields",
    [
        {"day_of_week": "7"},
        {"day_of_month": "31", "month_of_year": "2"},
        {"day_of_month": "30", "month_of_year": "feb"},
        {"hour": "25"},
        {"hour": "*/0"},
        {"hour": "-1"},
        {"hour": ""},
        {"hour": "1,,2"},
        {"minute": "9" * 500},
        {"minute": "5-1"},
        {"minute": "<script>alert(1)</script>"},
        {"timezone": "Mars/Phobos"},
    ],
)
def test_invalid_crontabs_get_a_message(sign_in: SignIn, fields: dict[str, str]) -> None:
    """django-celery-beat's own form accepts some of these; then neither beat nor our pages could read them."""
    client, crontab, before = sign_in(ADMINISTRATOR), beat().crontab, CrontabSchedule.objects.count()
    for address in (page("django_celery_beat_crontabschedule_change", crontab.pk), page("django_celery_beat_crontabschedule_add")):
        answer = client.post(address, WHEN | fields)
        assert answer.status_code == 200 and answer.context["adminform"].form.errors and "alert(1)</script>" not in answer.content.decode()
    assert fresh(crontab).hour == "2" and CrontabSchedule.objects.count() == before


def test_invalid_stored_crontab_breaks_no_page(sign_in: SignIn) -> None:
    CrontabSchedule.objects.filter(pk=beat().crontab_id).update(day_of_week="7")
    client = sign_in(ADMINISTRATOR)
    for address in (
        schedule_page(),
        page("django_celery_beat_periodictask_changelist"),
        page("django_celery_beat_crontabschedule_changelist"),
        page("index"),
    ):
        assert client.get(address).status_code == 200, address


# --- Run now ---


def test_run_now_starts_the_schedules_run(sign_in: SignIn, broker: FakeBroker) -> None:
    operator, address = sign_in(OPERATOR), page("django_celery_beat_periodictask_changelist")
    start = f"{page('orchestration_run_start')}?mode=full"
    shown = operator.get(address).content.decode()
    assert "run_selected" in shown and "run_tasks" not in shown and "delete_selected" not in shown
    answer = operator.post(address, {"action": "run_selected", "_selected_action": [beat(WEEKLY).pk]})
    assert answer.headers["Location"] == start and start.replace("&", "&amp;") in operator.get(schedule_page(WEEKLY)).content.decode()
    both = operator.post(address, {"action": "run_selected", "_selected_action": [beat().pk, beat(WEEKLY).pk]}, follow=True)
    assert "Select one schedule" in list_messages(both)[0]
    viewer = sign_in(VIEWER)
    assert "run_selected" not in viewer.get(address).content.decode() and start not in viewer.get(schedule_page(WEEKLY)).content.decode()
    viewer.post(address, {"action": "run_selected", "_selected_action": [beat().pk]})
    assert not Run.objects.exists()


def test_operators_do_not_change_schedules(sign_in: SignIn) -> None:
    assert sign_in(OPERATOR).post(schedule_page(), {"crontab": beat().crontab_id}).status_code == 403
    assert beat().enabled


# --- Missed runs ---


def test_missed_run_is_decided(sign_in: SignIn, missed: ScheduledRun, broker: FakeBroker) -> None:
    operator, address = sign_in(OPERATOR), page("orchestration_scheduledrun_resolve", missed.pk)
    assert address in operator.get(schedule_page()).content.decode()
    assert address in operator.get(page("orchestration_scheduledrun_change", missed.pk)).content.decode()
    assert operator.get(address).status_code == 200 and fresh(missed).decision == Decision.HELD
    invalid = operator.post(address, {"resolution": "else"}, follow=True)
    assert "Choose one of the options" in list_messages(invalid)[0] and fresh(missed).decision == Decision.HELD
    no_gap = operator.post(address, {"resolution": "backfill"}, follow=True)
    assert "there is nothing to backfill" in list_messages(no_gap)[0] and fresh(missed).decision == Decision.HELD
    answer = operator.post(address, {"resolution": "run", "reason": "the servers are back"}, follow=True)
    due = fresh(missed)
    assert (due.decision, due.decided_by, due.run.state, due.run.requested_by) == (Decision.RUN, OPERATOR, State.QUEUED, OPERATOR)
    assert broker.take_sent() == [due.run.tasks.get().pk] and f"Run {due.run_id} queued." in list_messages(answer)[0]
    history = operator.get(page("orchestration_scheduledrun_history", due.pk)).content.decode()
    assert "Run after the pause: the servers are back" in history
    again = operator.post(address, {"resolution": "skip"}, follow=True)
    assert "decided already" in list_messages(again)[0] and Run.objects.count() == 1


def test_missed_runs_are_backfilled_or_skipped(sign_in: SignIn, missed: ScheduledRun, broker: FakeBroker) -> None:
    done = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.SCHEDULE, requested_by=DAILY, state=State.SUCCEEDED)
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=ago(days=9), decision=Decision.RUN, run=done)
    administrator = sign_in(ADMINISTRATOR)
    administrator.post(page("orchestration_scheduledrun_resolve", missed.pk), {"resolution": "backfill"})
    run = fresh(missed).run
    assert run.mode == Mode.INCREMENTAL and 8 < (run.window_end - run.window_start).days < 12
    other = ScheduledRun.objects.create(schedule_id=WEEKLY, scheduled_for=ago(days=1), decision=Decision.HELD)
    answer = administrator.post(page("orchestration_scheduledrun_resolve", other.pk), {"resolution": "skip"}, follow=True)
    assert fresh(other).decision == Decision.SKIPPED and fresh(other).run is None and list_messages(answer)[-1] == "Missed run skipped."


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "delete"])
def test_viewers_may_not_decide(sign_in: SignIn, missed: ScheduledRun, method: str) -> None:
    viewer, address = sign_in(VIEWER), page("orchestration_scheduledrun_resolve", missed.pk)
    assert getattr(viewer, method)(address, {"resolution": "run"}).status_code == 403
    assert fresh(missed).decision == Decision.HELD and address not in viewer.get(schedule_page()).content.decode()
    assert sign_in(OPERATOR).put(address).status_code == 405


def test_schedule_without_a_time_is_not_called_paused(sign_in: SignIn) -> None:
    CrontabSchedule.objects.filter(periodictask__name=WEEKLY).update(day_of_week="7")
    client = sign_in(ADMINISTRATOR)
    for address in (page("django_celery_beat_periodictask_changelist"), schedule_page(WEEKLY)):
        text = client.get(address).content.decode()
        assert "none: its crontab has no time in the coming year" in text
        assert "paused</td>" not in text and "Paused. Enable" not in text
