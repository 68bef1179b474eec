"""The ledger: who requested which run, what happened, and a count of every row.

A row changes its state through its own methods here; each asserts the old state in the database, so that of two writers one loses.
"""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.etl.tables import FACT_TABLES, TARGETS, TOUCHED_ORDERS
from apps.etl.transform.rules import render_label, render_reason
from apps.orchestration.fields import MessageField
from techmarket.errors import Cancelled, EtlError, Unexpected
from techmarket.messages import Message, message


class State(models.TextChoices):
    """States of runs and tasks. Only runs are SKIPPED: another run was active when they were requested."""

    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    LOST = "lost", _("Lost")
    SKIPPED = "skipped", _("Skipped")


ACTIVE = (State.QUEUED, State.RUNNING)
UNSUCCESSFUL = (State.FAILED, State.CANCELLED, State.LOST)
UNFINISHED = (*ACTIVE, *UNSUCCESSFUL)  # of tasks. An index finds these states, but not "any but SUCCEEDED"


class Mode(models.TextChoices):
    FULL = "full", _("Full")
    INCREMENTAL = "incremental", _("Incremental")


class Stage(models.TextChoices):
    """PLAN decides what there is to do and writes the run's other tasks."""

    PLAN = "plan", _("Plan")
    EXTRACT = "extract", _("Extract")
    TRANSFORM = "transform", _("Transform")
    PREPARE = "prepare", _("Prepare")
    LOAD = "load", _("Load")


class Group(models.IntegerChoices):
    """Groups of tasks, the most urgent first: reading the sources, to release them early; then dimensions, lest a large one be the last."""

    PLAN = 0, _("Plan")
    FACT_EXTRACT = 10, _("Extracts of facts")
    DIMENSION_EXTRACT = 20, _("Extracts of dimensions")
    DIMENSION_TRANSFORM = 30, _("Transforms of dimensions")
    FACT_TRANSFORM = 40, _("Transforms of facts")
    FACT_PREPARE = 50, _("Preparation of facts")
    LOAD = 90, _("Load")

    @classmethod
    def of(cls, stage: str, subject: str) -> "Group":
        kind = "" if not subject else "FACT_" if subject in FACT_TABLES else "DIMENSION_"
        return cls[f"{kind}{stage.upper()}"]


# What a task waits for, all of it declared here: every task of these groups,
WAITS_FOR_GROUPS: dict[Group, tuple[Group, ...]] = {
    Group.DIMENSION_EXTRACT: (Group.FACT_EXTRACT,),  # children before parents
    Group.FACT_PREPARE: (Group.DIMENSION_TRANSFORM,),  # whose members and costs it looks up
    Group.LOAD: tuple(group for group in Group if Group.PLAN < group < Group.LOAD),
}
# and the tasks of this stage whose slices are its own, or parts of its own.
WAITS_FOR_SLICES: dict[Stage, Stage] = {Stage.TRANSFORM: Stage.EXTRACT, Stage.PREPARE: Stage.TRANSFORM}


class Trigger(models.TextChoices):
    CLI = "cli", _("Command line")
    ADMIN = "admin", _("Admin")
    SCHEDULE = "schedule", _("Schedule")
    API = "api", _("API")


class Executor(models.TextChoices):
    """Who executes a run: the process that requested it (with a local worker pool), or Celery's workers."""

    LOCAL = "local", _("Requesting process")
    WORKERS = "workers", _("Workers")


class CauseKind(models.TextChoices):
    """The origin of a failure: rows or a schema; servers, disks and networks; settings and options; or our code."""

    DATA = "data", _("Data")
    MACHINE = "machine", _("Infrastructure")
    CONFIGURATION = "configuration", _("Configuration")
    BUG = "bug", _("Bug")


ANY = Q()


class StateRow(models.Model):
    """A row with states and a cause for the unsuccessful ones."""

    state = models.CharField(_("state"), max_length=12, choices=State, default=State.QUEUED)
    cause = MessageField(_("cause"), help_text=_("why the run or task did not succeed"))
    cause_kind = models.CharField(_("kind of cause"), max_length=16, choices=CauseKind, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        abstract = True

    def transition(self, *old: State, to: State, where: Q = ANY, **fields: Any) -> bool:
        """Compare-and-set from one of the `old` states, and only while `where` holds. Return False where the row has changed meanwhile."""
        changed = type(self)._default_manager.filter(where, pk=self.pk, state__in=old).update(state=to, **fields)
        if changed:
            self.refresh()
        return bool(changed)

    def refresh(self) -> None:
        self.refresh_from_db()

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def seconds(self) -> float | None:
        if not (self.started_at and self.finished_at):
            return None
        return round((self.finished_at - self.started_at).total_seconds(), 2)


def state_after(error: BaseException) -> State:
    """Return the state of a run or task that this error ended."""
    return State.CANCELLED if isinstance(error, Cancelled) else State.FAILED


def failure_fields(error: BaseException) -> dict[str, Any]:
    """Return cause and kind of cause as runs and tasks record them."""
    known = to_etl_error(error)
    return {"cause": known.message, "cause_kind": known.cause_kind}


def to_etl_error(error: BaseException) -> EtlError:
    """Return the error; one that is not an EtlError as unexpected."""
    if isinstance(error, EtlError):
        return error
    detail = f"{type(error).__name__}: {error}".rstrip(":. ").replace("\0", "\\0")
    return Unexpected(message("run.unexpected", detail=detail))


class Run(StateRow):
    """One request to bring the warehouse up to date, and its result. It is written before anything happens."""

    uuid = models.UUIDField(_("UUID"), default=uuid.uuid4, unique=True, editable=False)
    warehouse = models.CharField(_("warehouse"), max_length=40, default="dwh", editable=False)
    mode = models.CharField(_("mode"), max_length=12, choices=Mode)
    dry_run = models.BooleanField(_("dry run"), default=False)
    reread = models.BooleanField(
        _("reread"), default=False, help_text=_("a full run that reads every order, also where the fingerprints say that nothing changed")
    )
    window_start = models.DateTimeField(
        _("window start"), null=True, blank=True, help_text=_("UTC, inclusive; empty: from the high-water mark, or everything")
    )
    window_end = models.DateTimeField(_("window end"), null=True, blank=True, help_text=_("UTC, exclusive; empty: up to the extraction"))
    high_water_mark = models.DateTimeField(
        _("high-water mark"), null=True, blank=True, help_text=_("all changes before it are in the warehouse once this run is published")
    )
    orders = models.JSONField(
        _("orders"), null=True, blank=True, help_text=_("ids of the orders to read, where they were named: a repair or a replay")
    )
    based_on = models.BigIntegerField(
        _("based on"), null=True, blank=True, editable=False, help_text=_("sequence of the load that the plan was compared with")
    )
    found = models.JSONField(
        _("found"), default=dict, blank=True, help_text=_("how many orders were found to be read, in which way, and what was compared")
    )
    trigger = models.CharField(_("trigger"), max_length=12, choices=Trigger)
    requested_by = models.CharField(_("requested by"), max_length=150)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    code_version = models.CharField(_("code version"), max_length=40, blank=True)
    overlaps = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("the active run because of which this run was skipped"),
        verbose_name=_("overlaps"),
    )
    rerun_of = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("the run that this one repeats"),
        verbose_name=_("rerun of"),
    )
    executor = models.CharField(_("executor"), max_length=8, choices=Executor, default=Executor.WORKERS)
    worker = models.CharField(
        _("worker"), max_length=120, blank=True, help_text=_("host and process of a local run; empty for a run on workers")
    )
    heartbeat_at = models.DateTimeField(_("heartbeat at"), db_default=Now())
    cancelled_by = models.CharField(
        _("cancelled by"), max_length=150, blank=True, help_text=_("who requested the cancellation; the run stops within ten seconds")
    )
    revenue = models.JSONField(
        _("revenue"),
        default=dict,
        blank=True,
        help_text=_("net revenue by month before and after, and by cause; of a run that brakes stopped, what it would have been"),
    )
    accepted_by = models.CharField(
        _("accepted by"), max_length=150, blank=True, help_text=_("who had the run published although the brakes had stopped it")
    )
    accepted_because = models.CharField(_("accepted because"), max_length=255, blank=True)
    result = models.JSONField(
        _("result"), null=True, blank=True, help_text=_("what a dry run would have changed; nothing else of it is stored")
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
            ("accept_run", "Can publish a run that the brakes have stopped"),
        ]

    def __str__(self) -> str:
        return gettext("Run %s") % self.pk

    @property
    def is_local(self) -> bool:
        return self.executor == Executor.LOCAL

    @property
    def is_executed(self) -> bool:
        """Whether a process sends heartbeats for it now: a local executor, or a worker that has a task of it."""
        return self.is_local or self.tasks.filter(state=State.RUNNING).exists()

    @property
    def reads_everything(self) -> bool:
        """Whether all orders are read, not those of the plan's batch alone; known once the run is planned."""
        return "everything" in self.found

    @property
    def reads_nothing(self) -> bool:
        """Whether its plan has found no order to read."""
        return "orders" in self.found and not any(self.found["orders"].values())

    @property
    def has_lost_batches(self) -> bool:
        """Whether batches that its remaining tasks would read are gone: deleted after some days, or not in a restored backup."""
        succeeded = self.tasks.filter(state=State.SUCCEEDED)
        if not succeeded.filter(stage=Stage.PLAN).exists():
            return False
        if not self.reads_everything:
            return not self.reads_nothing and not self.batches.filter(name=TOUCHED_ORDERS).exists()
        subjects = [subject for subject, target in TARGETS.items() if target.sources]
        return succeeded.filter(stage=Stage.EXTRACT, subject__in=subjects, batches=None).exists()

    @property
    def is_braked(self) -> bool:
        """Whether the brakes have stopped it, so that a person may accept what it does."""
        return self.state == State.FAILED and isinstance(self.cause, Message) and self.cause.code == "brakes.applied"

    @property
    def has_unfinished_tasks(self) -> bool:
        return self.tasks.filter(state__in=UNFINISHED).exists()

    def start(self) -> None:
        """Record that the first task was claimed; later claims change nothing."""
        if self.state == State.QUEUED:
            self.transition(State.QUEUED, to=State.RUNNING, started_at=Now(), heartbeat_at=Now())

    def succeed(self) -> bool:
        return self.transition(State.RUNNING, to=State.SUCCEEDED, finished_at=Now())

    def end(self, error: BaseException) -> bool:
        """Record that the run failed or was cancelled, unless it has ended already."""
        return self.transition(*ACTIVE, to=state_after(error), finished_at=Now(), **failure_fields(error))

    def confirm_published(self) -> bool:
        """Record that the run succeeded after all: the warehouse has what it published, however it ended here."""
        others = [state for state in State if state not in (State.SUCCEEDED, State.SKIPPED)]
        finished = Coalesce(F("finished_at"), Now())
        return self.transition(*others, to=State.SUCCEEDED, finished_at=finished, cause="", cause_kind="")

    def lose(self, cause: Message, where: Q = ANY) -> bool:
        """Record that no process executes the run any more, for `cause`."""
        return self.transition(*ACTIVE, to=State.LOST, where=where, finished_at=Now(), cause=cause, cause_kind=CauseKind.MACHINE)

    def request_cancel(self, person: str, reason: str = "") -> bool:
        """Record who wants an active run cancelled, and why. Return False where it is not active."""
        request = {"cancelled_by": person} | ({"reason": reason} if reason else {})
        requested = Run.objects.filter(pk=self.pk, state__in=ACTIVE).update(**request)
        if requested:
            self.refresh_from_db()
        return bool(requested)

    def delete_tasks(self) -> None:
        self.tasks.all().delete()
        self.task_counts.all().delete()

    def requeue(self, executor: str, worker: str, **acceptance: str) -> bool:
        """Queue an unsuccessful run again: succeeded tasks stay as they are, the others start over with all their attempts.

        `acceptance`: who has accepted what the brakes found, and why.

        Return False where another process has resumed it. Raises IntegrityError while another run is active.
        """
        changes: dict[str, Any] = acceptance | {"finished_at": None, "started_at": None, "cause": "", "cause_kind": "", "cancelled_by": ""}
        if not self.transition(*UNSUCCESSFUL, to=State.QUEUED, heartbeat_at=Now(), executor=executor, worker=worker, **changes):
            return False
        unfinished = self.tasks.filter(state__in=UNFINISHED)
        unfinished.update(state=State.QUEUED, claim=None, attempt=0, not_before=None, message_sent_at=None)
        return True


class Task(StateRow):
    """One stage on one slice of a run.

    A slice is a subject (a dimension's table, or `fact_sales`) and for the fact a range of order ids: from `low`,
    included, to `high`, excluded; either may be open.
    """

    # Without an index of its own: two of those below begin with it.
    run = models.ForeignKey(Run, models.CASCADE, related_name="tasks", verbose_name=_("run"), db_index=False)
    group = models.SmallIntegerField(_("group"), choices=Group, default=Group.PLAN, help_text=_("lower numbers are claimed first"))
    waits_for = models.IntegerField(
        _("waits for"), default=0, help_text=_("how many unfinished tasks and counts of tasks it waits for; it may start at 0")
    )
    stage = models.CharField(_("stage"), max_length=12, choices=Stage)
    subject = models.CharField(_("subject"), max_length=40, help_text=_("a table of the warehouse, or empty for the load of all"))
    low = models.BigIntegerField(_("low"), null=True, blank=True)
    high = models.BigIntegerField(_("high"), null=True, blank=True)
    attempt = models.IntegerField(_("attempt"), default=0)
    claim = models.UUIDField(
        _("claim"),
        null=True,
        blank=True,
        help_text=_("changes with every attempt; a worker without the current claim cannot commit"),
    )
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    heartbeat_at = models.DateTimeField(_("heartbeat at"), null=True, blank=True)
    not_before = models.DateTimeField(_("not before"), null=True, blank=True, help_text=_("when it is retried after a transient failure"))
    message_sent_at = models.DateTimeField(
        _("message sent at"), null=True, blank=True, help_text=_("when the broker last accepted a message for it")
    )
    session = models.JSONField(
        _("session"), null=True, blank=True, help_text=_("warehouse session of a load, terminated if its worker dies")
    )

    class Meta:
        ordering = ["id"]
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        indexes = [
            # Whatever is claimed next is one entry of it.
            models.Index(fields=["run", "state", "waits_for", "not_before", "group", "id"], name="task_ready"),
            models.Index(fields=["run", "stage", "subject", "low"], name="task_slice"),
            # Both small: of messages that are on their way, and of the tasks that workers execute now.
            models.Index(
                fields=["run", "message_sent_at"], condition=Q(state=State.QUEUED, message_sent_at__isnull=False), name="task_sent"
            ),
            models.Index(fields=["claim"], condition=Q(state=State.RUNNING), name="task_running"),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.stage, self.subject, self.slice]))

    @property
    def slice(self) -> str:
        if self.low is None and self.high is None:
            return ""
        return f"[{'' if self.low is None else self.low}, {'' if self.high is None else self.high})"

    def transition(self, *old: State, to: State, where: Q = ANY, **fields: Any) -> bool:
        """Record also an unsuccessful attempt as a separate row, because this row will show the next one."""
        if State.RUNNING not in old or to == State.SUCCEEDED:
            return super().transition(*old, to=to, where=where, **fields)
        with transaction.atomic():
            changed = super().transition(*old, to=to, where=where, **fields)
            if changed:
                copied = {name: getattr(self, name) for name in ("worker", "started_at", "cause", "cause_kind")}
                Attempt.objects.create(run_id=self.run_id, task=self, number=self.attempt, **copied)
        return changed

    def refresh(self) -> None:
        """Read the row again, and its run in the same query."""
        self.refresh_from_db(from_queryset=Task.objects.select_related("run"))

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of the task that log lines carry."""
        return {"run": self.run_id, "task": self.pk, "stage": self.stage, "table": self.subject, "slice": self.slice}

    @property
    def has_lost_batches(self) -> bool:
        """Whether batches that it would read are gone. Of extracts and transforms a run has thousands: they look for their own only."""
        if self.stage in (Stage.PREPARE, Stage.LOAD) or not self.run.reads_everything:
            return self.run.has_lost_batches
        if self.stage != Stage.TRANSFORM or not TARGETS[self.subject].sources:
            return False
        extracts = self.run.tasks.filter(stage=Stage.EXTRACT, subject=self.subject, low=self.low)
        return extracts.filter(state=State.SUCCEEDED, batches=None).exists()

    @property
    def holds_claim(self) -> Q:
        """A condition: no other attempt has claimed the task."""
        return Q(claim=self.claim)

    def claim_for(self, worker: str) -> bool:
        """Claim the task for one attempt, while it waits for nothing and its run is active. The claim is also the first heartbeat."""
        return self.transition(
            State.QUEUED,
            # Not a join: PostgreSQL would look for the old state in a subquery, which the loser of a race does not evaluate again.
            where=Q(waits_for=0, run__in=Run.objects.filter(state__in=ACTIVE, cancelled_by="")),
            to=State.RUNNING,
            claim=uuid.uuid4(),
            worker=worker,
            attempt=F("attempt") + 1,
            started_at=Now(),
            heartbeat_at=Now(),
            not_before=None,
            finished_at=None,
            cause="",
            cause_kind="",
        )

    def succeed(self) -> bool:
        """Record success, if this attempt still holds the claim. At the end of the same transaction call `count_finished`."""
        return self.transition(State.RUNNING, to=State.SUCCEEDED, where=self.holds_claim, finished_at=Now())

    def count_finished(self, rows: int = 0) -> None:
        """Count the task as finished and the rows that it landed, and release the tasks that waited for it alone.

        Workers that finish tasks of one table wait here for each other's commit, so this comes last.
        """
        self.count(-1, rows)

    def count(self, unfinished: int, rows: int) -> None:
        """Add -1 or 1 to the unfinished tasks, and rows to the landed ones. Whatever waits for it waits for one less, or one more.

        The count of its table comes first: its lock keeps all others out until the commit.
        """
        counts = TaskCount.objects.filter(run=self.run_id, stage=self.stage, subject=self.subject)
        counts.update(unfinished=F("unfinished") + unfinished, rows=F("rows") + rows)
        for stage, earlier in WAITS_FOR_SLICES.items():
            if self.stage == earlier:
                self.in_slice_of(stage).update(waits_for=F("waits_for") + unfinished)
        waiting = [group for group, groups in WAITS_FOR_GROUPS.items() if Group.of(self.stage, self.subject) in groups]
        # The last one has finished, or is to be done again.
        if waiting and counts.filter(unfinished=max(unfinished, 0)).exists():
            later = Task.objects.filter(run=self.run_id, group__in=waiting)
            # By group, as whoever has just released a task by its slice goes on: in another order the two could wait for each other.
            list(later.order_by("group", "pk").select_for_update(no_key=True).values_list("pk", flat=True))
            later.update(waits_for=F("waits_for") + unfinished)

    def in_slice_of(self, stage: Stage) -> "models.QuerySet[Task]":
        """Return the task of this stage on this slice, or on the larger one that it is part of: the last that begins no later."""
        others = Task.objects.filter(run=self.run_id, stage=stage, subject=self.subject)
        first = others.filter(low=None)
        if self.low is None:
            return first
        begun = others.filter(low__lte=self.low).order_by("-low")
        return Task.objects.filter(pk=Coalesce(Subquery(begun.values("pk")[:1]), Subquery(first.values("pk")[:1])))

    def retry_after(self, delay: timedelta, error: BaseException) -> bool:
        """Queue the task for another attempt in `delay`, if this attempt still holds the claim."""
        return self.transition(
            State.RUNNING,
            to=State.QUEUED,
            where=self.holds_claim,
            not_before=Now() + delay,
            message_sent_at=None,
            **failure_fields(error),
        )

    def start_over(self) -> bool:
        """Queue a succeeded task again, with all its attempts, and delete what it landed."""
        with transaction.atomic():
            queued = self.transition(State.SUCCEEDED, to=State.QUEUED, claim=None, attempt=0, message_sent_at=None)
            if queued:
                self.count(1, -self.landed_rows)
            for landed in (self.batches, self.row_counts, self.rejects, self.checks) if queued else ():
                landed.all().delete()
        return queued

    @property
    def landed_rows(self) -> int:
        return sum(self.batches.values_list("rows", flat=True))

    def end(self, error: BaseException, where: Q = ANY) -> bool:
        """Record that the attempt failed or was cancelled, and with it the task."""
        return self.transition(State.RUNNING, to=state_after(error), where=where, finished_at=Now(), **failure_fields(error))

    def requeue(self, cause: Message, where: Q = ANY) -> bool:
        """Queue a task again whose worker is gone; that worker's claim is void from now on."""
        return self.transition(
            State.RUNNING,
            to=State.QUEUED,
            where=where,
            claim=None,
            message_sent_at=None,
            not_before=None,
            cause=cause,
            cause_kind=CauseKind.MACHINE,
        )

    def confirm_published(self) -> None:
        """Record that a load succeeded after all: its row is in the warehouse, whatever state this one is in."""
        with transaction.atomic():
            if super().transition(*UNFINISHED, to=State.SUCCEEDED, finished_at=Now(), cause="", cause_kind=""):
                self.count_finished()

    def lose(self, cause: Message, where: Q = ANY) -> bool:
        """Record that the task's worker is gone and no other may take it."""
        return self.transition(State.RUNNING, to=State.LOST, where=where, finished_at=Now(), cause=cause, cause_kind=CauseKind.MACHINE)


class TaskCount(models.Model):
    """Tasks of one stage and table of a run: how many, how many are unfinished, and the rows that the finished ones landed.

    It changes with the state of its tasks, in the same transaction. Once none is unfinished, the groups that wait for them are released.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="task_counts", verbose_name=_("run"), db_index=False)
    stage = models.CharField(_("stage"), max_length=12, choices=Stage)
    subject = models.CharField(_("subject"), max_length=40)
    tasks = models.IntegerField(_("tasks"))
    unfinished = models.IntegerField(_("unfinished"))
    rows = models.BigIntegerField(_("rows"), default=0)

    class Meta:
        ordering = ["id"]
        verbose_name = _("count of tasks")
        verbose_name_plural = _("counts of tasks")
        constraints = [models.UniqueConstraint(fields=["run", "stage", "subject"], name="one_count_per_stage_and_subject")]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.stage, self.subject]))

    @property
    def finished(self) -> int:
        return self.tasks - self.unfinished


class Attempt(models.Model):
    """An unsuccessful attempt at a task. A successful one needs no row: the task's row shows it."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="attempts", verbose_name=_("task"))
    number = models.IntegerField(_("number"), help_text=_("counted from 1 again after the run was resumed"))
    worker = models.CharField(_("worker"), max_length=120)
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"), db_default=Now())
    cause = MessageField(_("cause"))
    cause_kind = models.CharField(_("kind of cause"), max_length=16, choices=CauseKind, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")


class RowCount(models.Model):
    """Rows of one table by what one task did with them. read = loaded + filtered + rejected; loaded = inserted + updated + unchanged.

    A transform counts what was read, a load what was written. `derived` rows were written without a source row: unknown and inferred
    members, calendar days that a fact needed, facts whose product moved to another category.
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
    """Rows that a task landed: an Arrow IPC stream, compressed with zstd. `name` is a source table (raw) or a warehouse table (clean)."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="batches", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="batches", verbose_name=_("task"))
    name = models.CharField(_("name"), max_length=40)
    rows = models.BigIntegerField(_("rows"))
    checksum = models.BigIntegerField(_("checksum"), help_text=_("CRC-32 of the body"))
    body = models.BinaryField(_("body"))
    object_name = models.CharField(
        _("object"),
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text=_("its name in the batch store; empty: the body is here"),
    )

    class Meta:
        ordering = ["id"]
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        constraints = [models.UniqueConstraint(fields=["task", "name"], name="one_batch_per_task_and_name")]


class RejectedContent(models.Model):
    """A source row that broke a rule, with its raw content. `rule` and `params` are those of apps/etl/transform/rules.py."""

    table = models.CharField(_("table"), max_length=40)
    row_id = models.CharField(_("row id"), max_length=40, help_text=_("the id as the source has it"))
    rule = models.CharField(_("rule"), max_length=40)
    params = models.JSONField(_("parameters"), default=dict, help_text=_("fill the reason that the rule shows"))
    raw = models.JSONField(_("raw"))
    slice_id = models.BigIntegerField(
        _("slice id"),
        null=True,
        blank=True,
        help_text=_("the id by which its table is read in slices, such as its order's; empty: read whole"),
    )
    amount = models.DecimalField(
        _("amount"),
        max_digits=24,
        decimal_places=2,
        null=True,
        blank=True,
        help_text=_("UAH that the warehouse lacks because of it: net of a line, amount of a payment"),
    )

    class Meta:
        abstract = True

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


class Reject(RejectedContent):
    """What one run rejected."""

    personal = ("raw",)

    run = models.ForeignKey(Run, models.CASCADE, related_name="rejects", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="rejects", verbose_name=_("task"))

    class Meta:
        ordering = ["id"]
        verbose_name = _("rejected row")
        verbose_name_plural = _("rejected rows")
        indexes = [models.Index(fields=["run", "table", "rule"])]
        permissions = [("view_raw", "Can see personal data and the raw content of rejects")]


class RejectState(models.TextChoices):
    """CLEARED: read again, the row broke the rule no more, or was gone. ACCEPTED: it may stay as it is, until its content changes."""

    OPEN = "open", _("Open")
    CLEARED = "cleared", _("Cleared")
    ACCEPTED = "accepted", _("Accepted")


STANDING = (RejectState.OPEN, RejectState.ACCEPTED)


class StandingReject(RejectedContent):
    """The life of a reject: one row for a source row and the rule that it breaks, over all runs. See apps/orchestration/rejects.py."""

    personal = ("raw",)

    subject = models.CharField(_("subject"), max_length=40, help_text=_("the table of the warehouse for which the row was read"))
    state = models.CharField(_("state"), max_length=12, choices=RejectState, default=RejectState.OPEN)
    first_seen = models.DateTimeField(_("first seen"), help_text=_("when it was first rejected, since it was last cleared"))
    last_seen = models.DateTimeField(_("last seen"))
    first_run = models.BigIntegerField(_("first run"))
    last_run = models.BigIntegerField(_("last run"))
    runs = models.IntegerField(_("runs"), default=1, help_text=_("how many have rejected it since"))
    cleared_by_run = models.BigIntegerField(_("cleared by run"), null=True, blank=True, help_text=_("the run that found it mended or gone"))
    decided_by = models.CharField(_("decided by"), max_length=150, blank=True, help_text=_("who accepted it"))
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    comment = models.CharField(_("comment"), max_length=255, blank=True, help_text=_("why it was accepted"))

    class Meta:
        ordering = ["-id"]
        verbose_name = _("reject")
        verbose_name_plural = _("rejects")
        constraints = [models.UniqueConstraint(fields=["subject", "table", "row_id", "rule"], name="one_reject_per_row_and_rule")]
        indexes = [models.Index(fields=["state", "table"])]
        permissions = [("accept_standingreject", "Can accept a reject")]


class CheckResult(models.Model):
    """What a check expected of the rows or of the warehouse before publishing, and what it observed."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="checks", verbose_name=_("run"))
    task = models.ForeignKey(Task, models.CASCADE, related_name="checks", verbose_name=_("task"))
    name = MessageField(_("name"))
    table = models.CharField(_("table"), max_length=40)
    passed = models.BooleanField(_("passed"))
    blocking = models.BooleanField(_("blocking"), help_text=_("a failure prevents publishing; otherwise it is a warning"))
    expected = MessageField(_("expected"))
    observed = MessageField(_("observed"))

    class Meta:
        ordering = ["id"]
        verbose_name = _("check")
        verbose_name_plural = _("checks")


class Verdict(models.TextChoices):
    """CHANGED: the sides differ only in orders that the source has changed since the load; the next run reads them."""

    EQUAL = "equal", _("Equal")
    CHANGED = "changed", _("Changed since the load")
    DIFFERENT = "different", _("Different")


class DayProof(models.Model):
    """One day of the shop's calendar, as the sources and the star had it when they were last compared. See apps/orchestration/proof.py."""

    day = models.DateField(_("day"), primary_key=True)
    verdict = models.CharField(_("verdict"), max_length=12, choices=Verdict)
    checked_at = models.DateTimeField(_("checked at"), help_text=_("when the sources were read, by the control database's clock"))
    star_as_of = models.DateTimeField(_("star as of"), null=True, blank=True, help_text=_("the warehouse's high-water mark then"))
    differing = models.IntegerField(_("differing orders"), default=0)
    source = models.JSONField(_("sources"), default=dict, help_text=_("orders, lines, quantity, and kopiykas of the sources' sales"))
    star = models.JSONField(_("warehouse"), default=dict, help_text=_("the same of fact_sales"))
    orders = models.JSONField(_("orders"), default=list, help_text=_("the first of the differing orders, with their lines"))
    order_ids = models.JSONField(_("order ids"), default=list, help_text=_("all differing orders, which a repair reads"))

    class Meta:
        ordering = ["-day"]
        verbose_name = _("day proof")
        verbose_name_plural = _("day proofs")

    def __str__(self) -> str:
        return self.day.isoformat()


MAX_MISMATCHES = 100_000  # stored of each list


class Mismatch(models.TextChoices):
    """How an order and its payments do not fit. See apps/etl/reconcile/payments.py."""

    UNPAID = "unpaid", _("Sold and not paid")
    NOT_SOLD = "not_sold", _("Paid and not sold")
    DIFFERS = "differs", _("Paid another amount than sold")
    CAPTURED_TWICE = "captured_twice", _("Captured more than once, above the net")
    REFUNDED_ABOVE = "refunded_above", _("Refunded above what was captured")


class PaymentMismatch(models.Model):
    """An order on one of the five lists of orders against payments, as the sources had it when it was last compared."""

    kind = models.CharField(_("list"), max_length=16, choices=Mismatch)
    order_id = models.BigIntegerField(_("order"))
    day = models.DateField(_("day"), null=True, blank=True, help_text=_("of the sale, in the shop's calendar; empty: the order is no sale"))
    net = models.DecimalField(_("net"), max_digits=24, decimal_places=2, help_text=_("UAH of the order's accepted lines"))
    captured = models.DecimalField(_("captured"), max_digits=24, decimal_places=2)
    refunded = models.DecimalField(_("refunded"), max_digits=24, decimal_places=2)
    checked_at = models.DateTimeField(_("checked at"), help_text=_("when the sources were read, by the control database's clock"))

    class Meta:
        ordering = ["-order_id"]
        verbose_name = _("payment mismatch")
        verbose_name_plural = _("payment mismatches")
        constraints = [models.UniqueConstraint(fields=["kind", "order_id"], name="one_mismatch_per_list_and_order")]

    def __str__(self) -> str:
        return gettext("Order %(number)s") % {"number": self.order_id}

    @property
    def difference(self) -> Decimal:
        """UAH that were paid more than sold, negative where less."""
        return self.captured - self.refunded - self.net


class Schedule(models.Model):
    """The history of a schedule, which beat does not keep: since when it is enabled, when it was paused, since when its runs fail."""

    name = models.CharField(_("name"), max_length=200, primary_key=True, help_text=_("name of the periodic task"))
    enabled_since = models.DateTimeField(
        _("enabled since"), null=True, blank=True, help_text=_("when it was enabled or its crontab changed; empty while paused")
    )
    paused_at = models.DateTimeField(
        _("paused at"),
        null=True,
        blank=True,
        help_text=_("when the last pause began; runs missed since then await a decision"),
    )
    failing_since = models.DateTimeField(
        _("failing since"), null=True, blank=True, help_text=_("first failure since the last success; empty while its runs succeed")
    )

    class Meta:
        verbose_name = _("schedule history")
        verbose_name_plural = _("schedule history")

    def __str__(self) -> str:
        return self.name


class Decision(models.TextChoices):
    """What was decided about a scheduled run. HELD awaits an operator's choice: run now, backfill or skip."""

    RUN = "run", _("Started")
    CAUGHT_UP = "caught up", _("Caught up")
    HELD = "held", _("Awaiting decision")
    SKIPPED = "skipped", _("Skipped")


class ScheduledRun(models.Model):
    """One instant of one schedule. The row is unique: a second beat, a redelivery or a restart finds it and does nothing."""

    schedule = models.ForeignKey(Schedule, models.CASCADE, verbose_name=_("schedule"))
    scheduled_for = models.DateTimeField(_("scheduled for"))
    decision = models.CharField(_("decision"), max_length=12, choices=Decision)
    run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("run"))
    decided_by = models.CharField(_("decided by"), max_length=150, blank=True, help_text=_("the operator who chose the action"))

    class Meta:
        ordering = ["-scheduled_for"]
        verbose_name = _("scheduled run")
        verbose_name_plural = _("scheduled runs")
        constraints = [models.UniqueConstraint(fields=["schedule", "scheduled_for"], name="one_run_per_scheduled_instant")]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.scheduled_for:%Y-%m-%d %H:%M} UTC"


class DutyName(models.TextChoices):
    """What beat has the workers do again and again; see apps/orchestration/duties.py."""

    REAP = "reap", _("Recovery of dead workers' tasks")
    SCHEDULES = "schedules", _("Search for missed scheduled runs")
    FORGET = "forget", _("Deletion of old details")


class Duty(models.Model):
    """When a duty was last done. That its message was sent proves nothing."""

    name = models.CharField(_("name"), max_length=12, choices=DutyName, primary_key=True)
    done_at = models.DateTimeField(_("done at"))

    class Meta:
        verbose_name = _("duty")
        verbose_name_plural = _("duties")

    def __str__(self) -> str:
        return str(self.get_name_display())


class Role(models.TextChoices):
    """What a process does on its host."""

    WEB = "web", _("web process")
    WORKER = "worker", _("worker")
    BEAT = "beat", _("scheduler")
    LOCAL = "local", _("command line")


class HostClock(models.Model):
    """The clock of a host as a process there last compared it with the control database's; see apps/orchestration/hosts.py."""

    host = models.CharField(_("host"), max_length=255)
    role = models.CharField(_("role"), max_length=8, choices=Role)
    ahead_seconds = models.FloatField(_("seconds ahead"), help_text=_("of the control database's clock; negative where it is behind"))
    measured_at = models.DateTimeField(_("measured at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), db_default=Now(), help_text=_("when the process that measured first did so"))

    class Meta:
        verbose_name = _("host clock")
        verbose_name_plural = _("host clocks")
        constraints = [models.UniqueConstraint(fields=["host", "role"], name="one_clock_per_host_and_role")]

    def __str__(self) -> str:
        return f"{self.host} ({self.get_role_display()})"

    @property
    def off(self) -> timedelta:
        return timedelta(seconds=round(abs(self.ahead_seconds)))


class Erasure(models.Model):
    """A customer to forget, and the certificate of what was done. The row stays: while it is there, only pseudonyms are extracted."""

    customer_id = models.BigIntegerField(_("customer id"), unique=True, help_text=_("customers.id, as the shop has it"))
    reason = models.CharField(_("reason"), max_length=255, help_text=_("such as the number of the request; without the person's name"))
    requested_by = models.CharField(_("requester"), max_length=150)
    requested_at = models.DateTimeField(_("requested at"), db_default=Now())
    done_at = models.DateTimeField(_("done at"), null=True)
    certificate = models.JSONField(_("certificate"), default=dict, help_text=_("what was changed, and where the person is still named"))

    class Meta:
        ordering = ["-id"]
        verbose_name = _("forgotten customer")
        verbose_name_plural = _("forgotten customers")

    def __str__(self) -> str:
        return f"{self.customer_id}"
