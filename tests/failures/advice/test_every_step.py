"""Every message with a next step: its cause is produced, the step is taken to the letter, and the same command then succeeds.

Where a cause cannot be produced here, NOT_PRODUCED says why. A message with a new step fails here until it has a row.
"""

import re
from pathlib import Path

import pytest

from techmarket.messages import MESSAGES
from tests.conftest import ROOT
from tests.failures.advice import files, ledger, mysql, postgres, store, test_own_servers
from tests.failures.advice.steps import Cause, take
from tests.failures.advice.texts import STEP
from tests.failures.conftest import Shop, needs_files, needs_servers

# --- The messages of the ledger ---
ON_FILES: dict[str, tuple[Cause, ...]] = {
    "database.bad_option": (files.option_of_the_driver,),
    "database.disk_error": (files.disk_that_refuses_a_write,),
    "database.disk_full": (files.full_disk,),
    "database.file_damaged": (files.damaged_file,),
    "database.file_foreign": (files.foreign_file,),
    "database.file_locked": (files.locked_file,),
    "database.file_read_only": (files.read_only_file,),
    "database.file_unwritable": (files.read_only_folder, files.missing_folder),
    "database.lost_column": (files.lost_column,),
    "database.lost_table": (files.lost_table,),
    "database.missing_column": (files.missing_source_column,),
    "database.missing_own_column": (ledger.earlier_version,),
    "database.missing_source_table": (files.missing_source_table,),
    "database.missing_table": (files.new_installation,),
    "database.no_session": (files.port_of_another_program,),
    "database.other_type": (files.other_type,),
    "database.unknown_host": (files.unknown_host,),
    "database.unreachable": (files.stopped_server,),
    "batch.damaged": (ledger.damaged_batch,),
    "batch.elsewhere": (store.emptied_setting,),
    "batch.gone": (store.deleted_object,),
    "brakes.applied": (ledger.brakes, ledger.brakes_of_a_source_that_is_mended),
    "plan.mark_ahead": (ledger.mark_ahead,),
    "plan.stale": (ledger.other_ledger,),
    "plan.warehouse_emptied": (ledger.emptied_warehouse,),
    "run.overlaps": (ledger.active_run,),
    "run.overlaps_silent": (ledger.silent_run,),
    "store.bad_key": (store.wrong_key,),
    "store.busy": (store.answering("503 Slow Down", "SlowDown"),),
    "store.clock": (store.answering("403 Forbidden", "RequestTimeTooSkewed"),),
    "store.denied": (store.key_without_rights,),
    "store.full": (store.full_folder,),
    "store.no_bucket": (store.missing_bucket,),
    "store.no_encryption": (store.plain_store,),
    "store.other": (store.answering("418 Teapot", "ShortAndStout"),),
    "store.other_region": (store.answering("301 Moved", "PermanentRedirect"),),
    "store.unreachable": (store.stopped_store,),
    "store.unwritable": (store.folder_that_is_a_file,),
}
ON_SERVERS: dict[str, tuple[Cause, ...]] = {
    "database.answers_again": (postgres.refused_once,),
    "database.bad_value": (postgres.refused_value,),
    "database.bad_view": (mysql.view_without_its_table,),
    "database.column_denied": (mysql.no_right_to_a_column,),
    "database.connection_lost": (mysql.ended_session,),
    "database.denied": (postgres.denied,),
    "database.encoding": (postgres.other_encoding,),
    "database.foreign_table": (postgres.foreign_table,),
    "database.hidden_rows": (postgres.hidden_rows, postgres.hidden_rows_of_everybody),
    "database.loose_collation": (postgres.loose_collation,),
    "database.missing": (postgres.missing_database, postgres.dropped_database),
    "database.missing_rights": (postgres.missing_rights,),
    "database.missing_schema": (postgres.missing_schema,),
    "database.no_schema": (postgres.no_schema,),
    "database.no_temporary_tables": (postgres.no_temporary_tables,),
    "database.no_transactions": (mysql.other_engine,),
    "database.not_granted": (mysql.no_right,),
    "database.other": (postgres.refusing_trigger,),
    "database.read_only": (postgres.read_only, postgres.read_only_primary),
    "database.replica_role": (postgres.replica_role,),
    "database.server_limit": (postgres.server_limit,),
    "database.session_ended": (postgres.ended_session,),
    "database.statement_cancelled": (postgres.cancelled_statement,),
    "database.table_denied": (mysql.no_right_to_a_table,),
    "database.too_large": (mysql.large_number,),
    "database.transient": (postgres.deadlock,),
    "database.two_schemas": (postgres.two_schemas,),
    "database.user_refused": (mysql.other_login,),
    "database.warehouse_locked": (postgres.locked_table,),
}
LOGINS, ACCOUNTS = (f"tests/failures/test_logins.py::test_step_of_a_refused_{what}_helps" for what in ("login", "account"))
ENDED_WORK = "tests/failures/advice/test_ended_work.py::"
ELSEWHERE = {
    "batch.lost": "tests/orchestration/test_requests.py::test_run_of_a_restored_ledger_ends_without_its_batches",
    "database.account_locked": ACCOUNTS,
    "database.bad_password": LOGINS,
    "database.closed": LOGINS,
    "database.connect_denied": LOGINS,
    "database.day_checks": "tests/etl/test_preconditions.py::test_role_without_ownership_learns_whose_constraint_a_moved_order_breaks",
    "database.deadlock": f"{ENDED_WORK}test_deadlock_of_mysql",
    "database.full": "tests/failures/test_servers.py::test_warehouse_on_a_full_disk",
    "database.idle_in_transaction": f"{ENDED_WORK}test_idle_session_of_postgresql",
    "database.idle_session": f"{ENDED_WORK}test_idle_session_of_postgresql",
    "database.idle_too_long": f"{ENDED_WORK}test_idle_session_of_mysql",
    "database.lock_timeout": f"{ENDED_WORK}test_lock_timeout_of_mysql",
    "database.login_refused": LOGINS,
    "database.no_password": LOGINS,
    "database.no_gtid": "tests/failures/test_replicas.py::test_source_without_a_log",
    "database.no_superusers": "tests/deploy/test_rights.py::test_owner_makes_superusers_and_web_signs_them_in",
    "database.page_timeout": "tests/security/test_page_timeouts.py::test_page_of_a_locked_source_says_what_took_long",
    "database.password_expired": ACCOUNTS,
    "database.replica_ahead": "tests/failures/test_replicas.py::test_replica_ahead_of_a_source_that_was_built_again",
    "database.replica_lags": "tests/failures/test_replicas.py::test_replica_that_has_stopped",
    "database.statement_limit": f"{ENDED_WORK}test_timeout_and_cancel_in_another_language",
    "database.statement_timeout": f"{ENDED_WORK}test_statement_timeout_of_mysql",
    "database.table_changed": f"{ENDED_WORK}test_table_altered_after_the_snapshot_was_taken",
    "database.user_limit": ACCOUNTS,
    "proof.published_meanwhile": "tests/orchestration/test_reconcile.py::"
    "test_run_that_is_published_meanwhile_is_not_mistaken_for_a_difference",
    "run.publication_unknown": "tests/orchestration/test_publication.py::test_unknown_while_the_warehouse_is_away",
    "run.prepared_lost": "tests/etl/test_prepared.py::test_tables_that_vanish_again_and_again_fail_the_run",
    "run.rows_moved": "tests/orchestration/test_moved_rows.py::test_run_fails_in_the_end_where_rows_move_on_and_on",
    "warehouse.not_a_number": "tests/console/test_values.py::test_amount_that_is_no_number_is_named",
}
NOT_PRODUCED = {
    "database.encryption_wanted": "MySQL proper alone has a code for it; MariaDB says 1045, for which bad_password_or_plain is tested",
    "database.in_use": "databases are created from template0 and dropped WITH (FORCE), which no other session stands in the way of",
    "database.internal": "a fault in the server's own code",
    "database.offline": "MySQL proper alone has an offline mode",
    "database.other_setting": "a proxy that changes sessions; test_source_session_that_a_proxy_changed_is_refused plays one",
    "database.pooler": "a pooler in transaction mode that also prepares statements",
    "database.too_old": "no server is that old here; tests/etl/test_preconditions.py plays one",
    "database.transaction_timeout": "PostgreSQL 17 and later have it; TechMarket's sessions set it to 0",
    "database.unencodable": "a database of another encoding is refused before (database.encoding)",
    "database.unsupported": "a server of another product, or one that is too old",
    "run.overlaps_ended": "the other run ends between two statements",
}
CAUSES = {(code, number): cause for rows in (ON_FILES, ON_SERVERS) for code, causes in rows.items() for number, cause in enumerate(causes)}


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        pytest.param(code, cause, id=cause.__name__, marks=needs_files if code in ON_FILES else needs_servers)
        for (code, _), cause in CAUSES.items()
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that a proxy's threads leave to the collector
def test_step_helps(shop: Shop, code: str, cause: Cause) -> None:
    take(shop, cause, code)


def test_every_message_with_a_step_has_a_row() -> None:
    own = {code.split()[0] for code in test_own_servers.OWN}
    rows = (ON_FILES, ON_SERVERS, own, ELSEWHERE, NOT_PRODUCED)
    with_step = {code for code, text in MESSAGES.items() if STEP.search(text)}
    assert with_step == {code for each in rows for code in each}
    assert not NOT_PRODUCED.keys() & {code for each in rows[:-1] for code in each}


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_elsewhere_is_there(test: str) -> None:
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / Path(file)).read_text(), re.MULTILINE)
