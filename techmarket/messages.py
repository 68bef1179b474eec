"""Every message of the ledger, by its code. Rows store code and parameters; the text is rendered where it is shown.

Adding one: a line in MESSAGES, `message("its.code", name=value)` where it happens, and its Ukrainian in locale/uk.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from django import template
from django.utils.translation import gettext, override
from django.utils.translation import gettext_noop as _

register = template.Library()
SEPARATOR = "; "  # between the messages of a list

MESSAGES = {
    # --- What a database driver reported: techmarket/diagnosis.py ---
    "database.control": _("control database ({where})"),
    "database.nothing_published": _("; nothing was published"),
    "database.unreachable": _("{place} does not answer. Start it, or correct {variable}."),
    "database.unknown_host": _("{place}: the host's name is unknown. Correct {variable}."),
    "database.connection_lost": _("{place} closed the connection{published}. Run it again."),
    "database.restarting": _("{place} is stopping or starting{published}. Run it again."),
    "database.no_free_connection": _("{place} has no free connection{published}. Run it again later."),
    "database.missing": _("{place} has no database {name}. Create it, or correct {variable}."),
    "database.bad_password": _("{place} refuses user {user} or its password. Correct {variable}."),
    "database.user_refused": _("{place} refuses user {user}. Correct {variable}."),
    "database.host_refused": _("{place} refuses user {user} from this host. Allow it, or correct {variable}."),
    "database.host_blocked": _("{place} has blocked this host after failed attempts. Run FLUSH HOSTS there."),
    "database.not_granted": _("{place} denies user {user} access to this database. Grant it SELECT there."),
    "database.table_denied": _("{place} denies user {user} a table: {detail}. Grant it there."),
    "database.column_denied": _("{place} denies user {user} a column: {detail}. Grant it there."),
    "database.denied": _("{place} denies user {user} this: {detail}. Grant it."),
    "database.missing_table": _("{place} lacks a table: {detail}. Run `manage.py migrate_all`."),
    "database.missing_schema": _("{place} lacks a schema: {detail}. Run `manage.py migrate_all`."),
    "database.missing_own_column": _("{place} lacks a column: {detail}. Run `manage.py migrate_all`."),
    "database.missing_column": _("{place} lacks a column: {detail}. Restore it in the source database."),
    "database.other_type": _("{place}: {column} is {found}, not {expected}. Restore the column's type in the source database."),
    "database.no_transactions": _(
        "{place}: table {table} is stored by {engine}, which has no transactions, so that two reads of one snapshot may differ. Expected: "
        "InnoDB. Run `ALTER TABLE {table} ENGINE=InnoDB` there."
    ),
    "database.too_large": _(
        "{place}: {column} holds {value}; the largest number that can be read is {greatest}. Correct the row in the source database."
    ),
    "database.table_changed": _("{place}: a table was altered while it was read{published}. Run it again."),
    "database.lock_timeout": _("{place}: timed out waiting for a lock{published}. Run it again."),
    "database.warehouse_locked": _("{place}: another session holds a lock on the warehouse{published}. Run it again when it has ended."),
    "database.deadlock": _("{place}: deadlock{published}. Run it again."),
    "database.statement_timeout": _("{place}: the statement took longer than the server allows{published}. Run it again."),
    "database.statement_cancelled": _("{place}: the statement was cancelled{published}. Run it again."),
    "database.transient": _("{place}: {detail}{published}. Run it again."),
    "database.disk_full": _("{place}: the disk is full{published}. Free space there, then run it again."),
    "database.full": _("{place} is full: {detail}{published}. Free space there, then run it again."),
    "database.bad_option": _("{place}: the driver refuses an option in {variable}: {detail}. Correct it."),
    "database.no_encryption": _("{place}: no encrypted connection: {detail}. Correct the server or {variable}."),
    "database.read_only": _("{place} is read-only (a standby, or default_transaction_read_only). Correct {variable}."),
    "database.file_unwritable": _("{place} cannot be opened for writing. Make the file and its folder writable, or correct {variable}."),
    "database.file_read_only": _("{place} is read-only. Make the file and its folder writable for this user."),
    "database.file_foreign": _("{place} is not an SQLite file. Correct {variable}."),
    "database.file_damaged": _("{place} is damaged: {detail}. Restore it from a backup."),
    "database.file_locked": _("{place} is locked by another program{published}. Run it again when that has ended."),
    "database.disk_error": _("{place}: the disk reports a read or write error{published}. Check the disk, then run it again."),
    "database.other": _("{place}: {detail}{published}. Correct it there, then run it again."),
    # --- How a run or a task ended: apps/orchestration ---
    "run.cancelled_by": _("Cancelled by {person}. Nothing was published."),
    "run.cancelled_because": _("Cancelled by {person}: {reason}. Nothing was published."),
    "run.interrupted": _("Cancelled {how}. Nothing was published."),
    "signal.terminal": _("at the terminal"),
    "signal.sigterm": _("by SIGTERM"),
    "signal.sighup": _("by SIGHUP"),
    "run.timed_out": _("The run took longer than its limit of {seconds} s. Nothing was published."),
    "run.ended_elsewhere": _("Run {run} was ended by another process. Nothing was published from here."),
    "run.unexpected": _("Unexpected {detail}. Nothing was published."),
    "run.rows_moved": _(
        "Rows of {table} moved to orders of another slice while they were read (id {ids}). Nothing was published. Run it again."
    ),
    # The same without a promise, where the warehouse does not answer: apps/orchestration/publication.py.
    "run.publication_unknown": _(
        "{cause} The warehouse does not answer: whether this run was published is unknown. The ledger follows once it answers; "
        "start it, then run `manage.py run_etl`."
    ),
    "ended.cancelled_by": _("Cancelled by {person}."),
    "ended.cancelled_because": _("Cancelled by {person}: {reason}."),
    "ended.interrupted": _("Cancelled {how}."),
    "ended.timed_out": _("The run took longer than its limit of {seconds} s."),
    "ended.unexpected": _("Unexpected {detail}."),
    "ended.heartbeat_stopped": _("{worker} stopped sending heartbeats at {instant} UTC."),
    "ended.process_gone": _("{worker} has ended in the middle of its work."),
    "run.overlaps": _("Skipped: overlaps {run}. Run it again when that one has ended."),
    "run.overlaps_silent": _(
        "Skipped: overlaps {run}. It has sent no heartbeat for {silence} s and counts as lost after {limit} s. Run it again in {wait} s."
    ),
    "run.overlaps_ended": _("Skipped: overlaps a run that has just ended. Run it again."),
    "run.active": _("run {run} requested by {person}, {state} since {since}, last heartbeat {beat}"),
    "state.queued": _("queued"),
    "state.running": _("running"),
    "task.worker_died": _("{worker} died."),
    "task.heartbeat_stopped": _("{worker} stopped sending heartbeats at {instant} UTC. Nothing was published."),
    "task.process_gone": _("{worker} has ended in the middle of its work. Nothing was published."),
    "task.claim_lost": _("Another worker has claimed this task; nothing was published from here."),
    "plan.mark_ahead": _(
        "The high-water mark, {mark} UTC, is ahead of the sources' clock, {clock} UTC: a clock was wrong, and changes may have been "
        "missed. Correct it, then run `manage.py run_etl --mode full`."
    ),
    "plan.stale": _("Run {run} was published to this warehouse since this run was planned. Nothing was published. Start it again."),
    "plan.warehouse_emptied": _("The warehouse was emptied since this run was planned. Nothing was published. Start it again."),
    "proof.published_meanwhile": _("Runs were published while the sources and the warehouse were compared. Start it again."),
    "batch.damaged": _("A landed batch does not match its checksum. Start a new run."),
    # --- Checks: apps/etl/checks.py ---
    "check.failed": _("{table}: {name}: expected {expected}, observed {observed}"),
    "check.more": _("and {count} more"),
    "checks.failed": _("Blocking checks failed: {checks}. Nothing was published."),
    "check.unique": _("unique {column}"),
    "check.not_null": _("not null {column}"),
    "check.accepted_values": _("accepted values {column}"),
    "check.relationship": _("relationship {column}"),
    "brakes.applied": _(
        "Stopped before publishing: {checks}. Nothing was published. Mend the source; or if this is right, publish it with "
        '"Accept and publish" on the run\'s page or `manage.py run_etl --resume {run} --accept "why"`.'
    ),
    "brake.worth_of": _("{amount} UAH of {orders}"),
    "orders.one": _("1 order"),
    "orders.many": _("{count} orders"),
    "check.net_deleted": _("net deleted"),
    "check.net_rejected": _("net rejected"),
    "check.month_lost": _("net deleted and rejected in {month}"),
    "check.month_paid": _("payments lost in {month}"),
    "check.share_deleted": _("share deleted"),
    "check.share_rejected": _("share rejected"),
    "check.net": _("net = gross - discount"),
    "check.margin": _("margin = net - cost"),
    "check.balance": _("balance"),
    "check.reconciliation_lines": _("reconciliation lines"),
    "check.reconciliation_net": _("reconciliation net"),
    "check.reconciliation_paid": _("reconciliation paid"),
    "check.email": _("valid e-mail"),
    "check.email_slice": _("valid e-mail {slice}"),
    "check.added_column": _("added column {column}"),
    "check.nullable": _("nullable column {column}"),
    "check.narrowed": _("narrowed column {column}"),
    "check.on_update": _("ON UPDATE of {column}"),
    "check.indexed": _("index on {column}"),
    "column.unknown": _("no such column"),
    "column.not_loaded": _("{type}; not loaded"),
    "updated_at.sweep_only": _("none; only the sweep finds changes"),
    "updated_at.empty": _("{rows}; only the sweep finds their changes"),
    "index.expected": _("an index that begins with {column}"),
    "index.none": _("none; each run searches the whole table"),
    "check.captured_without_order": _("captured payments without an order"),
    "check.captured_without_order_slice": _("captured payments without an order {slice}"),
    "check.captured_without_lines": _("captured payments of orders without lines"),
    "check.captured_without_lines_slice": _("captured payments of orders without lines {slice}"),
    "rows.none": _("0 rows"),
    "rows.one": _("1 row"),
    "rows.many": _("{count} rows"),
    "rows.ids": _("{rows} (id {ids})"),
    "rows.uah": _("{rows}, {amount} UAH"),
    "rows.read": _("{count} read"),
    "rows.accounted_for": _("{count} accounted for"),
    "share.at_most": _("at most {share} of {count}"),
    "share.at_most_uah": _("at most {share} of {amount} UAH"),
    "constraint.valid": _("validated foreign key"),
    "constraint.invalid": _("no validated foreign key"),
}


class Message(str):
    """A text in English that remembers its code and parameters. A parameter may be a message, or a list of them.

    A code or a parameter that is not known (an old row, a newer version) gives the code itself.
    """

    __slots__ = ("code", "params")
    code: str
    params: Mapping[str, Any]

    def __new__(cls, code: str, params: Mapping[str, Any]) -> "Message":
        with override(None):
            self = super().__new__(cls, render(code, params))
        self.code, self.params = code, params
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Message, (self.code, self.params)


def message(code: str, **params: Any) -> Message:
    """Return the message of this code, with the parameters that its sentence names. Raises KeyError where MESSAGES lacks the code."""
    named = {name for _literal, name, _format, _conversion in Formatter().parse(MESSAGES[code]) if name}
    return Message(code, {name: value for name, value in params.items() if name in named})


def render(code: str, params: Mapping[str, Any]) -> str:
    """Return the text in the active language."""
    try:
        return gettext(MESSAGES[code]).format(**{name: translate(value) for name, value in params.items()})
    except (KeyError, IndexError):
        return code


@register.filter
def translate(value: Any) -> str:
    """Return a message in the active language; any other value as text."""
    if isinstance(value, Message):
        return render(value.code, value.params)
    if isinstance(value, list | tuple):
        return SEPARATOR.join(map(translate, value))
    return "" if value is None else str(value)


def store(value: Any) -> Any:
    """Return `value` for JSON: messages, at any depth, as their codes and parameters."""
    if isinstance(value, Message):
        return {"code": value.code, "params": store(dict(value.params))}
    if isinstance(value, Mapping):
        return {name: store(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [store(each) for each in value]
    return value


def load(value: Any) -> Any:
    """Return what `store` made JSON of."""
    if isinstance(value, dict):
        if value.keys() == {"code", "params"}:
            return Message(value["code"], load(value["params"]))
        return {name: load(each) for name, each in value.items()}
    return [load(each) for each in value] if isinstance(value, list) else value
