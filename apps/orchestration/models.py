"""The ledger: what was asked, by whom, what happened, and every row accounted for. `runner.py` is its only writer."""

import uuid
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.etl.transform.rules import render_label, render_reason


class State(models.TextChoices):
    """Runs and tasks share these; SKIPPED is a run's alone: another was active when it was asked for."""

    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    LOST = "lost", _("Lost")
    SKIPPED = "skipped", _("Skipped")


ACTIVE = (State.QUEUED, State.RUNNING)


class Mode(models.TextChoices):
    FULL = "full", _("Full")
    INCREMENTAL = "incremental", _("Incremental")


class Stage(models.TextChoices):
    """PLAN looks at what there is to do and writes the run's other tasks."""

    PLAN = "plan", _("Plan")
    EXTRACT = "extract", _("Extract")
    TRANSFORM = "transform", _("Transform")
    LOAD = "load", _("Load")


class Trigger(models.TextChoices):
    CLI = "cli", _("Command line")
    ADMIN = "admin", _("Admin")
    SCHEDULE = "schedule", _("Schedule")
    API = "api", _("API")


class Blame(models.TextChoices):
    """Whose fault a failure was: bad rows or a bad schema; servers, disks and networks; or how the run was asked for."""

    DATA = "data", _("Data")
    MACHINE = "machine", _("Machine")
    CONFIGURATION = "configuration", _("Configuration")


ANY = Q()


class StateRow(models.Model):
    """A row with a life. Each change asserts the old state in the database, so that of two writers one loses."""

    state = models.CharField(_("state"), max_length=12, choices=State, default=State.QUEUED)
    cause = models.TextField(_("cause"), blank=True, help_text=_("one plain sentence, where it did not succeed"))
    blame = models.CharField(_("blame"), max_length=16, choices=Blame, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        abstract = True

    def move(self, *old: State, to: State, where: Q = ANY, **fields: Any) -> bool:
        """Compare-and-set from one of the `old` states, and only `where` that holds. False where the row is otherwise by now."""
        moved = type(self)._default_manager.filter(where, pk=self.pk, state__in=old).update(state=to, **fields)
        if moved:
            self.refresh_from_db()
        return bool(moved)

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def seconds(self) -> float | None:
        if not (self.started_at and self.finished_at):
            return None
        return round((self.finished_at - self.started_at).total_seconds(), 2)


class Run(StateRow):
    """One request to bring the warehouse up to date, and its result. Written before anything happens."""

    uuid = models.UUIDField(_("UUID"), default=uuid.uuid4, unique=True, editable=False)
    warehouse = models.CharField(_("warehouse"), max_length=40, default="dwh", editable=False)
    mode = models.CharField(_("mode"), max_length=12, choices=Mode)
    dry_run = models.BooleanField(_("dry run"), default=False)
    window_start = models.DateTimeField(
        _("window start"), null=True, blank=True, help_text=_("UTC, included; empty: from the high-water mark, or everything")
    )
    window_end = models.DateTimeField(
        _("window end"), null=True, blank=True, help_text=_("UTC, excluded; empty: to the sources' clock at extraction")
    )
    high_water_mark = models.DateTimeField(
        _("high-water mark"), null=True, blank=True, help_text=_("what it will be once this run is published")
    )
    trigger = models.CharField(_("trigger"), max_length=12, choices=Trigger)
    asked_by = models.CharField(_("asked by"), max_length=150)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    code_version = models.CharField(_("code version"), max_length=40, blank=True)
    overlaps = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("the run it was skipped for"),
        verbose_name=_("overlaps"),
    )
    repeats = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("the run it was asked for again"),
        verbose_name=_("repeats"),
    )
    worker = models.CharField(
        _("worker"), max_length=120, blank=True, help_text=_("who carries the run out in one go; empty where workers share it")
    )
    heartbeat_at = models.DateTimeField(_("heartbeat at"), db_default=Now())
    cancelled_by = models.CharField(
        _("cancelled by"), max_length=150, blank=True, help_text=_("who asked to cancel it; it ends within ten seconds")
    )
    result = models.JSONField(
        _("result"), null=True, blank=True, help_text=_("of a dry run, which keeps nothing else: what it would have done")
    )

    class Meta:
        ordering = ["-id"]
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        constraints = [
            models.UniqueConstraint(fields=["warehouse"], condition=Q(state__in=ACTIVE), name="one_active_run_per_warehouse"),
        ]
        permissions = [
            ("start_run", "Can start a run"),
            ("rerun_run", "Can start a run again"),
            ("resume_run", "Can resume a run"),
            ("cancel_run", "Can cancel a run"),
        ]

    def __str__(self) -> str:
        return gettext("Run %s") % self.pk


class Task(StateRow):
    """One stage on one slice of a run.

    A slice is a subject (a dimension's table, or `fact_sales`) and for the fact a range of order ids: from `low`,
    included, to `high`, excluded; either may be open.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="tasks", verbose_name=_("run"))
    stage = models.CharField(_("stage"), max_length=12, choices=Stage)
    subject = models.CharField(_("subject"), max_length=40, help_text=_("a table of the warehouse, or empty for the load of all"))
    low = models.BigIntegerField(_("low"), null=True, blank=True)
    high = models.BigIntegerField(_("high"), null=True, blank=True)
    attempt = models.IntegerField(_("attempt"), default=0)
    claim = models.UUIDField(
        _("claim"),
        null=True,
        blank=True,
        help_text=_("changes with every attempt; a worker without the current one commits nothing"),
    )
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    heartbeat_at = models.DateTimeField(_("heartbeat at"), null=True, blank=True)
    not_before = models.DateTimeField(_("not before"), null=True, blank=True, help_text=_("when to try again, after a transient failure"))
    published_at = models.DateTimeField(_("published at"), null=True, blank=True, help_text=_("when a message was last sent for it"))
    session = models.JSONField(
        _("session"), null=True, blank=True, help_text=_("of a load: the warehouse session, to be ended if its worker dies")
    )

    class Meta:
        ordering = ["id"]
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        indexes = [models.Index(fields=["run", "state"])]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.stage, self.subject, self.slice]))

    @property
    def slice(self) -> str:
        if self.low is None and self.high is None:
            return ""
        return f"[{'' if self.low is None else self.low}, {'' if self.high is None else self.high})"

    def move(self, *old: State, to: State, where: Q = ANY, **fields: Any) -> bool:
        """As every row; an attempt that comes to nothing is kept, since the row will tell of the next one."""
        if State.RUNNING not in old or to == State.SUCCEEDED:
            return super().move(*old, to=to, where=where, **fields)
        with transaction.atomic():
            moved = super().move(*old, to=to, where=where, **fields)
            if moved:
                told = {name: getattr(self, name) for name in ("worker", "started_at", "cause", "blame")}
                Attempt.objects.create(run_id=self.run_id, task=self, number=self.attempt, **told)
        return moved

    def claimed(self) -> Q:
        """That this attempt still is the one that counts."""
        return Q(claim=self.claim)

    def claim_for(self, worker: str) -> bool:
        """Take the task for one attempt, while its run goes on; the first heartbeat is part of the claim."""
        return self.move(
            State.QUEUED,
            # Not a join: PostgreSQL would look for the old state in a subquery, which the loser of a race does not ask again.
            where=Q(run__in=Run.objects.filter(state__in=ACTIVE, cancelled_by="")),
            to=State.RUNNING,
            claim=uuid.uuid4(),
            worker=worker,
            attempt=F("attempt") + 1,
            started_at=Now(),
            heartbeat_at=Now(),
            not_before=None,
            session=None,
            finished_at=None,
            cause="",
            blame="",
        )


class Attempt(models.Model):
    """An attempt at a task that came to nothing. One that succeeded needs no row: the task's own tells of it."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="attempts", verbose_name=_("task"))
    number = models.IntegerField(_("number"), help_text=_("counted from 1 anew where the run was resumed"))
    worker = models.CharField(_("worker"), max_length=120)
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"), db_default=Now())
    cause = models.TextField(_("cause"), blank=True)
    blame = models.CharField(_("blame"), max_length=16, choices=Blame, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")


class RowCount(models.Model):
    """What one task did to the rows of one table. read = loaded + filtered + rejected; loaded = inserted + updated + unchanged.

    Transform accounts for what was read; load for what became of it in the warehouse. `derived` rows were written without
    being read: unknown and inferred members, calendar days that a fact needed, facts whose product moved.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="row_counts", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="row_counts", verbose_name=_("task"))
    table = models.CharField(_("table"), max_length=40)
    read = models.BigIntegerField(_("read"), default=0)
    loaded = models.BigIntegerField(_("loaded"), default=0)
    filtered = models.BigIntegerField(_("filtered"), default=0)
    rejected = models.BigIntegerField(_("rejected"), default=0)
    inserted = models.BigIntegerField(_("inserted"), default=0)
    updated = models.BigIntegerField(_("updated"), default=0)
    unchanged = models.BigIntegerField(_("unchanged"), default=0)
    deleted = models.BigIntegerField(_("deleted"), default=0)
    derived = models.BigIntegerField(_("derived"), default=0)

    class Meta:
        ordering = ["id"]
        verbose_name = _("row count")
        verbose_name_plural = _("row counts")
        constraints = [models.UniqueConstraint(fields=["task", "table"], name="one_count_per_task_and_table")]


class Batch(models.Model):
    """Rows that a task landed: an Arrow IPC stream, zstd inside. `name` is a source table (raw) or a warehouse table (clean)."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="batches", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="batches", verbose_name=_("task"))
    name = models.CharField(_("name"), max_length=40)
    rows = models.BigIntegerField(_("rows"))
    checksum = models.BigIntegerField(_("checksum"), help_text=_("CRC-32 of the body"))
    body = models.BinaryField(_("body"))

    class Meta:
        ordering = ["id"]
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        constraints = [models.UniqueConstraint(fields=["task", "name"], name="one_batch_per_task_and_name")]


class Reject(models.Model):
    """A source row that broke a rule, with its raw content. `rule` and `params` are those of apps/etl/transform/rules.py."""

    personal = ("raw",)

    run = models.ForeignKey(Run, models.CASCADE, related_name="rejects", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="rejects", verbose_name=_("task"))
    table = models.CharField(_("table"), max_length=40)
    row_id = models.CharField(_("row id"), max_length=40, help_text=_("the source's id, as it stands there"))
    rule = models.CharField(_("rule"), max_length=40)
    params = models.JSONField(_("parameters"), default=dict, help_text=_("fill the reason that the rule shows"))
    raw = models.JSONField(_("raw"))

    class Meta:
        ordering = ["id"]
        verbose_name = _("reject")
        verbose_name_plural = _("rejects")
        indexes = [models.Index(fields=["run", "table", "rule"])]
        permissions = [("view_raw", "Can see personal data and the raw content of rejects")]

    def __str__(self) -> str:
        return f"{self.table} {self.row_id}"

    @property
    def label(self) -> str:
        """The rule's short name in the active language."""
        return render_label(self.rule, gettext)

    @property
    def reason(self) -> str:
        """Why the row was rejected, in the active language."""
        return render_reason(self.rule, self.params, gettext)


class CheckResult(models.Model):
    """What a check expected of the rows or of the warehouse before the publish, and what it saw."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="checks", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="checks", verbose_name=_("task"))
    name = models.CharField(_("name"), max_length=80)
    table = models.CharField(_("table"), max_length=40)
    passed = models.BooleanField(_("passed"))
    blocking = models.BooleanField(_("blocking"), help_text=_("a failure refuses the publish; else it is a warning"))
    expected = models.CharField(_("expected"), max_length=255)
    observed = models.CharField(_("observed"), max_length=255)

    class Meta:
        ordering = ["id"]
        verbose_name = _("check")
        verbose_name_plural = _("checks")


class Schedule(models.Model):
    """What beat does not remember of one of its schedules: since when it stands as it is, and what was before."""

    name = models.CharField(_("name"), max_length=200, primary_key=True, help_text=_("the periodic task's"))
    enabled_since = models.DateTimeField(
        _("enabled since"), null=True, blank=True, help_text=_("enabled, and due when it is due now; empty: paused")
    )
    paused_at = models.DateTimeField(
        _("paused at"),
        null=True,
        blank=True,
        help_text=_("the last pause began; what was due from then on, an operator decides"),
    )
    failing_since = models.DateTimeField(
        _("failing since"), null=True, blank=True, help_text=_("its runs fail since; empty: the last one succeeded")
    )

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")

    def __str__(self) -> str:
        return self.name


class Decision(models.TextChoices):
    """What came of a due instant. HELD waits for an operator: run now, backfill, or skip."""

    RUN = "run", _("Run")
    CAUGHT_UP = "caught up", _("Caught up")
    HELD = "held", _("Held")
    SKIPPED = "skipped", _("Skipped")


class Due(models.Model):
    """One due instant of one schedule. The row is unique: a second beat, a redelivery or a restart finds it and does nothing."""

    schedule = models.ForeignKey(Schedule, models.CASCADE, verbose_name=_("schedule"))
    due_at = models.DateTimeField(_("due at"))
    decision = models.CharField(_("decision"), max_length=12, choices=Decision)
    run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("run"))
    decided_by = models.CharField(_("decided by"), max_length=150, blank=True, help_text=_("the operator, where one was asked"))

    class Meta:
        ordering = ["-due_at"]
        verbose_name = _("due instant")
        verbose_name_plural = _("due instants")
        constraints = [models.UniqueConstraint(fields=["schedule", "due_at"], name="one_run_per_due_instant")]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at:%Y-%m-%d %H:%M} UTC"
