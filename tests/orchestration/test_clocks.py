"""Clocks and duties: whether reaping and schedules did run, whose clock is off, and that beat's messages do not pile up."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.urls import reverse
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler
from pytest_django.fixtures import Settings

from apps.console.groups import VIEWER
from apps.monitoring.probes import Use, ask_probes, probes_for
from apps.orchestration import api, clock, hosts
from apps.orchestration.duties import LIMITS, is_overdue, read_duties
from apps.orchestration.freshness import AMBER, read_freshness
from apps.orchestration.hosts import delete_old_clocks, measure_clock, wrong_clocks
from apps.orchestration.models import ACTIVE, Decision, Duty, DutyName, HostClock, Role, Run, Schedule, ScheduledRun, Stage, State, Task
from apps.orchestration.schedules import MODES, fire, set_enabled
from apps.orchestration.worker import recovery, tasks
from apps.orchestration.worker.beat import LivenessScheduler
from apps.warehouse.models import Load
from techmarket.celery import app
from tests.browser.worker import addresses, worker
from tests.conftest import require_program
from tests.console.conftest import SignIn, empty_cache, loaded_run, sign_in  # noqa: F401  fixtures
from tests.failures.conftest import ON_SERVERS
from tests.monitoring.test_metrics import Scrape
from tests.orchestration.harness import FakeBroker, ago, start_queued_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("schedules")]
DAILY = "techmarket-etl-daily"


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """Let each test measure at once."""
    hosts.MEASURED.clear()
    yield
    hosts.MEASURED.clear()


def beat_sends(since: timedelta = timedelta(hours=1), ahead: float = 0.0) -> None:
    """Let beat have been sending for so long."""
    instants = {"measured_at": ago(seconds=20), "started_at": ago(seconds=since.total_seconds())}
    HostClock.objects.update_or_create(host="beat-1", role=Role.BEAT, defaults=instants | {"ahead_seconds": ahead})


def ping(name: str) -> tuple[str, str]:
    """Return what `ping` says of a part, and its trouble."""
    (answer,) = ask_probes([probe for probe in probes_for(Use.PING) if probe.name == name], 30, detailed=True)
    return answer.version, answer.trouble


# --- Duties ---


@pytest.mark.usefixtures("broker")
def test_reaper_records_what_it_has_done() -> None:
    assert not Duty.objects.exists()
    tasks.reap()
    tasks.reap()
    assert set(Duty.objects.values_list("name", flat=True)) == {DutyName.REAP, DutyName.SCHEDULES}
    assert all(abs(clock.now() - duty.done_at) < timedelta(seconds=30) for duty in Duty.objects.all())
    assert HostClock.objects.get().role == Role.WORKER


@pytest.mark.usefixtures("broker")
def test_schedules_are_looked_at_though_recovery_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("canary")

    monkeypatch.setattr(recovery, "reap", fail)
    with pytest.raises(OSError, match="canary"):
        tasks.reap()
    assert list(Duty.objects.values_list("name", flat=True)) == [DutyName.SCHEDULES]


def test_forgetting_is_recorded_and_forgets_old_hosts() -> None:
    for host, days in (("old", 8), ("new", 6)):
        HostClock.objects.create(host=host, role=Role.WEB, ahead_seconds=0, measured_at=ago(days=days))
    tasks.forget()
    assert Duty.objects.get().name == DutyName.FORGET and HostClock.objects.get().host == "new"


def test_beat_that_sends_while_no_worker_reaps_is_noticed(sign_in: SignIn) -> None:  # noqa: F811
    beat_sends()
    for name in (DutyName.REAP, DutyName.SCHEDULES):
        Duty.objects.create(name=name, done_at=ago(minutes=11))
    version, trouble = ping("reap")
    assert 655 < int(version.removesuffix(" s ago")) < 700
    assert trouble.startswith("reap: no worker has recovered dead workers' tasks since ")
    assert trouble.endswith(
        " UTC, although beat sends the message. Read the log of the workers. Start one: `make run`, or `celery -A techmarket worker`."
    )
    assert "looked for missed scheduled runs since" in ping("schedules")[1] and ping("forget") == ("not yet", "")
    assert Scrape().by("duty_overdue", "duty") == {"reap": 1, "schedules": 1, "forget": 0}
    assert read_freshness(None, None).unwatched
    viewer = sign_in(VIEWER)
    page = unescape(viewer.get("/admin/").content.decode())
    assert "No worker recovers dead workers' tasks." in page
    assert "No worker looks for missed scheduled runs." in page
    tasks.reap()
    assert ping("reap")[1] == ping("schedules")[1] == "" and set(Scrape().by("duty_overdue", "duty").values()) == {0}
    assert "No worker " not in viewer.get("/admin/").content.decode()


def test_duty_dated_ahead_is_not_taken_for_done() -> None:
    """The control database's clock was a day ahead and has been set back; no worker has reaped since."""
    beat_sends()
    for name in (DutyName.REAP, DutyName.SCHEDULES):
        Duty.objects.create(name=name, done_at=ago(days=-1))
    HostClock.objects.create(host="gone", role=Role.BEAT, ahead_seconds=60, measured_at=ago(days=-1), started_at=ago(days=-1))
    assert ping("reap") == ("not yet", ping("reap")[1]) and "no worker has recovered" in ping("reap")[1]
    assert not wrong_clocks()
    tasks.reap()
    assert ping("reap")[1] == ""


def test_beat_that_started_before_the_clock_was_set_back_is_still_watched() -> None:
    beat_sends()
    HostClock.objects.update(started_at=ago(days=-1))
    assert is_overdue(DutyName.REAP, clock.now())


def test_duty_that_was_never_done_is_overdue_only_after_its_limit() -> None:
    for name, limit in LIMITS.items():
        beat_sends(limit - timedelta(minutes=1))
        assert not is_overdue(name, clock.now())
        beat_sends(limit + timedelta(minutes=1))
        assert is_overdue(name, clock.now())
        assert ping(name.value)[1].startswith(f"{name}: no worker has ") and " yet, although beat" in ping(name.value)[1]


@pytest.mark.parametrize("beat", ["never started", "silent", "just started"])
def test_nothing_is_overdue_where_beat_does_not_send(beat: str) -> None:
    """`run_etl` alone needs neither; and what was not done while all was switched off is done in a moment."""
    for name in LIMITS:
        Duty.objects.create(name=name, done_at=ago(days=9))
    if beat == "silent":
        HostClock.objects.create(host="b", role=Role.BEAT, ahead_seconds=0, measured_at=ago(minutes=6), started_at=ago(days=9))
    elif beat == "just started":
        beat_sends(timedelta(seconds=30))
    assert not any(duty.overdue for duty in read_duties(clock.now()))
    assert set(Scrape().by("duty_overdue", "duty").values()) == {0} and not read_freshness(None, None).unwatched


def test_busy_worker_delays_the_reaper_and_a_dead_one_does_not(small_shop: object, broker: FakeBroker) -> None:
    beat_sends()
    start_queued_run()
    task = broker.deliver_until(Stage.EXTRACT)
    assert task.claim_for("elsewhere:1")
    assert not is_overdue(DutyName.REAP, clock.now())
    Task.objects.filter(pk=task.pk).update(heartbeat_at=ago(minutes=5))
    assert is_overdue(DutyName.REAP, clock.now())


def test_freshness_is_amber_while_nobody_watches_the_schedules(loaded_run: Run, sign_in: SignIn) -> None:  # noqa: F811
    beat_sends()
    fresh_data = read_freshness(loaded_run, None)
    assert (fresh_data.light, fresh_data.unwatched, fresh_data.missed) == (AMBER, True, 0)
    page = unescape(sign_in(VIEWER).get("/admin/").content.decode())
    assert "Schedules not watched" in page and "On schedule" not in page


# --- Clocks of hosts ---


@pytest.mark.parametrize(("seconds", "direction"), [(62, "ahead of"), (-62, "behind")])
def test_host_whose_clock_is_off_is_named(
    seconds: int,
    direction: str,
    monkeypatch: pytest.MonkeyPatch,
    sign_in: SignIn,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = clock.process_now
    monkeypatch.setattr(clock, "process_now", lambda: real() + timedelta(seconds=seconds))
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "worker-1")
    measure_clock(Role.WORKER)
    monkeypatch.undo()
    (wrong,) = wrong_clocks()
    assert (wrong.host, wrong.role, round(wrong.ahead_seconds)) == ("worker-1", Role.WORKER, seconds)
    assert Scrape().value("host_clock_ahead_seconds", host="worker-1", role="worker") == wrong.ahead_seconds
    capsys.readouterr()  # what was logged
    call_command("ping", "--databases", "--json")
    out, err = capsys.readouterr()
    warning = (
        f"worker-1 (worker): warning: its clock is 62 s {direction} the control database's. "
        "Set it by NTP on that host: with chrony or systemd-timesyncd.\n"
    )
    assert warning in err.splitlines(keepends=True) and json.loads(out)["well"]
    page = unescape(sign_in(VIEWER).get("/admin/").content.decode())
    assert f"The clock of worker-1 (worker) is 1 min 2 s {direction} the control database's." in page
    assert "Set it by NTP on that host." in page


def test_clock_is_measured_once_a_minute_and_fades(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_clock(Role.WEB)
    HostClock.objects.update(ahead_seconds=60)
    started = HostClock.objects.get().started_at
    measure_clock(Role.WEB)
    assert wrong_clocks().count() == 1, "not measured again so soon"
    hosts.MEASURED[Role.WEB] -= 61
    measure_clock(Role.WEB)
    assert not wrong_clocks() and HostClock.objects.get().started_at == started
    HostClock.objects.update(ahead_seconds=60, measured_at=ago(minutes=31))
    assert not wrong_clocks() and not Scrape().by("host_clock_ahead_seconds", "host").get("elsewhere")
    delete_old_clocks()
    assert HostClock.objects.count() == 1


def test_ledger_that_does_not_answer_costs_a_process_only_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clock.SQL, "sqlite", "SELECT canary")
    monkeypatch.setitem(clock.SQL, "postgresql", "SELECT canary")
    measure_clock(Role.WEB)
    assert not HostClock.objects.exists()


def test_local_run_and_beat_measure_their_hosts(small_shop: object, monkeypatch: pytest.MonkeyPatch) -> None:
    api.run("full")
    assert HostClock.objects.get().role == Role.LOCAL
    monkeypatch.setattr(DatabaseScheduler, "tick", lambda beat: 5)
    LivenessScheduler(app=app, lazy=True).tick()
    assert set(HostClock.objects.values_list("role", flat=True)) == {Role.LOCAL, Role.BEAT}
    assert all(each.host == socket.gethostname() for each in HostClock.objects.all())


# --- Beat ---


def set_last_sent(instant: datetime) -> None:
    PeriodicTask.objects.update(last_run_at=instant)


def test_sign_of_a_beat_whose_clock_is_off(settings: Settings, tmp_path: Path) -> None:
    """An hour behind, it is alive; an hour ahead and silent for eleven minutes, it is not."""
    settings.VAR_DIR = tmp_path
    beat_sends(ahead=-3600)
    set_last_sent(ago(seconds=3610))
    assert ping("beat")[1] == "" and 10 <= int(ping("beat")[0].removesuffix(" s ago")) < 60
    HostClock.objects.update(ahead_seconds=3600, measured_at=ago(minutes=11))
    set_last_sent(ago(seconds=-3600 + 660))
    assert ping("beat")[1].startswith("beat: has given no sign since ")


def test_last_run_in_the_future_hides_no_live_beat_and_no_dead_one(settings: Settings, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path
    set_last_sent(ago(days=-30))
    assert "its last sign is of" in ping("beat")[1]
    beat_sends()
    assert ping("beat")[1] == ""
    HostClock.objects.update(measured_at=ago(minutes=6))
    assert ping("beat")[1].startswith("beat: has given no sign since ")
    age = Scrape().value("clock_timestamp_seconds") - Scrape().value("beat_last_sent_timestamp_seconds")
    assert 355 < age < 400


def test_sign_of_beat_on_a_machine_whose_clock_is_off(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of beat has its machine's time, an hour ahead of the control database's; the process that reads it has the same clock."""
    settings.VAR_DIR = tmp_path
    (tmp_path / "alive").mkdir()
    (tmp_path / "alive" / "beat").touch()
    os.utime(tmp_path / "alive" / "beat", (time.time() + 3590,) * 2)
    assert "ahead of the control database's clock" in ping("beat")[1]
    real = clock.process_now
    monkeypatch.setattr(clock, "process_now", lambda: real() + timedelta(hours=1))
    assert ping("beat")[1] == "" and 10 <= int(ping("beat")[0].removesuffix(" s ago")) < 60


@pytest.fixture
def queues() -> Iterator[Callable[[], dict[str, int]]]:
    """Empty the queues of this test's broker, and return a function that counts their messages."""
    with app.connection_for_write() as connection:
        channel = connection.channel()
        for name in settings.CELERY_TASK_QUEUES:
            app.amqp.queues[name](channel).declare()
            channel.queue_purge(name)
        yield lambda: {name: channel._size(name) for name in settings.CELERY_TASK_QUEUES}
        for name in settings.CELERY_TASK_QUEUES:
            channel.queue_purge(name)


def tick(beat: LivenessScheduler, times: int) -> None:
    """Let beat's interval pass so many times."""
    for _ in range(times):
        set_last_sent(ago(days=1))
        entry = beat.Entry(PeriodicTask.objects.get(name="techmarket-reap"), app=app)
        assert entry.is_due().is_due
        beat.apply_entry(entry, producer=beat.producer)


@pytest.mark.servers
def test_reap_messages_do_not_pile_up_and_a_returning_worker_reaps_at_once(queues: Callable[[], dict[str, int]], tmp_path: Path) -> None:
    """The first pass of `make test` has a broker of files, the second Redis."""
    beat = LivenessScheduler(app=app, lazy=True)
    tick(beat, 50)
    assert queues() == {"celery": 0, "reap": 1}
    connections.close_all()
    with worker(tmp_path / "worker.log"):
        wait_until(lambda: Duty.objects.filter(name=DutyName.SCHEDULES).exists())
    assert queues()["reap"] == 0


@pytest.mark.servers
def test_beat_that_cannot_empty_the_queue_sends_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(app.tasks["techmarket.reap"], "apply_async", lambda *args, **options: sent.append(options))
    monkeypatch.setattr("kombu.connection.Connection.channel", lambda self: raise_lost())
    tick(LivenessScheduler(app=app, lazy=True), 1)
    assert len(sent) == 1


def raise_lost() -> None:
    raise OSError("canary")


# --- Paused schedules and held runs ---


@pytest.mark.usefixtures("broker")
def test_held_run_is_on_every_page_and_in_the_metrics(sign_in: SignIn, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert set(Scrape().by("schedule_held_runs", "schedule").values()) == {0}
    Schedule.objects.filter(name=DAILY).update(paused_at=ago(days=3), enabled_since=clock.now())
    held = fire(DAILY)
    assert held and held.decision == Decision.HELD
    scrape = Scrape()
    assert scrape.value("schedule_held_runs", schedule=DAILY) == 1
    assert scrape.by("schedule_oldest_held_timestamp_seconds", "schedule") == {DAILY: held.scheduled_for.timestamp()}
    viewer = sign_in(VIEWER)
    schedule = reverse("admin:django_celery_beat_periodictask_change", args=[PeriodicTask.objects.get(name=DAILY).pk])
    assert "was missed while the schedule was paused." in viewer.get(schedule).content.decode(), "also for those who may not decide"
    assert "Choose action" not in viewer.get(schedule).content.decode()
    assert f"{DAILY} was missed at " in viewer.get("/admin/").content.decode()
    assert "Awaiting decision" in viewer.get(reverse("admin:orchestration_scheduledrun_changelist")).content.decode()
    call_command("schedules")
    assert f"  missed  {held.scheduled_for:%a %Y-%m-%d %H:%M} UTC   decide with --run-now" in capsys.readouterr().out


def test_paused_schedule_is_announced_nowhere(sign_in: SignIn, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    for name in MODES:
        set_enabled(name, enabled=False)
    assert set(Scrape().by("schedule_enabled", "schedule").values()) == {0} and fire(DAILY) is None
    viewer = sign_in(VIEWER)
    page = viewer.get("/admin/").content.decode()
    assert page.count(">paused<") == 2 and "On schedule" not in page
    schedule = reverse("admin:django_celery_beat_periodictask_change", args=[PeriodicTask.objects.get(name=DAILY).pk])
    assert "Paused. Enable the schedule to run it again." in viewer.get(schedule).content.decode()
    call_command("schedules")
    assert "next" not in capsys.readouterr().out


# --- Processes with a foreign clock ---


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.servers
@pytest.mark.skipif(not ON_SERVERS, reason="needs servers: a file has the clock of its process")
@pytest.mark.parametrize("shift", ["+60s", "-60s", "+400d", "-400d"])
def test_worker_with_a_foreign_clock(shift: str, small_shop: object, queues: Callable[[], dict[str, int]], tmp_path: Path) -> None:
    """It reaps, fires what was missed, executes a run to its end, and is named. Beat sends what is never expired."""
    faketime = require_program("faketime", "faketime")
    set_last_sent(ago(days=-30))
    beat = LivenessScheduler(app=app, lazy=True)
    beat.mend_future_instants()
    beat.apply_entry(beat.schedule["techmarket-reap"], producer=beat.producer)
    Schedule.objects.filter(name=DAILY).update(enabled_since=ago(days=1, minutes=1))
    missed = next(iter(ScheduledRun.objects.all()), None)
    connections.close_all()
    short = {"ETL_FULL_LIMIT_SECONDS": "30", "ETL_INCREMENTAL_LIMIT_SECONDS": "30", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with worker(tmp_path / "worker.log", (str(faketime), "-f", shift), **short):
        wait_until(lambda: Duty.objects.filter(name=DutyName.SCHEDULES).exists())
        wait_until(lambda: ScheduledRun.objects.exclude(run__state__in=ACTIVE).exists())
    assert missed is None
    scheduled = ScheduledRun.objects.get()
    assert scheduled.run and (scheduled.run.state, scheduled.run.cause) == (State.SUCCEEDED, "")
    assert all(abs(clock.now() - duty.done_at) < timedelta(minutes=2) for duty in Duty.objects.all())
    assert abs(clock.now() - Load.objects.get().published_at) < timedelta(minutes=2)
    (wrong,) = wrong_clocks()
    expected = {"+60s": 60, "-60s": -60, "+400d": 400 * 86_400, "-400d": -400 * 86_400}[shift]
    assert wrong.role == Role.WORKER and abs(wrong.ahead_seconds - expected) < 5


@pytest.mark.servers
@pytest.mark.skipif(not ON_SERVERS, reason="needs servers: a file has the clock of its process")
@pytest.mark.parametrize("hours", [1, -1])
def test_beat_with_a_foreign_clock(hours: int, queues: Callable[[], dict[str, int]], tmp_path: Path) -> None:
    """It sends, although the last runs are dated ahead; `ping` finds it alive and names its host."""
    set_last_sent(ago(days=-30))
    connections.close_all()
    command = [str(require_program("faketime", "faketime")), "-f", f"{hours:+}h", sys.executable, "-m", "celery", "-A", "techmarket"]
    passed_on = {"VAR_DIR": str(tmp_path), "CELERY_BROKER_URL": settings.CELERY_BROKER_URL}
    with (tmp_path / "beat.log").open("wb") as log:
        beat = subprocess.Popen(
            [*command, "beat", "--pidfile="],
            cwd=settings.BASE_DIR,
            env=os.environ | addresses() | passed_on,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: queues()["reap"])
        (wrong,) = wrong_clocks()
        assert wrong.role == Role.BEAT and abs(wrong.ahead_seconds - hours * 3600) < 5
        assert ping("beat")[1] == ""
    finally:
        os.killpg(beat.pid, signal.SIGKILL)
        beat.wait()
