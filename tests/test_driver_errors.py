"""Every code that a driver knows is in the tables of techmarket/driver_errors.py, or here with the reason why it cannot come.

A new version of a driver that knows another code fails here until somebody has decided what it means.
"""

import re
import sqlite3

import MySQLdb
import psycopg
import pytest
from MySQLdb.constants import CR, ER
from psycopg import errors as postgres

from techmarket import driver_errors, errors
from techmarket.diagnosis import find_diagnosis, find_state, primary_name
from techmarket.driver_errors import MYSQL, MYSQL_CONNECTING, OTHER, POSTGRES, POSTGRES_CONNECTING, SQLITE, Diagnosis
from techmarket.messages import MESSAGES

# --- MySQL and MariaDB: names of codes that no connection, query, migration or restore of ours can meet ---
CANNOT_COME = {
    "stored programs, triggers, events and prepared XA transactions are neither made nor called": (
        r"SP_|TRG_|EVENT_|UDF_|FUNCTION_NOT|FUNC_|XAER_|XA_|PROC_|.*_IN_SF_OR_TRG|SIGNAL_|RESIGNAL_|DUP_SIGNAL|COND_ITEM|.*HANDLER|"
        r"STMT_(HAS|NOT)|NO_TRIGGERS|SET_STATEMENT|NATIVE_FCT|DA_|UNKNOWN_PROCEDURE|WRONG_PARAM|WRONG_SPVAR|PS_NO|VARIABLE_NOT|EXCEPTIONS"
    ),
    "replication, its logs and group members report to their own threads": (
        r".*BINLOG|.*SLAVE|.*MASTER|MTS_|.*GTID|GNO_|RELAY_|.*RPL_|.*_LOG_|LOG_|.*_RBR|SQLTHREAD|AUTO_POSITION|NDB_|CONFLICT_FN|BAD_LOG|"
        r"UNTIL_COND|NO_BINARY|ONLY_FD|INSECURE_PLAIN|ERROR_DURING_FLUSH|NO_UNIQUE_LOG|MISSING_SKIP|BASE64|UNSUPORTED_LOG|CANT_RENAME_LOG|"
        r"STORED_FUNCTION_PREVENTS|INSIDE_TRANSACTION"
    ),
    "partitions, tablespaces, indexes by text or place, and federated tables are made by no migration": (
        r".*PARTITION|.*_PART_|PARTITION|REORG|COALESCE_|.*FILEGROUP|TABLESPACE|.*_FT|FT_|INNODB_|.*SPATIAL|.*GEOM|FOREIGN_SERVER|"
        r"CREATE_|DROP_|.*VALUES_I|.*_PF|RANGE_NOT|MULTIPLE_DEF|LIMITED_PART|NULL_IN_VALUES|ILLEGAL_HA_CREATE|WRONG_MRG|ADMIN_WRONG|"
        r"NO_PARTS|INCONSISTENT_TYPE|TABLE_CANT_HANDLE|DISCARD_FK|TABLE_IN_(SYSTEM|FK)|TABLES_DIFFERENT|MAXVALUE|SAME_NAME|ADD_|.*KEY_CACHE"
    ),
    "definitions that a migration of ours would have to hold": (
        r"TOO_(LONG|BIG|MANY|HIGH)|WRONG_|FK_|ALTER_|DUP_(INDEX|UNKNOWN|ARGUMENT|FIELD|KEYNAME)|VIEW_|NO_DEFAULT|BLOB_|PRIMARY_CANT|"
        r"REQUIRES_PRIMARY|MULTIPLE_PRI|KEY_|NULL_COLUMN|INVALID_(DEFAULT|ON_UPDATE|YEAR)|CANT_REMOVE_ALL|TABLE_MUST|TABLENAME|INDEX_COLUMN|"
        r"DUPLICATED_VALUE|M_BIGGER|CONFLICTING|NAME_BECOMES|IDENT_|MISSING_KEY|NO_SUCH_INDEX|SIZE_OVERFLOW|PATH_LENGTH|COL_COUNT|AMBIGUOUS|"
        r"TRUNCATE_ILLEGAL|CANT_UPDATE_TABLE_IN|FOREIGN_DUP|DUP_ENTRY_AUTO|MULTI_UPDATE"
    ),
    "accounts, passwords, plugins and grants are changed by no statement of ours": (
        r"PASSWORD_|.*GRANT|PLUGIN_|.*PLUGIN|CANNOT_USER|NOT_VALID_PASS|SET_PASSWORD"
    ),
    "statements that we do not use: LOAD DATA, CHECK, EXPLAIN, HANDLER, debugging, fixed-size rows, help tables": (
        r"TEXTFILE|FILE_EXISTS|BLOBS_AND|LOAD_|CHECK_|UNKNOWN_EXPLAIN|DEBUG_|CORRUPT_HELP|FPARSER|VARIABLE_IS_NOT|RESERVED_SYNTAX|MIXING|"
        r"LOCAL_VAR|GLOBAL_VAR|SET_CONSTANTS|CANT_USE_OPTION|ERROR_WHEN_EXEC|FORBID_SCHEMA|AES_|ONLY_INTEGERS|IO_ERR|TEMP_TABLE_PREV|"
        r"STOP_|CHANGE_|FULLTEXT|INVALID_GROUP|REMOVED_SPACES|OLD_TEMPORALS|AUTO_INCREMENT_CONF|ERROR_IN|ILLEGAL_REF|.*PERFSCHEMA|MALFORMED_GTID"
    ),
    "notes, names and parts of other messages: no error by themselves": (
        r"ERROR_FIRST|NO$|YES$|READY$|SHUTDOWN_COMPLETE|.*_INFO|WARN_|.*WARNING|AUTO_CONVERT|SELECT_REDUCED|CUT_VALUE|STARTUP|USERNAME|HOSTNAME|"
        r"DATABASE_NAME|TABLE_NAME|TEMPORARY_NAME|RENAMED_NAME|SUBPARTITION_NAME|MESSAGE_AND|UPDATE_LOG|BAD_FT|KEY_PART"
    ),
    "parts of the client library that mysqlclient does not use: pipes, shared memory, prepared statements, an embedded server": (
        r"NAMEDPIPE|SHARED_MEMORY|EMBEDDED|PROBE_|NO_PREPARE|PARAMS_NOT|NO_PARAMETERS|INVALID_(PARAMETER|BUFFER)|UNSUPPORTED_PARAM|FETCH_|"
        r"NO_DATA|NO_STMT|NO_RESULT|STMT_CLOSED|NEW_STMT|LOCALHOST_CONN|TCP_CONN|WRONG_HOST_INFO|WRONG_LICENSE|NULL_POINTER|ALREADY_CONN|"
        r"DUPLICATE_CONNECTION|INSECURE_API"
    ),
}
LAST_LOOKED_AT = {ER: 1886, CR: 2063}  # the reasons above hold for codes up to these; any later one is to be placed
MARKERS = {"ERROR_LAST", "MAX_ERROR"}  # the ends of the lists


def list_mysql_codes() -> dict[int, str]:
    return {code: name for module in (ER, CR) for name, code in vars(module).items() if isinstance(code, int) and name not in MARKERS}


def has_reason(code: int, name: str) -> bool:
    last = LAST_LOOKED_AT[CR if 2000 <= code < 3000 else ER]
    return code <= last and any(re.match(f"(?:{names})", name) for names in CANNOT_COME.values())


def test_every_code_of_mysqlclient_has_a_row_or_a_reason() -> None:
    assert not {code: name for code, name in list_mysql_codes().items() if code not in MYSQL and not has_reason(code, name)}
    assert not has_reason(1974, "SP_OF_A_NEWER_DRIVER")


def test_codes_of_newer_servers_have_rows() -> None:
    """The driver's list ends at 1886: what MySQL 8 and MariaDB have added at connect or in a run."""
    newer = {1927, 1932, 1969, 3024, 3032, 3058, 3098, 3100, 3101, 3105, 3118, 3159, 3168, 3169, 3170}
    newer |= {3572, 3750, 3819, 3854, 3950, 3955, 3988, 4031, 4151}
    assert newer <= MYSQL.keys()


# --- PostgreSQL ---
CLASSES_THAT_CANNOT_COME = {
    "02": "no data: embedded SQL",
    "03": "a statement that is not complete: embedded SQL",
    "09": "triggered actions: SQL procedures",
    "0B": "transaction initiation: not raised by the server",
    "0F": "locators: not raised by the server",
    "0L": "grantors: only GRANT raises it, which is caught where a reader is granted",
    "0Z": "diagnostics: PL/pgSQL",
    "10": "XQuery",
    "20": "CASE of PL/pgSQL",
    "21": "a subquery with more than one row: none of ours may have one",
    "24": "cursor state: no cursor of ours is positioned",
    "27": "triggered data change: a trigger of somebody's; the class has no other code",
    "2D": "transaction termination inside a procedure",
    "2F": "SQL routines",
    "38": "external routines",
    "39": "external routines",
    "3B": "savepoints, which Django names itself",
    "HV": "foreign tables: the warehouse has none",
}
# All codes of these say the same to whoever has to act.
WHOLE_CLASSES = {"08", "0A", "0P", "22", "23", "26", "2B", "34", "3D", "3F", "40", "44", "54", "58", "72", "F0", "P0"}
# In these each code was looked at: the ones without a row of their own get their class's. Another one is to be placed.
LOOKED_AT = {
    "25": "000 001 002 003 004 005 006 007 008 P01 P02 P03 P04",
    "28": "000 P01",
    "42": "000 501 601 602 611 622 701 702 703 704 710 712 723 725 803 804 809 830 846 883 8C9 939 P01 P02 P03 P04 P05 P06 P07 P08 P09 "
    "P10 P11 P12 P13 P14 P15 P16 P17 P18 P19 P20 P21 P22",
    "53": "000 100 200 300 400",
    "55": "000 006 P02 P03 P04",
    "57": "000 014 P01 P02 P03 P04 P05",
    "XX": "000 001 002",
}


def list_sqlstates() -> set[str]:
    classes = (each for each in vars(postgres).values() if isinstance(each, type) and issubclass(each, psycopg.Error))
    return {each.sqlstate for each in classes if each.sqlstate}


def test_every_sqlstate_of_psycopg_has_a_row_or_a_reason() -> None:
    looked_at = {prefix + rest for prefix, codes in LOOKED_AT.items() for rest in codes.split()}
    unplaced = {
        state
        for state in list_sqlstates()
        if state not in POSTGRES and state not in looked_at and state[:2] not in WHOLE_CLASSES and state[:2] not in CLASSES_THAT_CANNOT_COME
    }
    assert not unplaced
    assert POSTGRES.keys() >= WHOLE_CLASSES | LOOKED_AT.keys() and not POSTGRES.keys() & CLASSES_THAT_CANNOT_COME.keys()


# --- SQLite ---
SQLITE_STATES = {"SQLITE_OK", "SQLITE_ROW", "SQLITE_DONE", "SQLITE_NOTICE", "SQLITE_WARNING", "SQLITE_DENY", "SQLITE_IGNORE"}
NO_CODES = re.compile(
    r"SQLITE_(LIMIT|DBCONFIG|CREATE|DROP|ALTER|ANALYZE|ATTACH|DETACH|DELETE|INSERT|UPDATE|SELECT|READ$|PRAGMA|REINDEX|TRANSACTION|"
    r"SAVEPOINT|FUNCTION|RECURSIVE|AUTH_USER|OK_|NOTICE_|WARNING_)"
)


def test_every_code_of_sqlite_has_a_row() -> None:
    names = [name for name in dir(sqlite3) if name.startswith("SQLITE_") and not NO_CODES.match(name) and name not in SQLITE_STATES]
    assert len(names) > 80
    assert not [name for name in names if name not in SQLITE and primary_name(name) not in SQLITE]


# --- The rows ---


def list_rows() -> list[Diagnosis]:
    tables = (MYSQL, MYSQL_CONNECTING, POSTGRES, POSTGRES_CONNECTING, SQLITE, driver_errors.SQLITE_ERROR, driver_errors.REACHED)
    missing = [each for found in driver_errors.MISSING.values() for each in found]
    return [*missing, *(row for table in tables for row in table.values())]  # type: ignore[attr-defined]


def test_every_row_has_a_message_with_a_next_step() -> None:
    for kind, code in set(list_rows()):
        text = MESSAGES[code]
        assert text.startswith("{place}") and text.count("{place}") == 1, code
        first, _, step = text.partition(". ")
        assert first and re.match(
            r"(Run|Start|Correct|Create|Raise|Free|Grant|Allow|Unlock|Set|Add|Ask|Check|Name|Read|Repair|Restore|Give|Make|Compare)\b", step
        ), code
        if kind.transient:  # what passes by itself is run again; what a limit ended is run again once the limit is raised
            assert "un it again" in text or code == "database.no_memory", code


def test_migrate_all_is_advised_only_where_a_migration_is_pending() -> None:
    for code, text in MESSAGES.items():
        if "migrate_all" in text:
            assert code in ("database.missing_table", "database.missing_own_column"), code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1045, errors.AccessDenied),
        (1226, errors.Transient),
        (1820, errors.AccessDenied),
        (1862, errors.AccessDenied),
        (3118, errors.AccessDenied),
        (2059, errors.AccessDenied),
        (2061, errors.AccessDenied),
        (1290, errors.ReadOnly),
        (1836, errors.ReadOnly),
        (3159, errors.Misconfigured),
        (4031, errors.SessionLimit),
        (1158, errors.ConnectionLost),
        (1114, errors.NoSpace),
        (3032, errors.Transient),
    ],
)
def test_mysql_codes_in_any_language(code: int, kind: type[errors.EtlError]) -> None:
    assert find_diagnosis(MySQLdb.OperationalError(code, "Щось не так"))[0] is kind


def test_sqlstates_in_any_language() -> None:
    expected = {"25P03": errors.SessionLimit, "57P05": errors.SessionLimit, "53300": errors.Transient, "28000": errors.AccessDenied}
    expected |= {"XX002": errors.Terminal, "53100": errors.NoSpace, "57P03": errors.ConnectionLost, "25006": errors.ReadOnly}
    assert {state: find_state(state, POSTGRES)[0] for state in expected} == expected
    assert find_state("ZZ000", POSTGRES) == OTHER
