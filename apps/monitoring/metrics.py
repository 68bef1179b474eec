"""/metrics: the ledger as Prometheus metrics, read at the time of the scrape. docs/MONITORING.md lists their names.

Nothing is counted in this process, so every web process gives the same numbers: those of the overview page and of `run_etl --json`.
"""

import ipaddress
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from apps.monitoring.probes import Use, ask_quickly, probes_for
from apps.orchestration import clock, recent_runs
from apps.orchestration.duties import read_beat_sign, read_duties
from apps.orchestration.freshness import read_freshness
from apps.orchestration.hosts import current_clocks, measure_clock
from apps.orchestration.models import ACTIVE, Mode, Role, Run, ScheduledRun, State, Task
from apps.orchestration.results import counts_by_table
from apps.orchestration.schedules import MODES, TASK, missed_runs
from apps.orchestration.worker.recovery import is_stalled
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

TOKEN_NEEDED = "METRICS_TOKEN is not set: without it only this machine may read the metrics.\n"  # nosec B105 # noqa: S105  no token


class LedgerCollector:
    """Collects every metric anew; prometheus_client calls it for each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the parts that can be used. PartDown alerts on the others."""
        troubles = {answer.name: answer.trouble for answer in ask_quickly(probes_for(Use.METRICS))}
        yield gauge("up", "Whether the part can be used.", {part: not trouble for part, trouble in troubles.items()}, "part")
        if troubles["control"]:
            return
        measure_clock(Role.WEB)
        active_run, last_run = Run.objects.filter(state__in=ACTIVE).first(), recent_runs.last_finished_run()
        yield from collect_runs()
        yield from collect_schedules()
        yield from collect_duties()
        yield from collect_active_run(active_run)
        if last_run:
            yield from collect_last_run(last_run)
        if not troubles["dwh"]:
            yield from collect_freshness(last_run.run if last_run else None, active_run)


REGISTRY = CollectorRegistry()
REGISTRY.register(LedgerCollector())


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics to a reader with METRICS_TOKEN; where none is set, to any with DEBUG, else only to one on this machine."""
    if settings.METRICS_TOKEN and not has_token(request, settings.METRICS_TOKEN):
        return HttpResponse("The token is missing or wrong.\n", "text/plain", 401, headers={"WWW-Authenticate": "Bearer"})
    if not (settings.METRICS_TOKEN or settings.DEBUG or is_local(request)):
        return HttpResponse(TOKEN_NEEDED, "text/plain", 403)
    encode, content_type = choose_format(request.headers.get("Accept", ""))
    return HttpResponse(encode(REGISTRY), content_type)


def choose_format(accept: str) -> tuple[Any, str]:
    """Return the encoder and the type for what the reader accepts; the plain one where prometheus_client cannot read the header."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # it compares any version with a number
        return choose_encoder("")


def has_token(request: HttpRequest, token: str) -> bool:
    return secrets.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode())


def is_local(request: HttpRequest) -> bool:
    """Return True if the reader is on this machine: a request that a proxy here passes on does not count."""
    try:
        is_loopback = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False  # a Unix socket, which does not say who is behind it
    return is_loopback and not {"X-Forwarded-For", "Forwarded", "X-Real-Ip"} & set(request.headers)


def gauge(name: str, help_text: str, values: Mapping[Any, float | None], *labels: str) -> GaugeMetricFamily:
    """Return a gauge with a sample for each of `values`, whose keys are label values; None makes no sample."""
    family = GaugeMetricFamily(f"techmarket_{name}", help_text, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric([key] if isinstance(key, str) else key, float(value))
    return family


def plain_gauge(name: str, help_text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return gauge(name, help_text, {(): value})


def to_timestamp(instant: datetime | None) -> float | None:
    return instant.timestamp() if instant else None


def to_seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def collect_runs() -> Iterator[Metric]:
    runs = Run.objects.filter(dry_run=False).order_by()
    states = dict.fromkeys(State.values, 0) | dict(runs.values_list("state").annotate(Count("pk")))
    yield gauge("runs", "Runs in the ledger, without dry runs.", states, "state")
    succeeded = {mode: runs.filter(mode=mode, state=State.SUCCEEDED).order_by("-pk").first() for mode in Mode.values}
    instants = {mode: to_timestamp(run.finished_at) for mode, run in succeeded.items() if run}
    yield gauge("last_success_timestamp_seconds", "When the last successful run of the mode ended.", instants, "mode")
    durations = {mode: run.seconds for mode, run in succeeded.items() if run}
    yield gauge("last_success_duration_seconds", "How long the last successful run of the mode took.", durations, "mode")
    rejects = recent_runs.open_rejects()
    yield plain_gauge("rejects_waiting", "Rejected rows that stand and that nobody has accepted.", rejects.count)
    amounts = {"lines": float(rejects.net), "payments": float(rejects.paid)}
    yield gauge("rejects_waiting_uah", "Their net revenue (lines) and amounts (payments).", amounts, "of")


def collect_schedules() -> Iterator[Metric]:
    beat = PeriodicTask.objects.all()
    enabled = dict(beat.filter(task=TASK, name__in=MODES).values_list("name", "enabled"))
    yield gauge("schedule_enabled", "0 while the schedule is paused, else 1.", enabled, "schedule")
    succeeded = ScheduledRun.objects.filter(run__state=State.SUCCEEDED).order_by().values_list("schedule").annotate(Max("run__finished_at"))
    instants = {name: to_timestamp(instant) for name, instant in succeeded}
    yield gauge("schedule_last_success_timestamp_seconds", "When the last successful run of the schedule ended.", instants, "schedule")
    held = missed_runs().order_by().values_list("schedule").annotate(Count("pk"), Min("scheduled_for"))
    counts = dict.fromkeys(MODES, 0) | {name: count for name, count, _ in held}
    yield gauge("schedule_held_runs", "Runs missed during a pause that await a decision.", counts, "schedule")
    oldest = {name: to_timestamp(instant) for name, _, instant in held}
    yield gauge("schedule_oldest_held_timestamp_seconds", "When the oldest of them was scheduled.", oldest, "schedule")


def collect_duties() -> Iterator[Metric]:
    """Yield whether beat sends and the workers do what it asks for, and the clocks by which all of this happens."""
    now = clock.now()
    yield plain_gauge("clock_timestamp_seconds", "The control database's time, by which all others are.", to_timestamp(now))
    yield plain_gauge(
        "beat_last_sent_timestamp_seconds", "When beat last gave a sign, which it does every minute.", to_timestamp(read_beat_sign(now))
    )
    duties = read_duties(now)
    done = {duty.name.value: to_timestamp(duty.done_at) for duty in duties}
    yield gauge("duty_done_timestamp_seconds", "When a worker last did what beat asks for again and again.", done, "duty")
    overdue = {duty.name.value: duty.overdue for duty in duties}
    yield gauge("duty_overdue", "1 while beat sends the message of a duty and no worker does it, else 0.", overdue, "duty")
    clocks = {(each.host, each.role): each.ahead_seconds for each in current_clocks()}
    yield gauge("host_clock_ahead_seconds", "How far the clock of a host is ahead of the control database's.", clocks, "host", "role")


def collect_active_run(run: Run | None) -> Iterator[Metric]:
    yield plain_gauge("active_runs", "Runs that are queued or running: 0 or 1.", run is not None)
    age = clock.now() - (run.started_at or run.created_at) if run else None
    yield plain_gauge(
        "active_run_age_seconds", "Time since the active run started, or was requested while no worker has it.", to_seconds(age)
    )
    limit = settings.RUN_LIMITS[run.mode] if run else None
    yield plain_gauge("active_run_limit_seconds", "How long the active run may take.", limit)
    yield gauge("tasks", "Tasks of the active run; the queued ones wait for a worker.", count_tasks(run), "state")
    stalled = Task.objects.filter(is_stalled(), run=run, state=State.RUNNING).count() if run else 0
    yield plain_gauge("silent_tasks", "Tasks of the active run whose worker sends no heartbeat, not yet found by the reaper.", stalled)


def count_tasks(run: Run | None) -> dict[str, int]:
    """Return the number of the run's tasks by state, with 0 for the states that none is in."""
    counts = Task.objects.filter(run=run).order_by().values_list("state").annotate(Count("pk")) if run else ()
    return {state: 0 for state in State.values if state != State.SKIPPED} | dict(counts)


def collect_last_run(last: recent_runs.FinishedRun) -> Iterator[Metric]:
    run, tally = last.run, last.tally
    yield plain_gauge("last_run_number", "Number of the run that ended last.", run.pk)
    states = {state: state == run.state for state in recent_runs.FINISHED}
    yield gauge("last_run", "1 for the state in which the last run ended, else 0.", states, "state")
    yield plain_gauge("last_run_finished_timestamp_seconds", "When the last run ended.", to_timestamp(run.finished_at))
    yield plain_gauge("last_run_duration_seconds", "Time from the last run's start to its end.", run.seconds)
    yield gauge(
        "last_run_stage_seconds", "Time from the start of the stage's first task to the end of its last.", time_stages(run), "stage"
    )
    yield gauge("last_run_tasks", "Tasks of the last run.", count_tasks(run), "state")
    rows = {(table, kind): number for table, counts in counts_by_table(run).items() for kind, number in counts.items()}
    yield gauge("last_run_rows", "Rows of the source or warehouse table by what the last run did to them.", rows, "table", "kind")
    yield plain_gauge("last_run_written_rows", "Warehouse rows that the last run inserted, updated, deleted or derived.", tally.written)
    yield plain_gauge("last_run_rejected_rows", "Rows that the last run rejected.", tally.rejected)
    checks = {"passed": tally.passed, "warned": tally.warnings, "refused": tally.blocking}
    yield gauge("last_run_checks", "Checks of the last run by result; a refused one prevents publishing.", checks, "result")


def time_stages(run: Run) -> dict[str, float | None]:
    """Return the seconds of each stage that has ended."""
    spans = Task.objects.filter(run=run).order_by().values_list("stage").annotate(Min("started_at"), Max("finished_at"))
    return {stage: to_seconds(end - start) for stage, start, end in spans if start and end}


def collect_freshness(last_run: Run | None, active_run: Run | None) -> Iterator[Metric]:
    try:
        with diagnosed("dwh"):
            fresh = read_freshness(last_run, active_run)
    except EtlError:
        return  # the warehouse went down after its probe
    as_of = to_timestamp(fresh.as_of)
    yield plain_gauge("data_as_of_timestamp_seconds", "High-water mark: the warehouse has the sources' changes before it.", as_of)
    yield plain_gauge("data_missed_runs", "Scheduled runs since then that loaded nothing, at most two per schedule.", fresh.missed)
