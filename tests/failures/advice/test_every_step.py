import pytest

from tests.failures.advice import files, mysql, postgres
from tests.failures.advice.steps import Cause, take
from tests.failures.conftest import Shop, needs_files, needs_servers

FILES: dict[str, Cause] = {
    "database.missing_table": files.new_installation,
    "database.lost_table": files.lost_table,
    "database.lost_column": files.lost_column,
    "database.missing_source_table": files.missing_source_table,
    "database.missing_column": files.missing_source_column,
    "database.other_type": files.other_type,
    "database.unreachable": files.stopped_server,
    "database.unknown_host": files.unknown_host,
    "database.no_session": files.port_of_another_program,
    "database.bad_option": files.option_of_the_driver,
    "database.file_unwritable": files.read_only_folder,
    "database.file_read_only": files.read_only_file,
    "database.file_foreign": files.foreign_file,
    "database.file_damaged": files.damaged_file,
    "database.file_locked": files.locked_file,
    "database.disk_full": files.full_disk,
    "database.disk_error": files.disk_that_refuses_a_write,
}


@needs_files
@pytest.mark.parametrize("code", FILES)
def test_step_helps(shop: Shop, code: str) -> None:
    take(shop, FILES[code], code)


POSTGRES = {
    "database.no_schema": postgres.no_schema,
    "database.two_schemas": postgres.two_schemas,
    "database.foreign_table": postgres.foreign_table,
    "database.missing_rights": postgres.missing_rights,
    "database.no_temporary_tables": postgres.no_temporary_tables,
    "database.hidden_rows": postgres.hidden_rows,
    "database.hidden_rows 2": postgres.hidden_rows_of_everybody,
    "database.loose_collation": postgres.loose_collation,
    "database.replica_role": postgres.replica_role,
    "database.denied": postgres.denied,
    "database.missing_schema": postgres.missing_schema,
    "database.encoding": postgres.other_encoding,
    "database.missing": postgres.missing_database,
    "database.missing 2": postgres.dropped_database,
    "database.read_only": postgres.read_only,
    "database.read_only 2": postgres.read_only_primary,
    "database.server_limit": postgres.server_limit,
    "database.warehouse_locked": postgres.locked_table,
    "database.session_ended": postgres.ended_session,
    "database.statement_cancelled": postgres.cancelled_statement,
    "database.transient": postgres.deadlock,
    "database.answers_again": postgres.refused_once,
    "database.bad_value": postgres.refused_value,
}


@needs_servers
@pytest.mark.parametrize("code", POSTGRES)
def test_step_helps_pg(shop: Shop, code: str) -> None:
    take(shop, POSTGRES[code], code.split()[0])


MYSQL = {
    "database.not_granted": mysql.no_right,
    "database.table_denied": mysql.no_right_to_a_table,
    "database.column_denied": mysql.no_right_to_a_column,
    "database.user_refused": mysql.other_login,
    "database.no_transactions": mysql.other_engine,
    "database.too_large": mysql.large_number,
    "database.bad_view": mysql.view_without_its_table,
    "database.connection_lost": mysql.ended_session,
    "database.statement_timeout": mysql.statement_limit,
    "database.table_changed": mysql.altered_table,
}


@needs_servers
@pytest.mark.parametrize("code", MYSQL)
def test_step_helps_my(shop: Shop, code: str) -> None:
    take(shop, MYSQL[code], code.split()[0])
