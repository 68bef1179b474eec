"""Every message of the ledger, by its code. Rows store code and parameters; the text is rendered where it is shown.

Adding one: a line in MESSAGES, `message("its.code", name=value)` where it happens, and its Ukrainian in locale/uk.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from django import template
from django.utils.formats import get_format
from django.utils.translation import gettext, override
from django.utils.translation import gettext_noop as _

register = template.Library()
SEPARATOR = "; "  # between the messages of a list

MESSAGES = {
    # --- What a database driver reported: techmarket/diagnosis.py ---
    "database.control": _("control database ({where})"),
    "database.nothing_published": _("; nothing was published"),
    # No answer, or no session.
    "database.unreachable": _("{place} does not answer. Start it, or correct {variable}."),
    "database.unknown_host": _(
        "{place}: the host's name is unknown: no container or service of that name runs, or the name is wrong. "
        "Start it, or correct {variable}."
    ),
    "database.no_session": _("{place} takes a connection and gives no session: {detail}. Check the server there, or correct {variable}."),
    "database.answers_again": _("{place} refused a connection a moment ago and takes it now{published}. Run it again."),
    "database.connection_lost": _("{place} closed the connection{published}. Run it again."),
    "database.session_ended": _("{place} has ended the session, as a stop or an administrator does{published}. Run it again."),
    "database.restarting": _("{place} is stopping or starting{published}. Run it again."),
    "database.offline": _("{place} is in offline mode{published}. Run it again when its administrator has ended that (offline_mode)."),
    "database.no_free_connection": _(
        "{place} has no free connection: {detail}{published}. Run it again later, or raise the limit there "
        "(max_connections, or that of the user or the database)."
    ),
    "database.user_limit": _(
        "{place}: user {user} has reached a limit of its account: {detail}{published}. Run it again later, or raise the limit there."
    ),
    "database.missing": _("{place} has no database {name}. Create it, or correct {variable}."),
    "database.closed": _("{place} takes no connections to database {name}. Allow them (ALTER DATABASE), or correct {variable}."),
    "database.bad_option": _("{place}: the driver refuses an option in {variable}: {detail}. Correct it."),
    "database.no_encryption": _("{place}: no encrypted connection: {detail}. Correct the server or {variable}."),
    "database.encryption_wanted": _("{place} takes encrypted connections alone. Ask for TLS in {variable}."),
    # The login.
    "database.bad_password": _("{place} refuses user {user} or its password. Correct {variable}."),
    "database.bad_password_or_plain": _(
        "{place} refuses user {user} or its password. Correct {variable}; if this user must connect with TLS, ask for it there."
    ),
    "database.no_password": _("{place} wants a password for user {user}, and {variable} has none. Add it."),
    "database.user_refused": _("{place} refuses user {user}. Correct {variable}."),
    "database.login_refused": _(
        "{place} does not let user {user} log in: {detail}. Allow it there (LOGIN, `pg_hba.conf`), or correct {variable}."
    ),
    "database.connect_denied": _("{place} denies user {user} this database: {detail}. Grant it CONNECT there, or correct {variable}."),
    "database.account_locked": _("{place}: the account of user {user} is locked. Unlock it there (ALTER USER), or correct {variable}."),
    "database.password_expired": _(
        "{place}: the password of user {user} has expired. Set another one there (ALTER USER), and write it into {variable}."
    ),
    "database.login_method": _(
        "{place}: user {user} cannot log in by the method of its account: {detail}. Ask for TLS in {variable}, or give the user "
        "another method there (ALTER USER)."
    ),
    "database.host_refused": _("{place} refuses user {user} from this host. Allow it, or correct {variable}."),
    "database.host_blocked": _(
        "{place} has blocked this host after failed attempts. "
        "Run `TRUNCATE TABLE performance_schema.host_cache` there (MariaDB: `FLUSH HOSTS`)."
    ),
    # Rights.
    "database.not_granted": _("{place} denies user {user} access to this database. Grant it SELECT there, or correct {variable}."),
    "database.table_denied": _("{place} denies user {user} a table: {detail}. Grant it there."),
    "database.column_denied": _("{place} denies user {user} a column: {detail}. Grant it there."),
    "database.denied": _("{place} denies user {user} this: {detail}. Grant it."),
    "database.no_superusers": _("{place} lets user {user} make nobody a superuser. Run the command as the owner of its tables."),
    # Tables, columns and values.
    "database.missing_table": _("{place} lacks a table: {detail}. Run `manage.py migrate_all`."),
    "database.missing_schema": _("{place} lacks a schema: {detail}. Create it there, or correct {variable}."),
    "database.missing_own_column": _("{place} lacks a column: {detail}. Run `manage.py migrate_all`."),
    "database.lost_table": _("{place} has lost a table: {detail}. Restore it there, or restore a backup into an empty database."),
    "database.lost_column": _("{place} has lost a column: {detail}. Restore it there, or restore a backup into an empty database."),
    "database.missing_source_table": _("{place} lacks a table: {detail}. Restore it in the source database, or correct {variable}."),
    "database.missing_column": _("{place} lacks a column: {detail}. Restore it in the source database."),
    "database.bad_view": _(
        "{place}: a view or a generated column cannot be read: {detail}. Correct it or its definer in the source database."
    ),
    "database.other_type": _("{place}: {column} is {found}, not {expected}. Restore the column's type in the source database."),
    "database.no_transactions": _(
        "{place}: table {table} is stored by {engine}, which has no transactions, so that two reads of one snapshot may differ. Expected: "
        "InnoDB. Run `ALTER TABLE {table} ENGINE=InnoDB` there."
    ),
    "database.too_old": _("{place}: {detail}. Upgrade the server, or correct {variable}."),
    "database.encoding": _(
        "{place} has the encoding {detail}, in which not every text can be stored. Create a database with `ENCODING 'UTF8' TEMPLATE "
        "template0` and restore a backup there, or correct {variable}."
    ),
    "database.no_schema": _(
        "{place}: user {role} may use no schema of the search path, {path}. Run `GRANT USAGE ON SCHEMA public TO {role}` there, or put the "
        "schema with the tables into the search path."
    ),
    "database.two_schemas": _(
        "{place}: the tables are in schema {found}, but new ones would be created in {current}, the first of the search path. Run "
        "`ALTER ROLE {role} IN DATABASE {database} SET search_path = {found}` there for these tables, or `... = {current}` for new ones."
    ),
    "database.foreign_table": _(
        "{place}: {table} means the one in schema {found}, while the other tables are in {schema}. Run `ALTER ROLE {role} IN DATABASE "
        "{database} SET search_path = {schema}` there."
    ),
    "database.day_checks": _(
        "{place} denies user {role} to drop constraints of {table}: orders have moved to days that these exclude. "
        "Run `{statements}` there as {owner}."
    ),
    "database.missing_rights": _("{place} denies user {role} {rights} on {table}. Run `GRANT {rights} ON {table} TO {role}` there."),
    "database.no_temporary_tables": _(
        "{place} denies user {role} temporary tables, which a load needs. Run `GRANT TEMPORARY ON DATABASE {database} TO {role}` there."
    ),
    "database.hidden_rows": _(
        "{place}: row-level security may hide rows of {table} from user {role}. Run `ALTER ROLE {role} BYPASSRLS` there, or `ALTER TABLE "
        "{table} DISABLE ROW LEVEL SECURITY`."
    ),
    "database.loose_collation": _(
        "{place}: different texts are equal in {table}.{column} under its collation, {collation}, so that changes would go unnoticed. Run "
        '`ALTER TABLE {table} ALTER {column} TYPE {type} COLLATE "default"` there.'
    ),
    "database.small_packets": _(
        "{place}: max_allowed_packet is {found} bytes, less than a run's queries. Run `SET GLOBAL max_allowed_packet = {needed}` there, "
        "and set it in the server's configuration."
    ),
    "database.no_gtid": _(
        "{place}: {setting} is {found}, so the server does not number its transactions, and how far its replica is behind cannot be known. "
        "Set it to ON there, or remove {variable}."
    ),
    "database.replica_lags": _(
        "{place} is more than {seconds} s behind {source}, the most that ETL_MAX_REPLICA_LAG_SECONDS allows{published}. Start its "
        "replication there or raise that setting, then run it again; without {variable} the source itself is read."
    ),
    "database.replica_ahead": _(
        "{place} has transactions that {source} never committed: it replicates another server, or this one as it was before it was built "
        "again{published}. Build the replica again from {source}, or correct {variable}; without {variable} the source itself is read."
    ),
    "database.too_large": _(
        "{place}: {column} holds {value}; the largest number that can be read is {greatest}. Correct the row in the source database."
    ),
    "database.bad_value": _("{place} refuses a value: {detail}{published}. Correct the row that has it, then run it again."),
    "database.unencodable": _(
        "{place} cannot hold a character: {detail}{published}. Create the database anew with ENCODING 'UTF8', or correct {variable}."
    ),
    # What passes, and what a limit ends.
    "database.table_changed": _("{place}: a table was altered while it was read{published}. Run it again."),
    "database.lock_timeout": _("{place}: timed out waiting for a lock{published}. Run it again."),
    "database.warehouse_locked": _("{place}: another session holds a lock on the warehouse{published}. Run it again when it has ended."),
    "database.in_use": _("{place}: another session uses what is to be changed: {detail}{published}. Run it again when it has ended."),
    "database.deadlock": _("{place}: deadlock{published}. Run it again."),
    "database.statement_timeout": _(
        "{place}: the statement took longer than the server allows{published}. "
        "Raise max_execution_time there (MariaDB: max_statement_time), then run it again."
    ),
    "database.statement_limit": _(
        "{place}: the statement took longer than statement_timeout{published}. Set it to 0 for user {user} there, then run it again."
    ),
    "database.page_timeout": _(
        "{place} did not answer this page within {seconds} s. Choose narrower filters or a shorter period, and try again."
    ),
    "database.statement_cancelled": _(
        "{place}: the statement was cancelled there, by an administrator or a program that ends long ones{published}. Run it again."
    ),
    "database.transaction_timeout": _(
        "{place}: the transaction took longer than transaction_timeout{published}. Set it to 0 for user {user} there, then run it again."
    ),
    "database.idle_in_transaction": _(
        "{place} ended a session that waited in a transaction, as of a process that was stopped or cut off{published}. Run it again."
    ),
    "database.idle_session": _(
        "{place} ended a session that was idle{published}. Set idle_session_timeout to 0 for user {user} there, then run it again."
    ),
    "database.idle_too_long": _(
        "{place} ended a session that was idle for longer than wait_timeout, which is 8 hours for sessions of TechMarket unless a proxy "
        "sets another value{published}. Run it again."
    ),
    "database.transient": _("{place}: {detail}{published}. Run it again."),
    "database.no_memory": _("{place} lacks memory: {detail}{published}. Give the server more, or run it again when it has less to do."),
    "database.server_limit": _("{place}: a limit of the server is reached: {detail}{published}. Raise it there, then run it again."),
    "database.unsupported": _(
        "{place} does not support what is needed: {detail}{published}. Compare the server's version and settings with those in "
        "`docs/DATABASES.md`, or correct {variable}."
    ),
    "database.pooler": _(
        "{place}: a pooler has mixed up sessions: {detail}{published}. Name the server itself, or a pooler in session mode, in {variable}."
    ),
    # Disks and files.
    "database.disk_full": _("{place}: the disk is full{published}. Free space there, then run it again."),
    "database.full": _("{place} is full: {detail}{published}. Free space there, then run it again."),
    "database.storage_error": _(
        "{place} cannot read or write its files: {detail}{published}. Read the server's log, mend the disk, then run it again."
    ),
    "database.damaged": _("{place}: stored data is damaged: {detail}{published}. Repair it there or restore a backup, then run it again."),
    "database.internal": _("{place} reports a fault of its own: {detail}{published}. Read the server's log there, then run it again."),
    "database.other_setting": _(
        "{place}: the session's {setting} is {found} where {expected} was set. A proxy or pooler does not pass it on: let it do so, or "
        "name the server itself in {variable}."
    ),
    "database.replica_role": _(
        "{place}: session_replication_role is {found} for user {role}, so that no foreign key is checked. Run `ALTER ROLE {role} "
        "IN DATABASE {database} SET session_replication_role = origin` there."
    ),
    "database.read_only": _(
        "{place} is read-only: it is a standby, or default_transaction_read_only is on. Set that to off there, or name a server that takes "
        "writes in {variable}."
    ),
    "database.read_only_server": _(
        "{place} does not allow this: {detail}{published}. Correct the server's option, or name another server in {variable}."
    ),
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
    "run.prepared_lost": _("Tables that were prepared are gone ({slices}). Nothing was published. Run it again."),
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
    "run.active_queued": _("run {run} requested by {person}, {state} since {since}, taken by no worker yet"),
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
    "batch.lost": _("The batches of this run are gone: a backup, which has none, was restored. Start a new run."),
    "batch.gone": _("{place} no longer has a batch of this run, {object}. Start a new run."),
    "batch.elsewhere": _(
        "A batch of this run is in a batch store, and ETL_BATCH_URL is empty. Set it to the address that it had, or start a new run."
    ),
    # --- The batch store, ETL_BATCH_URL: apps/etl/store_errors.py ---
    "store.place": _("batch store ({where})"),
    "store.unreachable": _("{place} does not answer: {detail}. Start it, or correct ETL_BATCH_URL."),
    "store.no_encryption": _("{place}: no encrypted connection: {detail}. Correct the server or ETL_BATCH_URL."),
    "store.busy": _("{place} cannot answer now: {detail}. Run it again."),
    "store.no_bucket": _("{place}: there is no such bucket. Create it, or correct ETL_BATCH_URL."),
    "store.other_region": _("{place}: the bucket is in another region. Correct AWS_REGION, or ?region= in ETL_BATCH_URL."),
    "store.bad_key": _("{place} refuses the key: {detail}. Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    "store.denied": _(
        "{place} denies access: {detail}. Allow the key to read, write, list and delete objects there, or correct AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY."
    ),
    "store.clock": _("{place} refuses the time of this machine: {detail}. Set its clock by NTP."),
    "store.unwritable": _("{place} cannot be used: {detail}. Give this user the right to the folder, or correct ETL_BATCH_URL."),
    "store.full": _("{place} is full: {detail}; nothing was published. Free space there, then run it again."),
    "store.other": _("{place} refuses this: {detail}. Check the store, or correct ETL_BATCH_URL."),
    # --- Checks: apps/etl/checks.py ---
    "warehouse.not_a_number": _(
        "The warehouse has an amount that is not a number (NaN), so its sums are unknown. The list of fact_sales marks it with ⚠. "
        "Ask an administrator of the database to delete its row, then start a full run, which loads it again."
    ),
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
    "check.build": _("rights to swap in a new table"),
    "build.expected": _("owner, with CREATE on the schema"),
    "build.slow": _("denied; a load into the empty table takes several times as long"),
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
        return gettext(MESSAGES[code]).format(**{name: spell(name, value) for name, value in params.items()})
    except (KeyError, IndexError):
        return code


def spell(name: str, value: Any) -> str:
    """Return a parameter in the active language; an amount, which is stored as 1 234.56, with the language's decimal mark."""
    return str(value).replace(".", get_format("DECIMAL_SEPARATOR")) if name == "amount" else translate(value)


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
        if value.keys() == {"code", "params"} and isinstance(value["code"], str) and isinstance(value["params"], dict):
            return Message(value["code"], load(value["params"]))
        return {name: load(each) for name, each in value.items()}
    return [load(each) for each in value] if isinstance(value, list) else value
