"""What every code of the drivers means: whose fault it is, whether a retry may help, and the message with the next step.

One row per code, looked up by number or SQLSTATE alone: the words of a server come in the language of its `lc_messages`.
tests/test_driver_errors.py holds that every code of both drivers that can come has a row.
"""

from psycopg import pq

from techmarket import errors
from techmarket.errors import EtlError

Diagnosis = tuple[type[EtlError], str]  # the error, and the code of its message

# --- What more than one row says ---
OPTION: Diagnosis = (errors.Misconfigured, "database.bad_option")
TLS: Diagnosis = (errors.Misconfigured, "database.no_encryption")
UNREACHABLE: Diagnosis = (errors.Unreachable, "database.unreachable")
UNKNOWN_HOST: Diagnosis = (errors.Unreachable, "database.unknown_host")
NO_SESSION: Diagnosis = (errors.Unreachable, "database.no_session")
ANSWERS_AGAIN: Diagnosis = (errors.ConnectionLost, "database.answers_again")
NO_CONNECTION: Diagnosis = (errors.Transient, "database.no_free_connection")
USER_LIMIT: Diagnosis = (errors.Transient, "database.user_limit")
LOST: Diagnosis = (errors.ConnectionLost, "database.connection_lost")
RESTARTING: Diagnosis = (errors.ConnectionLost, "database.restarting")
CANCELLED: Diagnosis = (errors.Transient, "database.statement_cancelled")
TRANSIENT: Diagnosis = (errors.Transient, "database.transient")
NO_MEMORY: Diagnosis = (errors.Transient, "database.no_memory")
BAD_PASSWORD: Diagnosis = (errors.AccessDenied, "database.bad_password")
PASSWORD_OR_PLAIN: Diagnosis = (errors.AccessDenied, "database.bad_password_or_plain")
NO_PASSWORD: Diagnosis = (errors.AccessDenied, "database.no_password")
LOCKED_ACCOUNT: Diagnosis = (errors.AccessDenied, "database.account_locked")
EXPIRED: Diagnosis = (errors.AccessDenied, "database.password_expired")
LOGIN_METHOD: Diagnosis = (errors.AccessDenied, "database.login_method")
NO_DATABASE: Diagnosis = (errors.Misconfigured, "database.missing")
DENIED: Diagnosis = (errors.AccessDenied, "database.denied")
READ_ONLY: Diagnosis = (errors.ReadOnly, "database.read_only_server")
MISSING_SCHEMA: Diagnosis = (errors.Misconfigured, "database.missing_schema")
# Who can restore what is missing depends on whose database it is: MISSING below.
MISSING_TABLE: Diagnosis = (errors.NotMigrated, "database.missing_table")
MISSING_COLUMN: Diagnosis = (errors.SchemaDrift, "database.missing_column")
BAD_VIEW: Diagnosis = (errors.SchemaDrift, "database.bad_view")
STATEMENT_TIMEOUT: Diagnosis = (errors.SessionLimit, "database.statement_timeout")
STATEMENT_LIMIT: Diagnosis = (errors.SessionLimit, "database.statement_limit")
SERVER_LIMIT: Diagnosis = (errors.Misconfigured, "database.server_limit")
UNSUPPORTED: Diagnosis = (errors.Misconfigured, "database.unsupported")
POOLER: Diagnosis = (errors.Misconfigured, "database.pooler")
FULL: Diagnosis = (errors.NoSpace, "database.full")
DISK_ERROR: Diagnosis = (errors.Terminal, "database.storage_error")
DAMAGED: Diagnosis = (errors.Terminal, "database.damaged")
INTERNAL: Diagnosis = (errors.Terminal, "database.internal")
BAD_VALUE: Diagnosis = (errors.BadData, "database.bad_value")
TOO_OLD: Diagnosis = (errors.Misconfigured, "database.too_old")
OTHER: Diagnosis = (errors.Terminal, "database.other")


# What is missing: where a migration creates it, in a source, and in a database of ours whose migrations are all applied.
MISSING: dict[Diagnosis, tuple[Diagnosis, Diagnosis, Diagnosis]] = {
    MISSING_TABLE: (
        MISSING_TABLE,
        (errors.SchemaDrift, "database.missing_source_table"),
        (errors.Incomplete, "database.lost_table"),
    ),
    MISSING_COLUMN: (
        (errors.NotMigrated, "database.missing_own_column"),
        MISSING_COLUMN,
        (errors.Incomplete, "database.lost_column"),
    ),
}


# Of PostgreSQL: it was not to wait for a lock, or has waited long enough; a right is missing; other objects hang on this one.
LOCK_NOT_AVAILABLE, NOT_PERMITTED, DEPENDED_ON = "55P03", "42501", "2BP01"


def rows(diagnosis: Diagnosis, *codes: int) -> dict[int, Diagnosis]:
    return dict.fromkeys(codes, diagnosis)


# --- MySQL and MariaDB: 1000 to 1999 and 3000 on are the server's, 2000 to 2999 the client library's ---
MYSQL: dict[int, Diagnosis] = (
    {
        1044: (errors.AccessDenied, "database.not_granted"),
        1045: BAD_PASSWORD,
        1049: NO_DATABASE,
        1129: (errors.AccessDenied, "database.host_blocked"),
        1130: (errors.AccessDenied, "database.host_refused"),
        1142: (errors.AccessDenied, "database.table_denied"),
        1143: (errors.AccessDenied, "database.column_denied"),
        1146: MISSING_TABLE,
        1054: MISSING_COLUMN,
        1205: (errors.LockTimeout, "database.lock_timeout"),
        1213: (errors.Transient, "database.deadlock"),
        1412: (errors.Transient, "database.table_changed"),
        1698: (errors.AccessDenied, "database.user_refused"),
        2005: UNKNOWN_HOST,
        3168: RESTARTING,
        3032: (errors.Transient, "database.offline"),
        3879: (errors.AccessDenied, "database.not_granted"),
        6126: (errors.AccessDenied, "database.user_refused"),
        6127: (errors.AccessDenied, "database.user_refused"),
        6400: (errors.Transient, "database.offline"),
        3159: (errors.Misconfigured, "database.encryption_wanted"),
        4031: (errors.SessionLimit, "database.idle_too_long"),
    }
    # 2002 and 2003: by socket and by TCP; 2001 and 2004: no socket could be made here.
    | rows(UNREACHABLE, 2001, 2002, 2003, 2004)
    # Another protocol than MySQL's, a proxy without a server behind it, a handshake that broke.
    | rows(NO_SESSION, 1042, 1043, 2007, 2012, 2047)
    | rows(NO_CONNECTION, 1040, 1135)
    | rows(USER_LIMIT, 1203, 1226)
    | rows(TLS, 2026, 2064)
    # 3118, 3955: MySQL; 4151: MariaDB.
    | rows(LOCKED_ACCOUNT, 3118, 3955, 4151)
    | rows(EXPIRED, 1820, 1862)
    # An authentication plugin that one side lacks, or that wants what the other does not give.
    | rows(LOGIN_METHOD, 1251, 1275, 1524, 2049, 2059, 2061)
    | rows(LOGIN_METHOD, 3640, 4055, 4058)
    | rows(OPTION, 2019, 2063)
    # 1152 to 1161, 1184, 1835: the server's view of a broken connection. 1053, 1927, 3169: it was killed, or the server stops.
    | rows(LOST, 1053, 1080, 1081, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1835, 1927, 3169)
    | rows(LOST, 1258, 1259, 2006, 2013, 2027, 2048, 2055)
    | rows(CANCELLED, 1317, 1028)
    # MariaDB's max_statement_time, MySQL's max_execution_time.
    | rows(STATEMENT_TIMEOUT, 1969, 3024)
    # 3572: NOWAIT; 3058: a user lock's deadlock; 1615: the statement must be prepared again; 2014: a session that an interrupt left.
    | rows(TRANSIENT, 1015, 1020, 1027, 1180, 1181, 1192, 1223, 1402, 1613, 1614, 1615, 1637, 1689, 2014, 3058, 3101, 3572)
    | rows(TRANSIENT, 3132, 3133, 3177, 3781, 3782, 3796, 3797, 3798, 3799, 4094)
    | rows(NO_MEMORY, 1037, 1038, 1041, 1257, 2008, 3170, 3950)
    | rows(NO_MEMORY, 3015, 3044, 3171, 3186, 3985)
    | rows(DENIED, 1095, 1131, 1132, 1211, 1227, 1370, 1410, 1419, 1873)
    | rows(DENIED, 3164, 3530, 3552, 3553, 3554, 3555, 3556, 3557, 3566, 3620, 3630, 6038, 6444)
    # 1290 names the option, super_read_only among them. 1792, 1207: the transaction; 1836: a replica; 1874, 1881: InnoDB; 1036: a table.
    | rows(READ_ONLY, 1036, 1207, 1290, 1792, 1836, 1874, 1881)
    | rows(READ_ONLY, 3989, 4156)
    | rows(BAD_VIEW, 1122, 1123, 1126, 1127, 1356, 1427, 1449)
    | rows(MISSING_TABLE, 1051, 1109)
    | rows(SERVER_LIMIT, 1104, 1116, 1117, 1119, 1153, 1162, 1197, 1206, 1301, 1436, 1461, 1705, 1713, 1799, 2020)
    | rows(SERVER_LIMIT, 3231, 6110, 6411)
    # A server too old or too new, an SQL mode, or another product that speaks the protocol.
    | rows(UNSUPPORTED, 1047, 1055, 1064, 1112, 1115, 1128, 1148, 1149, 1193, 1230, 1231, 1232, 1233, 1235, 1238, 1253)
    | rows(UNSUPPORTED, 1273, 1286, 1289, 1295, 1298, 1305, 1568, 1582, 1583, 1621, 1649, 1726, 1800, 1801, 2054)
    | rows(UNSUPPORTED, 3087, 3088, 3103, 3110, 3130, 3161, 3167, 3658, 3899)
    # 1004, 1026, 1878: MySQL names a full disk by the text of errno 28 alone; the step is the same.
    | rows(FULL, 1021, 1026, 1114, 1530, 1878)
    | rows(FULL, 3675)
    | rows(DISK_ERROR, 1004, 1005, 1006, 1010, 1012, 1013, 1016, 1017, 1018, 1024, 1025, 1030, 1376, 1696, 1810, 1811)
    | rows(DISK_ERROR, 3680)
    | rows(DAMAGED, 1032, 1033, 1034, 1035, 1194, 1195, 1455, 1459, 1558, 1602, 1606, 1682, 1707, 1712, 1728)
    | rows(DAMAGED, 1805, 1808, 1812, 1814, 1817, 1877, 1932)
    | rows(DAMAGED, 3009, 3629, 3679)
    | rows(INTERNAL, 1105, 1296, 1297, 1429, 1430, 1431, 1432, 1433, 1467, 1815, 2000)
    | rows(INTERNAL, 3185, 3202, 3501, 3506, 3507, 3508, 3509, 3783)
    # Values that do not fit, in the source's rows or its expressions.
    | rows(BAD_VALUE, 1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1441, 1525, 1690, 2032, 3854, 3988)
    | rows(BAD_VALUE, 3987, 3995)
    # A comparison of two collations: a view or a generated column of the source has it, no statement of ours.
    | rows(BAD_VIEW, 1267, 1270, 1271)
    # Rows, keys and names that exist already or are still referred to, when somebody else writes to the shop that is generated or migrated.
    | rows(OTHER, 1007, 1008, 1022, 1031, 1048, 1050, 1060, 1061, 1062, 1072, 1091, 1094, 1099, 1100, 1118, 1169, 1215, 1216, 1217)
    | rows(
        OTHER,
        1364,
        1451,
        1452,
        1526,
        1557,
        1586,
        1644,
        1748,
        1761,
        1762,
        1813,
        1819,
        1823,
        1824,
        1826,
        1845,
        1846,
        3105,
        3503,
        3750,
        3819,
        4025,
    )
    # What a trigger, a view, safe updates or an account's name forbids: `generate_data`, a migration or a trial restore met it.
    | rows(OTHER, 1093, 1175, 1179, 1288, 1348, 1396, 1442, 1471, 1710, 1711, 3098, 3100)
    # A statement that no server takes is a mistake of ours; what it reports is all that helps.
    | rows(
        OTHER,
        1046,
        1052,
        1056,
        1058,
        1065,
        1066,
        1096,
        1110,
        1136,
        1137,
        1140,
        1210,
        1221,
        1222,
        1241,
        1242,
        1248,
        1390,
        1463,
        1111,
        1138,
        1139,
        1176,
        1247,
        1250,
    )
)
# While connecting, the same code means something else: nothing was lost. An option of the address is never refused by the server: those
# that it might refuse are refused at the start, so what it does not take is a setting that a run needs.
MYSQL_CONNECTING: dict[int, Diagnosis] = (
    rows(UNREACHABLE, 2006, 2013, 2055)
    | rows(NO_SESSION, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1835, 2014, 2027, 2048)
    | rows(RESTARTING, 1053)
    | rows(UNSUPPORTED, 3922, 3923)
)

# --- PostgreSQL: a SQLSTATE, or its class where all codes of the class say the same ---
POSTGRES: dict[str, Diagnosis] = {
    "08": LOST,
    "0A": UNSUPPORTED,  # not supported
    "0P": DENIED,  # SET ROLE to a role that is not there
    "22": BAD_VALUE,
    "22021": BAD_VALUE,  # a byte that is no character of the encoding
    "22P05": (errors.Misconfigured, "database.unencodable"),
    "23": OTHER,  # constraints: another program writes there
    "25": OTHER,
    "25006": (errors.ReadOnly, "database.read_only"),
    "25P03": (errors.SessionLimit, "database.idle_in_transaction"),
    "25P04": (errors.SessionLimit, "database.transaction_timeout"),
    "26": POOLER,  # the prepared statement is in another session
    "28": (errors.AccessDenied, "database.login_refused"),
    "28P01": BAD_PASSWORD,
    "2B": OTHER,  # objects depend on it
    "34": POOLER,  # the cursor is in another session
    "3D": NO_DATABASE,
    "3F": MISSING_SCHEMA,
    "40": TRANSIENT,
    "42": OTHER,
    "42501": DENIED,
    "42601": UNSUPPORTED,
    "42703": MISSING_COLUMN,
    "42704": UNSUPPORTED,
    "42883": UNSUPPORTED,
    "42P01": MISSING_TABLE,
    "42P05": POOLER,  # the prepared statement is already in this session
    "44": OTHER,
    "53": SERVER_LIMIT,
    "53100": FULL,
    "53200": NO_MEMORY,
    "53300": NO_CONNECTION,
    "54": SERVER_LIMIT,
    "55": OTHER,
    "55006": (errors.LockTimeout, "database.in_use"),
    "55P02": UNSUPPORTED,
    LOCK_NOT_AVAILABLE: (errors.LockTimeout, "database.warehouse_locked"),
    "57": RESTARTING,
    "57014": CANCELLED,
    "57P01": (errors.ConnectionLost, "database.session_ended"),
    "57P04": NO_DATABASE,
    "57P05": (errors.SessionLimit, "database.idle_session"),
    "58": DISK_ERROR,
    "72": TRANSIENT,
    "F0": DISK_ERROR,
    "TM001": (errors.AccessDenied, "database.no_superusers"),  # ours: techmarket/roles.py
    "P0": OTHER,  # raised by a trigger or a function of somebody's
    "XX": INTERNAL,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
}
POSTGRES_CONNECTING: dict[str, Diagnosis] = {
    "08": NO_SESSION,
    "0A": NO_SESSION,
    "22": UNSUPPORTED,
    "42501": (errors.AccessDenied, "database.connect_denied"),
    "55000": (errors.Misconfigured, "database.closed"),
    "57P01": RESTARTING,
}
# How far a login came that ended without a SQLSTATE. Not even begun: libpq refuses an option, or there is no such socket.
REACHED: dict[int, Diagnosis] = {
    pq.ConnStatus.BAD: OPTION,
    pq.ConnStatus.STARTED: UNREACHABLE,
    pq.ConnStatus.OK: ANSWERS_AGAIN,
}

# --- SQLite: by the extended code's name, else by the name of its primary code ---
SQLITE: dict[str, Diagnosis] = {
    "SQLITE_CANTOPEN": (errors.Unreachable, "database.file_unwritable"),
    "SQLITE_PERM": (errors.Unreachable, "database.file_unwritable"),
    "SQLITE_AUTH": (errors.Unreachable, "database.file_unwritable"),
    "SQLITE_NOTADB": (errors.Unreachable, "database.file_foreign"),
    "SQLITE_CORRUPT": (errors.Unreachable, "database.file_damaged"),
    "SQLITE_FORMAT": (errors.Unreachable, "database.file_damaged"),
    "SQLITE_READONLY": (errors.ReadOnly, "database.file_read_only"),
    "SQLITE_READONLY_DBMOVED": TRANSIENT,
    "SQLITE_BUSY": (errors.LockTimeout, "database.file_locked"),
    "SQLITE_LOCKED": (errors.LockTimeout, "database.file_locked"),
    "SQLITE_PROTOCOL": (errors.LockTimeout, "database.file_locked"),
    "SQLITE_IOERR": (errors.Terminal, "database.disk_error"),
    "SQLITE_NOLFS": (errors.Terminal, "database.disk_error"),
    "SQLITE_IOERR_NOMEM": NO_MEMORY,
    "SQLITE_NOMEM": NO_MEMORY,
    "SQLITE_FULL": (errors.NoSpace, "database.disk_full"),
    "SQLITE_INTERRUPT": CANCELLED,
    "SQLITE_ABORT": TRANSIENT,
    "SQLITE_SCHEMA": (errors.Transient, "database.table_changed"),
    "SQLITE_INTERNAL": INTERNAL,
    "SQLITE_TOOBIG": BAD_VALUE,
    "SQLITE_MISMATCH": BAD_VALUE,
    "SQLITE_CONSTRAINT": OTHER,
    "SQLITE_ERROR": OTHER,
    "SQLITE_MISUSE": OTHER,
    "SQLITE_RANGE": OTHER,
    "SQLITE_NOTFOUND": OTHER,
    "SQLITE_EMPTY": OTHER,
}
# SQLite has one code for these and every other mistake in a statement; its words are the same in every language.
SQLITE_ERROR: dict[str, Diagnosis] = {"no such table": MISSING_TABLE, "no such column": MISSING_COLUMN}


def state_of(error: Exception) -> str:
    """Return the SQLSTATE that PostgreSQL gave for an error of Django's; empty where there is none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def is_locked(error: Exception) -> bool:
    """Return True if PostgreSQL did not get the lock that a statement needs."""
    return state_of(error) == LOCK_NOT_AVAILABLE
