"""manage.py schedules: what it prints, and the decisions that it takes."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.orchestration.models import Decision, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.schedules import fire, next_instants
from tests.conftest import Cli
from tests.orchestration.harness import FakeBroker, ago, fresh, start_queued_run

DAILY, WEEKLY = "techmarket-etl-daily", "techmarket-etl-weekly-full"
RunCommand = Callable[..., tuple[int, str, str]]
in_process = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def run_schedules(schedules: None, broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that runs the command in this process and returns its exit code, its output and its error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            call_command("schedules", *arguments)
        except SystemExit as error:
            code = int(str(error.code))
        out, err = capsys.readouterr()
        assert err.count("\n") == (1 if code else 0)
        return code, out, err.strip()

    return run


@pytest.fixture
def missed(run_schedules: RunCommand) -> ScheduledRun:
    """Return a run missed by a schedule that was paused three days ago and resumed now."""
    Schedule.objects.filter(name=DAILY).update(paused_at=ago(days=3), enabled_since=timezone.now())
    scheduled = fire(DAILY)
    assert scheduled and scheduled.decision == Decision.HELD
    return scheduled


def test_new_control_database_has_the_two_schedules(run_cli: Cli, tmp_path: Path) -> None:
    assert run_cli("schedules").returncode == 4
    assert run_cli("migrate_all").returncode == 0
    result = run_cli("schedules")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == f"{DAILY}: on, incremental. At 02:00 AM UTC"
    assert f"{WEEKLY}: on, full. At 03:00 AM, only on Sunday UTC" in result.stdout
    assert result.stdout.count("  next    ") == 10 and result.stdout.count(" 03:00 UTC   Sun ") == 5
    assert result.stdout.count(" 02:00 UTC   ") == 5 and "held" not in result.stdout


@in_process
def test_next_instants_in_both_time_zones(run_schedules: RunCommand) -> None:
    code, out, _ = run_schedules()
    assert code == 0
    for instant in next_instants(DAILY):
        local = timezone.localtime(instant)
        assert f"  next    {instant:%a %Y-%m-%d} 02:00 UTC   {local:%a %Y-%m-%d %H:%M} Europe/Kyiv\n" in out


@in_process
def test_schedule_without_a_time(run_schedules: RunCommand) -> None:
    CrontabSchedule.objects.filter(periodictask__name=WEEKLY).update(day_of_week="7")
    assert "\n  next    none: its crontab has no time in the coming year. Correct it in the admin\n" in run_schedules()[1]


@in_process
def test_pause_and_resume(run_schedules: RunCommand) -> None:
    assert run_schedules("--pause", DAILY) == (0, f"{DAILY}: paused, incremental. At 02:00 AM UTC\n", "")
    assert not PeriodicTask.objects.get(name=DAILY).enabled and Schedule.objects.get(name=DAILY).enabled_since is None
    out = run_schedules()[1]
    assert f"{DAILY}: paused, incremental. At 02:00 AM UTC\n{WEEKLY}: on" in out
    code, out, err = run_schedules("--resume", DAILY)
    assert (code, err) == (0, "") and out.startswith(f"{DAILY}: on, incremental. ") and out.count("  next    ") == 5
    schedule = Schedule.objects.get(name=DAILY)
    assert schedule.enabled_since and schedule.paused_at and schedule.enabled_since > schedule.paused_at
    assert f"{DAILY}: on" in run_schedules()[1]


@in_process
def test_run_now(run_schedules: RunCommand, missed: ScheduledRun) -> None:
    instant = f"{missed.scheduled_for:%a %Y-%m-%d %H:%M} UTC"
    assert f"  missed  {instant}   decide with --run-now, --backfill or --skip {missed.pk}\n" in run_schedules()[1]
    code, out, _ = run_schedules("--run-now", str(missed.pk))
    assert code == 0 and Run.objects.get().pk == int(out) and fresh(missed).run_id == int(out)
    assert "held" not in run_schedules()[1]
    assert run_schedules("--skip", str(missed.pk))[0] == 2


@in_process
def test_run_now_while_another_is_active(run_schedules: RunCommand, missed: ScheduledRun) -> None:
    active = start_queued_run()
    code, out, err = run_schedules("--run-now", str(missed.pk))
    assert (code, out) == (3, "") and err.startswith(f"Skipped: overlaps run {active.pk} ")


@in_process
def test_skip(run_schedules: RunCommand, missed: ScheduledRun) -> None:
    assert run_schedules("--skip", str(missed.pk)) == (0, "", "")
    assert fresh(missed).decision == Decision.SKIPPED and not Run.objects.exists()


@in_process
def test_backfill(run_schedules: RunCommand, missed: ScheduledRun) -> None:
    code, _, err = run_schedules("--backfill", str(missed.pk))
    assert code == 2 and err.endswith("has succeeded: there is nothing to backfill. Run it now instead.")
    assert fresh(missed).decision == Decision.HELD
    last = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.SCHEDULE, requested_by=DAILY, state=State.SUCCEEDED)
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=missed.scheduled_for - timedelta(days=5), decision=Decision.RUN, run=last)
    code, out, _ = run_schedules("--backfill", str(missed.pk))
    run = Run.objects.get(pk=int(out))
    assert code == 0 and run.mode == Mode.INCREMENTAL and run.window_start and run.window_end
    first = timezone.localtime(missed.scheduled_for - timedelta(days=5)).date()
    assert (timezone.localtime(run.window_start).date(), timezone.localtime(run.window_start).hour) == (first, 0)
    assert run.window_start < missed.scheduled_for - timedelta(days=5) and run.window_end > timezone.now()


@in_process
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pause", "nightly"), "There is no schedule 'nightly'."),
        (("--resume", ""), "There is no schedule ''."),
        (("--run-now", "4711"), "There is no missed run 4711. `manage.py schedules` lists those that await a decision."),
        (("--backfill", "4711"), "There is no missed run 4711."),
        (("--skip", "-1"), "argument --skip: '"),
        (("--skip", "1_0"), "argument --skip: '"),
        (("--pause", DAILY, "--resume", DAILY), "argument --resume: not allowed with argument --pause."),
    ],
)
def test_invalid_arguments_are_refused(run_schedules: RunCommand, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run_schedules(*arguments)
    assert (code, out) == (2, "") and err.startswith(message)
    assert PeriodicTask.objects.get(name=DAILY).enabled
