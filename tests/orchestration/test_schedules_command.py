"""manage.py schedules: what an operator sees and says."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.orchestration.models import Decision, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.schedules import fire, next_instants
from tests.conftest import Cli
from tests.orchestration.harness import FakeBroker, ago, asked, fresh

DAILY, WEEKLY = "techmarket-etl-daily", "techmarket-etl-weekly-full"
Say = Callable[..., tuple[int, str, str]]
in_process = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def say(schedules: None, broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command here: its exit code, what it printed, and the line of its error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = 0
        try:
            call_command("schedules", *words)
        except SystemExit as error:
            code = int(str(error.code))
        out, err = capsys.readouterr()
        assert err.count("\n") == (1 if code else 0)
        return code, out, err.strip()

    return run


@pytest.fixture
def waiting(say: Say) -> ScheduledRun:
    """Paused three days ago, resumed now."""
    Schedule.objects.filter(name=DAILY).update(paused_at=ago(days=3), enabled_since=timezone.now())
    due = fire(DAILY)
    assert due and due.decision == Decision.HELD
    return due


def test_new_control_database_has_the_two_schedules(run_cli: Cli, tmp_path: Path) -> None:
    assert run_cli("schedules").returncode == 4
    assert run_cli("migrate_all").returncode == 0
    shown = run_cli("schedules")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == f"{DAILY}: on, incremental. At 02:00 AM UTC"
    assert f"{WEEKLY}: on, full. At 03:00 AM, only on Sunday UTC" in shown.stdout
    assert shown.stdout.count("  next    ") == 10 and shown.stdout.count(" 03:00 UTC   Sun ") == 5
    assert shown.stdout.count(" 02:00 UTC   ") == 5 and "held" not in shown.stdout


@in_process
def test_next_instants_in_both_time_zones(say: Say) -> None:
    code, out, _ = say()
    assert code == 0
    for instant in next_instants(DAILY):
        local = timezone.localtime(instant)
        assert f"  next    {instant:%a %Y-%m-%d} 02:00 UTC   {local:%a %Y-%m-%d %H:%M} Europe/Kyiv\n" in out


@in_process
def test_pause_and_resume(say: Say) -> None:
    assert say("--pause", DAILY) == (0, f"{DAILY}: paused, incremental. At 02:00 AM UTC\n", "")
    assert not PeriodicTask.objects.get(name=DAILY).enabled and Schedule.objects.get(name=DAILY).enabled_since is None
    out = say()[1]
    assert f"{DAILY}: paused, incremental. At 02:00 AM UTC\n{WEEKLY}: on" in out
    code, out, err = say("--resume", DAILY)
    assert (code, err) == (0, "") and out.startswith(f"{DAILY}: on, incremental. ") and out.count("  next    ") == 5
    schedule = Schedule.objects.get(name=DAILY)
    assert schedule.enabled_since and schedule.paused_at and schedule.enabled_since > schedule.paused_at
    assert f"{DAILY}: on" in say()[1]


@in_process
def test_run_now(say: Say, waiting: ScheduledRun) -> None:
    instant = f"{waiting.scheduled_for:%a %Y-%m-%d %H:%M} UTC"
    assert f"  missed  {instant}   decide with --run-now, --backfill or --skip {waiting.pk}\n" in say()[1]
    code, out, _ = say("--run-now", str(waiting.pk))
    assert code == 0 and Run.objects.get().pk == int(out) and fresh(waiting).run_id == int(out)
    assert "held" not in say()[1]
    assert say("--skip", str(waiting.pk))[0] == 2


@in_process
def test_run_now_while_another_is_active(say: Say, waiting: ScheduledRun) -> None:
    active = asked()
    code, out, err = say("--run-now", str(waiting.pk))
    assert (code, out) == (3, "") and err.startswith(f"Skipped: overlaps run {active.pk} ")


@in_process
def test_skip(say: Say, waiting: ScheduledRun) -> None:
    assert say("--skip", str(waiting.pk)) == (0, "", "")
    assert fresh(waiting).decision == Decision.SKIPPED and not Run.objects.exists()


@in_process
def test_backfill(say: Say, waiting: ScheduledRun) -> None:
    code, _, err = say("--backfill", str(waiting.pk))
    assert code == 2 and err.endswith("has succeeded: there is nothing to backfill. Run it now instead.")
    assert fresh(waiting).decision == Decision.HELD
    last = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.SCHEDULE, requested_by=DAILY, state=State.SUCCEEDED)
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=waiting.scheduled_for - timedelta(days=5), decision=Decision.RUN, run=last)
    code, out, _ = say("--backfill", str(waiting.pk))
    run = Run.objects.get(pk=int(out))
    assert code == 0 and run.mode == Mode.INCREMENTAL and run.window_start and run.window_end
    first = timezone.localtime(waiting.scheduled_for - timedelta(days=5)).date()
    assert (timezone.localtime(run.window_start).date(), timezone.localtime(run.window_start).hour) == (first, 0)
    assert run.window_start < waiting.scheduled_for - timedelta(days=5) and run.window_end > timezone.now()


@in_process
@pytest.mark.parametrize(
    ("words", "said"),
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
def test_what_makes_no_sense(say: Say, words: tuple[str, ...], said: str) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "") and err.startswith(said)
    assert PeriodicTask.objects.get(name=DAILY).enabled
