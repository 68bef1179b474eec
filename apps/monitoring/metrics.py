"""/metrics: the ledger as Prometheus reads it, at the moment that it asks; the numbers of the first page and of `run_etl --json`.

Nothing is counted in this process: two web processes, or one that has just started, say the same. docs/MONITORING.md lists the names.
"""

import ipaddress
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from apps.monitoring.readiness import PARTS, look
from apps.orchestration import recent_runs
from apps.orchestration.freshness import read_freshness
from apps.orchestration.models import ACTIVE, Mode, Run, ScheduledRun, State, Task
from apps.orchestration.results import counts_by_table
from apps.orchestration.schedules import MODES, TASK
from apps.orchestration.worker.recovery import is_stalled
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

TOKEN_NEEDED = "METRICS_TOKEN is not set: without it only this machine itself may read the metrics.\n"  # noqa: S105


class Ledger:
    """A collector: prometheus_client calls it for every scrape."""

    def collect(self) -> Iterator[Metric]:
        """What a part that is away would have told is left out; an alert of its own tells of the part."""
        troubles = look(PARTS)
        yield gauge("up", "whether the part answers", {part: not trouble for part, trouble in troubles.items()}, "part")
        if troubles["control"]:
            return
        active, ended = Run.objects.filter(state__in=ACTIVE).first(), recent_runs.last_finished_run()
        yield from of_all_runs()
        yield from of_schedules()
        yield from of_active(active)
        if ended:
            yield from of_last(ended)
        if not troubles["dwh"]:
            yield from of_star(ended.run if ended else None, active)


REGISTRY = CollectorRegistry()
REGISTRY.register(Ledger())


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """With METRICS_TOKEN for those who bring it. Without one, for a laptop, and for whoever asks from the same machine."""
    if settings.METRICS_TOKEN and not bears(request, settings.METRICS_TOKEN):
        return HttpResponse("The token is missing or wrong.\n", "text/plain", 401, headers={"WWW-Authenticate": "Bearer"})
    if not (settings.METRICS_TOKEN or settings.DEBUG or is_near(request)):
        return HttpResponse(TOKEN_NEEDED, "text/plain", 403)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(REGISTRY), content_type)


def bears(request: HttpRequest, token: str) -> bool:
    return secrets.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode())


def is_near(request: HttpRequest) -> bool:
    """A proxy on this machine is near too, but those whom it speaks for are not."""
    try:
        near = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False  # a socket file: nobody knows who is behind it
    return near and not {"X-Forwarded-For", "Forwarded", "X-Real-Ip"} & set(request.headers)


def gauge(name: str, words: str, values: Mapping[Any, float | None], *labels: str) -> GaugeMetricFamily:
    """One name with its samples, by the label's value or several labels'; what is None has no sample."""
    family = GaugeMetricFamily(f"techmarket_{name}", words, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric([key] if isinstance(key, str) else key, float(value))
    return family


def single(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    return gauge(name, words, {(): value})


def stamp(instant: datetime | None) -> float | None:
    return instant.timestamp() if instant else None


def seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def of_all_runs() -> Iterator[Metric]:
    real = Run.objects.filter(dry_run=False).order_by()
    states = dict.fromkeys(State.values, 0) | dict(real.values_list("state").annotate(Count("pk")))
    yield gauge("runs", "runs of the ledger that were no dry runs", states, "state")
    good = {mode: real.filter(mode=mode, state=State.SUCCEEDED).order_by("-pk").first() for mode in Mode.values}
    stamps = {mode: stamp(run.finished_at) for mode, run in good.items() if run}
    yield gauge("last_success_timestamp_seconds", "when the last run of this mode succeeded", stamps, "mode")
    lasted = {mode: run.seconds for mode, run in good.items() if run}
    yield gauge("last_success_duration_seconds", "how long the last run of this mode that succeeded took", lasted, "mode")
    yield single("rejects_waiting", "distinct rows rejected since the last full run", recent_runs.rejects_since_last_full()[0])


def of_schedules() -> Iterator[Metric]:
    beat = PeriodicTask.objects.all()
    enabled = dict(beat.filter(task=TASK, name__in=MODES).values_list("name", "enabled"))
    yield gauge("schedule_enabled", "0 while the schedule is paused", enabled, "schedule")
    good = ScheduledRun.objects.filter(run__state=State.SUCCEEDED).order_by().values_list("schedule").annotate(Max("run__finished_at"))
    stamps = {name: stamp(instant) for name, instant in good}
    yield gauge("schedule_last_success_timestamp_seconds", "when a run of this schedule last succeeded", stamps, "schedule")
    sent = beat.aggregate(last=Max("last_run_at"))["last"]
    yield single("beat_last_sent_timestamp_seconds", "when beat last sent anything; it writes that down every three minutes", stamp(sent))


def of_active(run: Run | None) -> Iterator[Metric]:
    yield single("active_runs", "runs that are queued or running: one or none", run is not None)
    age = timezone.now() - (run.started_at or run.created_at) if run else None
    yield single("active_run_age_seconds", "since the active run was started, or asked for while nobody has taken it", seconds(age))
    yield single("active_run_limit_seconds", "how long the active run may take", settings.RUN_LIMITS[run.mode] if run else None)
    yield gauge("tasks", "tasks of the active run; queued ones wait for a worker", by_state(run), "state")
    quiet = Task.objects.filter(is_stalled(), run=run, state=State.RUNNING).count() if run else 0
    yield single("silent_tasks", "tasks of the active run whose worker gives no sign, and that no reaper has found", quiet)


def by_state(run: Run | None) -> dict[str, int]:
    counts = Task.objects.filter(run=run).order_by().values_list("state").annotate(Count("pk")) if run else ()
    return {state: 0 for state in State.values if state != State.SKIPPED} | dict(counts)


def of_last(ended: recent_runs.FinishedRun) -> Iterator[Metric]:
    """Of the run that ended last, as the first page shows it."""
    run = ended.run
    yield single("last_run_number", "the run that ended last", run.pk)
    yield gauge(
        "last_run", "1 at the state of the run that ended last", {state: state == run.state for state in recent_runs.FINISHED}, "state"
    )
    yield single("last_run_finished_timestamp_seconds", "when it ended", stamp(run.finished_at))
    yield single("last_run_duration_seconds", "from its start to its end", run.seconds)
    yield gauge("last_run_stage_seconds", "from the start of its first task of the stage to the end of the last", stages(run), "stage")
    yield gauge("last_run_tasks", "its tasks", by_state(run), "state")
    counts = counts_by_table(run)
    rows = {(table, kind): number for table, row in counts.items() for kind, number in row.items()}
    yield gauge("last_run_rows", "what it did to the rows of each table, of the sources and of the warehouse", rows, "table", "kind")
    yield single("last_run_written_rows", "rows of the warehouse that it inserted, updated, deleted or derived", ended.tally.written)
    yield single("last_run_rejected_rows", "rows that it rejected", ended.tally.rejected)
    checks = {"passed": ended.tally.passed, "warned": ended.tally.warnings, "refused": ended.tally.blocking}
    yield gauge("last_run_checks", "what its checks said; those that refused kept it from publishing", checks, "result")


def stages(run: Run) -> dict[str, float | None]:
    spans = Task.objects.filter(run=run).order_by().values_list("stage").annotate(Min("started_at"), Max("finished_at"))
    return {stage: seconds(end - start) for stage, start, end in spans if start and end}


def of_star(ended: Run | None, active: Run | None) -> Iterator[Metric]:
    try:
        with diagnosed("dwh"):
            fresh = read_freshness(ended, active)
    except EtlError:
        return  # it went away since it was asked
    yield single("data_as_of_timestamp_seconds", "changes of the sources before it are in the warehouse", stamp(fresh.as_of))
    yield single("data_missed_runs", "due instants since then without a load, at most two of each schedule", fresh.missed)
