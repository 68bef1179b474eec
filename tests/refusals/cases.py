"""The table: bad inputs and environments, as people really have them, and how each is refused."""

import gzip
import sqlite3
from contextlib import closing
from collections.abc import Callable
from pathlib import Path

from tests.refusals.case import FOLDER, SECRET, Case, command, database, line, page, program, setting, shell, value_file

Damage = Callable[[Path], None]
GOOD_KEY = f"{SECRET}-k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
PRODUCTION = {"DEBUG": "false", "SECRET_KEY": GOOD_KEY, "ALLOWED_HOSTS": "etl.example.com"}
PG, MY, REDIS = f"postgres://dwh:{SECRET}@", f"mysql://orders:{SECRET}@", f"redis://:{SECRET}@"

# --- Variables of the environment: every program refuses them when it starts ---
SETTINGS = (
    setting("a flag in another language", "DEBUG: 'так' is neither true nor false", DEBUG="так"),
    setting("an empty flag", "DEBUG: '' is neither true nor false", DEBUG=""),
    setting("a flag with quotes, as docker --env-file keeps them", "DEBUG: '\"False\"' is neither", DEBUG='"False"'),
    setting("a flag that is a number", "SECURE_SSL_REDIRECT: '2' is neither", SECURE_SSL_REDIRECT="2"),
    setting("a flag with a comment after it", "BEHIND_TLS_PROXY: 'true # nginx' is neither", BEHIND_TLS_PROXY="true # nginx"),
    setting("a number as a word", "ETL_BATCH_ORDERS: 'many' is not a whole number from 1 to 1000000", ETL_BATCH_ORDERS="many"),
    setting("a number with a unit", "SOURCE_READ_TIMEOUT: '2m' is not a whole number", SOURCE_READ_TIMEOUT="2m"),
    setting("a number with a thousands separator", "ETL_BATCH_ORDERS: '20,000' is not", ETL_BATCH_ORDERS="20,000"),
    setting("a number with an underscore", "ETL_SWEEP_SECONDS: '1_0' is not", ETL_SWEEP_SECONDS="1_0"),
    setting("a number with an exponent", "ETL_KEEP_DETAILS_DAYS: '1e3' is not", ETL_KEEP_DETAILS_DAYS="1e3"),
    setting("a fraction", "ETL_MAX_REJECTED_PERCENT: '2.5' is not a whole number from 0 to 100", ETL_MAX_REJECTED_PERCENT="2.5"),
    setting("a percentage with its sign", "ETL_MAX_DELETED_PERCENT: '5%' is not", ETL_MAX_DELETED_PERCENT="5%"),
    setting("a negative number", "ETL_OVERLAP_MINUTES: '-10' is not a whole number from 0", ETL_OVERLAP_MINUTES="-10"),
    setting("zero processes", "ETL_PROCESSES: '0' is not a whole number from 1 to 64", ETL_PROCESSES="0"),
    setting("a number of other digits", "WORKER_CONCURRENCY: '２' is not", WORKER_CONCURRENCY="２"),
    setting("a hexadecimal number", "ETL_ATTEMPTS: '0x3' is not", ETL_ATTEMPTS="0x3"),
    setting("a number above the limit", "ETL_MAX_MONTH_PERCENT: '101' is not a whole number from 0 to 100", ETL_MAX_MONTH_PERCENT="101"),
    setting("an endless number", "BACKUP_KEEP: '9999", BACKUP_KEEP="9" * 5_000),
    setting("an empty number", "ETL_RETRY_SECONDS: '' is not", ETL_RETRY_SECONDS=""),
    setting("a boolean for a number", "ETL_SCHEDULED_RETRY_SECONDS: 'none' is not", ETL_SCHEDULED_RETRY_SECONDS="none"),
    setting("a time for a number", "ETL_KEEP_BATCHES_DAYS: '7 days' is not", ETL_KEEP_BATCHES_DAYS="7 days"),
    setting("two numbers", "ETL_REAP_SECONDS: '15,30' is not", ETL_REAP_SECONDS="15,30"),
    setting("a heartbeat longer than the loss", "ETL_LOST_AFTER_SECONDS: less than two heartbeats", ETL_HEARTBEAT_SECONDS="20"),
    setting("a loss before two heartbeats", "ETL_LOST_AFTER_SECONDS: less than two heartbeats", ETL_LOST_AFTER_SECONDS="9"),
    setting("no time limit", "ETL_INCREMENTAL_LIMIT_SECONDS: '0' is not", ETL_INCREMENTAL_LIMIT_SECONDS="0"),
    setting("a limit longer than the redelivery", "CELERY_VISIBILITY_TIMEOUT: less than twice", CELERY_VISIBILITY_TIMEOUT="3600"),
    setting("a limit that outgrew the redelivery", "CELERY_VISIBILITY_TIMEOUT: less than twice", ETL_FULL_LIMIT_SECONDS="20000", CELERY_VISIBILITY_TIMEOUT="30000"),
    setting("a time zone as an offset", "SHOP_TIME_ZONE: 'UTC+2' is not a time zone", SHOP_TIME_ZONE="UTC+2"),
    setting("a time zone as an abbreviation", "SHOP_TIME_ZONE: 'EEST' is not a time zone", SHOP_TIME_ZONE="EEST"),
    setting("a time zone with a space", "SHOP_TIME_ZONE: 'Europe/ Kyiv' is not", SHOP_TIME_ZONE="Europe/ Kyiv"),
    setting("a time zone that is a path", "SHOP_TIME_ZONE: '../../etc/passwd' is not", SHOP_TIME_ZONE="../../etc/passwd"),
    setting("a time zone that is a continent", "SHOP_TIME_ZONE: 'Europe' is not", SHOP_TIME_ZONE="Europe"),
    setting("an empty time zone", "SHOP_TIME_ZONE: '' is not", SHOP_TIME_ZONE=""),
    setting("a log format that is none", "LOG_FORMAT: 'text' is not one of console, json", LOG_FORMAT="text"),
    setting("a log format in capitals", "LOG_FORMAT: 'JSON' is not one of", LOG_FORMAT="JSON"),
    setting("a relative folder", "VAR_DIR: 'var' is not an absolute path", VAR_DIR="var"),
    setting("a folder below the home's sign", "VAR_DIR: '~/var' is not an absolute path", VAR_DIR="~/var"),
    setting("a folder with a variable in it", "VAR_DIR: '$HOME/var' is not an absolute path", VAR_DIR="$HOME/var"),
    setting("an empty folder", "VAR_DIR: ", VAR_DIR=""),
    setting("a folder below a file", "VAR_DIR: cannot write there (Not a directory)", VAR_DIR="/dev/null/var", DWH_URL=""),
    setting("a folder that cannot be made", "VAR_DIR: cannot write there", VAR_DIR="/proc/var", DWH_URL=""),
    setting("a relative folder of static files", "STATIC_ROOT: 'static' is not an absolute path", STATIC_ROOT="static"),
    setting("a relative folder of backups", "BACKUP_DIR: './backups' is not an absolute path", BACKUP_DIR="./backups"),
    setting("a folder of backups by URL", "BACKUP_DIR: 's3://bucket/backups' is not an absolute path", BACKUP_DIR="s3://bucket/backups"),
    setting("an origin without a scheme", "CSRF_TRUSTED_ORIGINS: 'etl.example.com' is not https:// and a host", CSRF_TRUSTED_ORIGINS="etl.example.com"),
    setting("an origin with a slash at the end", "CSRF_TRUSTED_ORIGINS: 'https://etl.example.com/' is not", CSRF_TRUSTED_ORIGINS="https://etl.example.com/"),
    setting("origins separated by spaces", "CSRF_TRUSTED_ORIGINS: ", CSRF_TRUSTED_ORIGINS="https://a.example https://b.example"),
    setting("an origin that is a star", "CSRF_TRUSTED_ORIGINS: '*' is not", CSRF_TRUSTED_ORIGINS="*"),
    setting("hosts as a list of Python", "ALLOWED_HOSTS: ", ALLOWED_HOSTS="['etl.example.com']"),
    setting("a host with its scheme", "ALLOWED_HOSTS: ", ALLOWED_HOSTS="https://etl.example.com"),
    setting("a host with its port", "ALLOWED_HOSTS: ", ALLOWED_HOSTS="etl.example.com:8000"),
    setting("hosts separated by spaces", "ALLOWED_HOSTS: ", ALLOWED_HOSTS="a.example b.example"),
    setting("production without a key", "SECRET_KEY: a secret of 50 characters or more is needed", **PRODUCTION | {"SECRET_KEY": ""}),
    setting("production with a short key", "SECRET_KEY: with DEBUG=false", **PRODUCTION | {"SECRET_KEY": f"{SECRET}-short"}),
    setting("production with the development key", "SECRET_KEY: with DEBUG=false", **PRODUCTION | {"SECRET_KEY": f"django-insecure-{GOOD_KEY}"}),
    setting("production with a key of one letter", "SECRET_KEY: with DEBUG=false", **PRODUCTION | {"SECRET_KEY": "x" * 60}),
    setting("production without hosts", "ALLOWED_HOSTS: with DEBUG=false it must name the hosts", **PRODUCTION | {"ALLOWED_HOSTS": ""}),
    setting("production for every host", "ALLOWED_HOSTS: with DEBUG=false", **PRODUCTION | {"ALLOWED_HOSTS": "*"}),
    setting("production with a public password", "DWH_URL: with DEBUG=false the development password is refused", **PRODUCTION, DWH_URL="postgres://dwh:dwh_pass@127.0.0.1/dwh"),
    setting("production with a source's public password", "AUTH_DB_URL: with DEBUG=false", **PRODUCTION, AUTH_DB_URL="mysql://etl_reader:etl_pass@127.0.0.1/auth"),
    setting("production with Redis's public password", "CELERY_BROKER_URL: with DEBUG=false", **PRODUCTION, CELERY_BROKER_URL="redis://:redis_pass@127.0.0.1:6379/0"),
    setting("production with Metabase's public password", "METABASE_PASS: with DEBUG=false", **PRODUCTION, METABASE_PASS="metabase_pass1"),
    setting("production with the reader's public password", "DWH_BI_URL: with DEBUG=false", **PRODUCTION, DWH_BI_URL="postgres://bi_reader:bi_pass@dwh/dwh"),
    setting("production with the development token", "METRICS_TOKEN: ", **PRODUCTION, METRICS_TOKEN="development-only-token"),
    setting("production with a short token", "METRICS_TOKEN: ", **PRODUCTION, METRICS_TOKEN=SECRET),
    setting("a notice to a word", "NOTIFY_URL: the address is not https:// and a host", NOTIFY_URL=SECRET),
    setting("a notice by another protocol", "NOTIFY_URL: the address is not", NOTIFY_URL=f"slack://{SECRET}"),
    setting("a notice with a space in its address", "NOTIFY_URL: the address is not", NOTIFY_URL=f"https://chat.example.com/{SECRET} x"),
    setting("a notice to a port that is none", "NOTIFY_URL: ", NOTIFY_URL=f"https://chat.example.com:x/{SECRET}"),
    setting("Metabase without a scheme", "METABASE_URL: the address is not", METABASE_URL="metabase:3000"),
    setting("Metabase with a password in its address", "METABASE_URL: the address holds a user; those are METABASE_USER and METABASE_PASS", METABASE_URL=f"http://admin:{SECRET}@metabase:3000"),
    setting("Metabase at a port that is none", "METABASE_URL: ", METABASE_URL="http://metabase:99999"),
    setting("Metabase without an address", "METABASE_URL: ", METABASE_URL=""),
    setting("a secret instead of a folder", "VAR_DIR: ", VAR_DIR=f"postgres://u:{SECRET}@h/d"),
    setting("an address instead of a flag", "DEBUG: ", DEBUG=f"postgres://u:{SECRET}@h/d"),
    setting("an address instead of a number", "WORKER_CONCURRENCY: ", WORKER_CONCURRENCY=f"redis://:{SECRET}@h/0"),
    setting("an origin with a password", "CSRF_TRUSTED_ORIGINS: ", CSRF_TRUSTED_ORIGINS=f"https://u:{SECRET}@h/"),
    setting("web processes as a word", "WEB_CONCURRENCY: 'two' is not a whole number from 1 to 256", WEB_CONCURRENCY="two"),
    setting("no web process", "WEB_CONCURRENCY: '0' is not", WEB_CONCURRENCY="0"),
    setting("a key that is not UTF-8", "SECRET_KEY: the value is not UTF-8", SECRET_KEY="\udcff"),
    setting("both a value and its file", "SECRET_KEY: both SECRET_KEY and SECRET_KEY_FILE are set", SECRET_KEY_FILE="/run/secrets/key"),
    setting("a settings file that is not there", "ENV_FILE: cannot read /nowhere/env: No such file", ENV_FILE="/nowhere/env"),
    setting("a settings file that is a folder", "ENV_FILE: cannot read /: Is a directory", ENV_FILE="/"),
    setting("a settings file without an end", "ENV_FILE: cannot read /dev/zero: it has more than 65536 bytes", ENV_FILE="/dev/zero"),
    setting("an empty name of the settings file", "ENV_FILE: ", ENV_FILE=""),
    setting("the settings of another project", "DJANGO_SETTINGS_MODULE: there is no module 'shop.settings' here", DJANGO_SETTINGS_MODULE="shop.settings"),
)

# --- Addresses of databases and of the broker ---
ADDRESSES = (
    setting("the other engine", "DWH_URL: the address must begin with postgres:// or sqlite:///", DWH_URL=f"{MY}127.0.0.1/dwh"),
    setting("a source on the warehouse's engine", "ORDERS_DB_URL: the address must begin with mysql://", ORDERS_DB_URL=f"{PG}127.0.0.1/orders"),
    setting("an engine that is not served", "DWH_URL: the address must begin with", DWH_URL=f"oracle://dwh:{SECRET}@127.0.0.1/dwh"),
    setting("a driver of SQLAlchemy", "DWH_URL: the address must begin with", DWH_URL=f"postgresql+psycopg://dwh:{SECRET}@127.0.0.1/dwh"),
    setting("an address of JDBC", "ORDERS_DB_URL: the address must begin with", ORDERS_DB_URL=f"jdbc:mysql://127.0.0.1/orders?password={SECRET}"),
    setting("a DSN of libpq", "DWH_URL: the address must begin with", DWH_URL=f"host=127.0.0.1 dbname=dwh password={SECRET}"),
    setting("an address without a scheme", "DWH_URL: the address must begin with", DWH_URL=f"dwh:{SECRET}@127.0.0.1/dwh"),
    setting("a password alone", "CONTROL_DB_URL: the address must begin with", CONTROL_DB_URL=SECRET),
    setting("an address in quotes", "DWH_URL: the address must begin with", DWH_URL=f'"{PG}127.0.0.1/dwh"'),
    setting("one slash after the scheme", "DWH_URL: ", DWH_URL=f"postgres:/dwh:{SECRET}@127.0.0.1/dwh"),
    setting("no name of a database", "DWH_URL: the address names no host or no database", DWH_URL=f"{PG}127.0.0.1"),
    setting("a slash instead of a name", "ORDERS_DB_URL: the address names no host or no database", ORDERS_DB_URL=f"{MY}127.0.0.1/"),
    setting("no host", "DWH_URL: the address names no host or no database", DWH_URL=f"{PG}/dwh"),
    setting("a port that is a word", "DWH_URL: the port is not a number from 1 to 65535", DWH_URL=f"{PG}127.0.0.1:abc/dwh"),
    setting("a port above 65535", "DWH_URL: the port is not a number", DWH_URL=f"{PG}127.0.0.1:65536/dwh"),
    setting("port zero", "DWH_URL: the port is not a number from 1 to 65535", DWH_URL=f"{PG}127.0.0.1:0/dwh"),
    setting("a port of other digits", "DWH_URL: the port is not a number", DWH_URL=f"{PG}127.0.0.1:５４３２/dwh"),
    setting("a slash in the password", "DWH_URL: the password is not percent-encoded, or the database's name has", DWH_URL=f"postgres://dwh:1/{SECRET}@127.0.0.1/dwh"),
    setting("a number sign in the password", "DWH_URL: the p", DWH_URL=f"postgres://dwh:#{SECRET}@127.0.0.1/dwh"),
    setting("a question mark in the password", "DWH_URL: ", DWH_URL=f"postgres://dwh:x?{SECRET}@127.0.0.1/dwh"),
    setting("a bracket in the password", "DWH_URL: ", DWH_URL=f"postgres://dwh:[{SECRET}@127.0.0.1/dwh"),
    setting("a percent sign in the password", "DWH_URL: the user, the password or the name has a % that is not percent-encoded", DWH_URL=f"postgres://dwh:100%-{SECRET}@127.0.0.1/dwh"),
    setting("a password encoded as cp1251", "DWH_URL: the user, the password or the name is not UTF-8", DWH_URL=f"postgres://dwh:%CF%E0{SECRET}@127.0.0.1/dwh"),
    setting("a NUL byte in the password", "DWH_URL: the user, the password or the name has a control character", DWH_URL=f"postgres://dwh:%00{SECRET}@127.0.0.1/dwh"),
    setting("two databases in one address", "DWH_URL: ", DWH_URL=f"{PG}127.0.0.1/dwh/other"),
    setting("two hosts in one address", "DWH_URL: ", DWH_URL=f"{PG}a.example:5432,b.example:5432/dwh"),
    setting("two aliases on one database", "PAYMENTS_DB_URL: the same database as ORDERS_DB_URL", ORDERS_DB_URL=f"{MY}localhost/shop", PAYMENTS_DB_URL=f"{MY}127.0.0.1:3306/shop"),
    setting("the ledger in the warehouse", "DWH_URL: the same database as CONTROL_DB_URL", CONTROL_DB_URL=f"{PG}h/dwh", DWH_URL=f"{PG}h:5432/dwh"),
    setting("the ledger and the warehouse in one file", "DWH_URL: the same database as CONTROL_DB_URL", CONTROL_DB_URL="sqlite:////data/a", DWH_URL="sqlite:////data/../data/a"),
    setting("an option that changes the charset", "ORDERS_DB_URL: the option charset is refused: it is set by TechMarket", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?charset=latin1"),
    setting("an option with statements", "ORDERS_DB_URL: the option init_command is refused", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?init_command=SET+sql_mode=''"),
    setting("an option that reads files", "ORDERS_DB_URL: the option local_infile is refused", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?local_infile=1"),
    setting("an option that names a file of options", "ORDERS_DB_URL: the option read_default_file is refused", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?read_default_file=/etc/my.cnf"),
    setting("options of PostgreSQL's session", "DWH_URL: the option options is refused: it is set by TechMarket", DWH_URL=f"{PG}127.0.0.1/dwh?options=-csearch_path=x"),
    setting("an option of Django", "DWH_URL: the option conn_max_age is refused: use ", DWH_URL=f"{PG}127.0.0.1/dwh?conn_max_age=60"),
    setting("a service of libpq", "DWH_URL: the option service is refused", DWH_URL=f"{PG}127.0.0.1/dwh?service=dwh"),
    setting("a password as an option", "DWH_URL: the option password is refused", DWH_URL=f"postgres://dwh@127.0.0.1/dwh?password={SECRET}"),
    setting("an option of MySQL for PostgreSQL", "DWH_URL: the option read_timeout is refused", DWH_URL=f"{PG}127.0.0.1/dwh?read_timeout=5"),
    setting("an option of a server for a file", "DWH_URL: the path or an option is wrong: the option mode is refused", DWH_URL="sqlite:////data/dwh?mode=ro"),
    setting("an option twice", "DWH_URL: the option connect_timeout is given twice", DWH_URL=f"{PG}127.0.0.1/dwh?connect_timeout=1&connect_timeout=2"),
    setting("an option without a value", "DWH_URL: the option connect_timeout has no value", DWH_URL=f"{PG}127.0.0.1/dwh?connect_timeout"),
    setting("an option with a unit", "DWH_URL: the option connect_timeout is not a whole number from 1 to 600", DWH_URL=f"{PG}127.0.0.1/dwh?connect_timeout=5s"),
    setting("an option out of range", "ORDERS_DB_URL: the option read_timeout is not a whole number", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?read_timeout=99999"),
    setting("an option of a wrong kind", "DWH_URL: the option target_session_attrs is not one of any, read-write, primary", DWH_URL=f"{PG}127.0.0.1/dwh?target_session_attrs=standby"),
    setting("a name of 64 letters", "DWH_URL: the option application_name is not of 1 to 63", DWH_URL=f"{PG}127.0.0.1/dwh?application_name={'x' * 64}"),
    setting("a semicolon between options", "DWH_URL: ", DWH_URL=f"{PG}127.0.0.1/dwh?connect_timeout=5;keepalives=1"),
    setting("an & at the end", "DWH_URL: after the ? is something that is no option", DWH_URL=f"{PG}127.0.0.1/dwh?connect_timeout=5&"),
    setting("TLS that is half asked for", "DWH_URL: ", DWH_URL=f"{PG}127.0.0.1/dwh?sslmode=maybe"),
    setting("TLS as Python's dictionary", "ORDERS_DB_URL: ", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?ssl={{'ca':'/x'}}"),
    setting("TLS with a CA that is not there", "DWH_URL: ", DWH_URL=f"{PG}127.0.0.1/dwh?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"),
    setting("TLS with a certificate and no key", "DWH_URL: ", DWH_URL=f"{PG}127.0.0.1/dwh?sslmode=require&sslcert=/etc/hostname"),
    setting("a socket as a host", "DWH_URL: a socket is given by ?socket= alone", DWH_URL=f"postgres://dwh:{SECRET}@%2Frun%2Fpostgresql/dwh"),
    setting("a socket and a host", "ORDERS_DB_URL: a socket is given by ?socket= alone", ORDERS_DB_URL=f"{MY}127.0.0.1/orders?socket=/run/mysqld/mysqld.sock"),
    setting("a relative socket", "ORDERS_DB_URL: the option socket is not an absolute path", ORDERS_DB_URL=f"mysql://orders:{SECRET}@/orders?socket=mysqld.sock"),
    setting("a socket by the driver's name", "ORDERS_DB_URL: the option unix_socket is refused: write ?socket=", ORDERS_DB_URL=f"mysql://orders:{SECRET}@/orders?unix_socket=/run/x.sock"),
    setting("a file with two slashes", "DWH_URL: the address of a SQLite file has three slashes", DWH_URL="sqlite://dwh.sqlite3"),
    setting("a relative file", "DWH_URL: the path of a SQLite file is not absolute", DWH_URL="sqlite:///dwh.sqlite3"),
    setting("a database in memory", "DWH_URL: ", DWH_URL="sqlite://:memory:"),
    setting("a file with a number sign", "DWH_URL: a # in a path is written as %23", DWH_URL="sqlite:////data/a#b"),
    setting("a file with a percent sign", "DWH_URL: the path or an option is wrong: has a %", DWH_URL="sqlite:////data/100%/dwh"),
    setting("Metabase's warehouse by a socket", "DWH_BI_URL: Metabase cannot connect by a socket", DWH_BI_URL=f"postgres://bi:{SECRET}@/dwh?socket=/run/postgresql"),
    setting("a broker of another kind", "CELERY_BROKER_URL: the address is not redis://:password@host:port/number", CELERY_BROKER_URL=f"amqp://guest:{SECRET}@127.0.0.1//"),
    setting("a broker without a host", "CELERY_BROKER_URL: the address is not redis://", CELERY_BROKER_URL="redis://"),
    setting("a broker at a port that is none", "CELERY_BROKER_URL: the address is not redis://", CELERY_BROKER_URL=f"{REDIS}127.0.0.1:x/0"),
    setting("a broker's database that is a word", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"{REDIS}127.0.0.1:6379/zero"),
    setting("a broker's option that is none", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"{REDIS}127.0.0.1:6379/0?foo=1"),
    setting("a broker's TLS without rediss", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"{REDIS}127.0.0.1:6379/0?ssl_cert_reqs=required"),
    setting("a broker's certificates asked for in vain", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"rediss://:{SECRET}@127.0.0.1:6379/0?ssl_cert_reqs=sometimes"),
    setting("several brokers", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"{REDIS}a:6379/0;{REDIS}b:6379/0"),
    setting("a broker without an address", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=""),
    setting("a broker with a # in its password", "CELERY_BROKER_URL: ", CELERY_BROKER_URL=f"redis://:a#{SECRET}@127.0.0.1:6379/0"),
)

# --- The settings file ---
FILES = (
    line("saved by Notepad as UTF-8 with BOM", b"\xef\xbb\xbfDEBUG=False\n", "it is UTF-8 with a byte order mark"),
    line("saved by Notepad as Unicode", "DEBUG=False\n".encode("utf-16"), "it is UTF-16"),
    line("UTF-16 without a mark", "DEBUG=False\n".encode("utf-16-le"), "it has a NUL byte, as UTF-16 does"),
    line("saved as cp1251", "A=1\n# пароль\n".encode("cp1251"), "line 2 is not UTF-8"),
    line("spaces beside the =", f"A=1\nSECRET_KEY = {SECRET}\n", "line 2 has a space beside the = after SECRET_KEY"),
    line("a space after the =", f"METABASE_PASS= {SECRET}\n", "line 1 has a space beside the = after METABASE_PASS"),
    line("an indented line", f"  DEBUG={SECRET}\n", "line 1 begins with a space"),
    line("no = at all", f"A=1\n{SECRET}\n", "line 2 is not NAME=value"),
    line("YAML", f"METABASE_PASS: {SECRET}\n", "line 1 is not NAME=value"),
    line("a command of Windows", f"set METABASE_PASS={SECRET}\n", "line 1 is not NAME=value"),
    line("a name that begins with a digit", f"1ST_KEY={SECRET}\n", "line 1 is not NAME=value"),
    line("a name with a dash", f"SECRET-KEY={SECRET}\n", "line 1 is not NAME=value"),
    line("a heading of an ini file", f"[techmarket]\nDEBUG={SECRET}\n", "line 1 is not NAME=value"),
    line("JSON", f'{{"METABASE_PASS": "{SECRET}"}}\n', "line 1 is not NAME=value"),
    line("a quote without its end", f"METABASE_PASS='{SECRET}\n", "line 1 has no ' at the end of the value of METABASE_PASS"),
    line("a value over several lines", f'METABASE_PASS="{SECRET}\nmore"\n', 'line 1 has no " at the end'),
    line("text after the quotes", f"METABASE_PASS='{SECRET}' # Olena's\n", "line 1 has no ' at the end"),
    line("typographic quotes", f"METABASE_PASS=“{SECRET}”\n", "line 1 has another quotation mark than"),
    line("a comment after the value", f"METABASE_PASS={SECRET} # Olena's\n", "line 1 has a # after a space in the value of METABASE_PASS"),
    line("a control character", f"METABASE_PASS={SECRET}\x07\n", "line 1 has a control character in the value of METABASE_PASS"),
    line("a NUL byte", f"METABASE_PASS={SECRET}\0\n", "it has a NUL byte"),
    line("line ends of an old Mac", f"DEBUG=False\rMETABASE_PASS={SECRET}\r", "line 1 has a control character in the value of DEBUG"),
    line("a name twice", f"METABASE_PASS={SECRET}\nDEBUG=False\nMETABASE_PASS={SECRET}\n", "line 3 METABASE_PASS is set twice, here and in line 1"),
    line("a misspelled name", f"CONTOL_DB_URL={SECRET}\n", "there is no setting CONTOL_DB_URL, and CONTROL_DB_URL is much like it"),
    line("letters that changed places", f"DWH_ULR={SECRET}\n", "there is no setting DWH_ULR, and DWH_URL is"),
    line("a name in small letters", "debug=False\n", "there is no setting debug, and DEBUG is"),
    line("a misspelled name of a file", f"SECRETKEY_FILE=/run/{SECRET}\n", "there is no setting SECRETKEY_FILE, and SECRET_KEY_FILE is"),
    line("more than 64 KB", "# " + "x" * 70_000, "it has more than 65536 bytes"),
    line("a bad value", "A=1\nETL_BATCH_ORDERS=many\n", "ETL_BATCH_ORDERS: 'many' is not a whole number"),
)

# --- Files of one value, as secrets are mounted ---
VALUE_FILES = (
    value_file("not there", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file: No such file", SECRET_KEY_FILE="/nowhere/key"),
    value_file("a folder", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file: Is a directory", SECRET_KEY_FILE=FOLDER),
    value_file("the secret itself instead of its file", "METABASE_PASS", b"", "METABASE_PASS_FILE: cannot read that file", METABASE_PASS_FILE=f"{SECRET}-1"),
    value_file("no name", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file", SECRET_KEY_FILE=""),
    value_file("a name with a NUL byte's spelling", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file", SECRET_KEY_FILE="/nowhere/\udcff"),
    value_file("a name of 5000 letters", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file: File name too long", SECRET_KEY_FILE="/" + "x" * 5_000),
    value_file("without an end", "SECRET_KEY", b"", "SECRET_KEY_FILE: cannot read that file: it has more than 65536 bytes", SECRET_KEY_FILE="/dev/zero"),
    value_file("empty", "SECRET_KEY", b"", "SECRET_KEY_FILE: that file is empty"),
    value_file("only white space", "SECRET_KEY", b" \n\n", "SECRET_KEY_FILE: that file is empty"),
    value_file("two lines", "METABASE_PASS", f"{SECRET}\nolder-{SECRET}\n".encode(), "METABASE_PASS_FILE: that file has several lines"),
    value_file("with BOM", "METABASE_PASS", b"\xef\xbb\xbf" + SECRET.encode(), "METABASE_PASS_FILE: cannot read that file: it is UTF-8 with a byte order mark"),
    value_file("UTF-16", "METABASE_PASS", SECRET.encode("utf-16"), "METABASE_PASS_FILE: cannot read that file: it is UTF-16"),
    value_file("cp1251", "METABASE_PASS", f"Пароль{SECRET}".encode("cp1251"), "METABASE_PASS_FILE: cannot read that file: line 1 is not UTF-8"),
    value_file("binary", "METABASE_PASS", b"\x80\x00\xff" + SECRET.encode(), "METABASE_PASS_FILE: cannot read that file: it has a NUL byte"),
    value_file("a bad address", "DWH_URL", f"oracle://dwh:{SECRET}@h/dwh".encode(), "DWH_URL: the address must begin with"),
    value_file("a whole line of .env", "DWH_URL", f"DWH_URL={PG}h/dwh".encode(), "DWH_URL: the address must begin with"),
    value_file("a number as a word", "BACKUP_KEEP", b"many", "BACKUP_KEEP: 'many' is not a whole number"),
)


# --- Commands, in a loaded shop: refused before anything is written ---
BIG = "9" * 30
COMMANDS = (
    command("a command that is none", "run-etl", 2, "Unknown command: 'run-etl'"),
    command("a mistyped command", "run_elt", 2, "Unknown command: 'run_elt'. Did you mean run_etl?"),
    command("an empty command", ("",), 2, "Unknown command: ''"),
    command("a command that is not UTF-8", ("run\udcff",), 2, "An argument is not UTF-8"),
    command("an unknown option", "run_etl --force", 2, "unrecognized arguments: --force. See"),
    command("an abbreviated option", "run_etl --dry", 2, "unrecognized arguments: --dry. See"),
    command("an option with a typographic dash", "run_etl —full", 2, "unrecognized arguments: —full"),
    command("a word instead of an option", "run_etl full", 2, "unrecognized arguments: full"),
    command("an option without its value", "run_etl --days", 2, "argument --days: expected one argument"),
    command("an unknown mode", "run_etl --mode both", 2, "invalid choice: 'both' (choose from"),
    command("a mode in capitals", "run_etl --mode FULL", 2, "invalid choice: 'FULL'"),
    command("verbosity 4", "run_etl -v 4", 2, "argument -v/--verbosity: invalid choice: 4"),
    command("verbosity as a word", "kpis -v loud", 2, "argument -v/--verbosity: invalid int value: 'loud'"),
    command("a full run of a window", "run_etl --mode full --days 7", 2, "only with an incremental run"),
    command("zero days", "run_etl --days 0", 2, "'0' is not a whole number from 1 to 3650"),
    command("negative days", "run_etl --days -1", 2, "is not a whole number from 1 to 3650"),
    command("days with an exponent", "run_etl --days 1e3", 2, "'1e3' is not a whole number"),
    command("days of other digits", "run_etl --days ٣", 2, "'٣' is not a whole number"),
    command("days with a unit", "run_etl --days 7d", 2, "'7d' is not a whole number"),
    command("days that are many", f"run_etl --days {BIG}", 2, "is not a whole number from 1 to 3650"),
    command("empty days", "run_etl --days=", 2, "'' is not a whole number"),
    command("a day that is not", "run_etl --start-date 2026-02-30 --end-date 2026-03-01", 2, "There is no day 2026-02-30"),
    command("the 29th of February of a common year", "run_etl --start-date 2023-02-29 --end-date 2023-03-01", 2, "no day 2023-02-29"),
    command("month 99", "run_etl --start-date 2024-01-01 --end-date 9999-99-99", 2, "no day 9999-99-99"),
    command("the year 0", "run_etl --start-date 0000-01-01 --end-date 2024-01-01", 2, "no day 0000-01-01"),
    command("an American date", "run_etl --start-date 01/02/2024 --end-date 2024-12-31", 2, "'01/02/2024' is not a day. Write it as 2024-01-31"),
    command("a Ukrainian date", "run_etl --start-date 31.01.2024 --end-date 2024-12-31", 2, "'31.01.2024' is not a day"),
    command("an instant instead of a day", "run_etl --start-date 2024-01-01T00:00 --end-date 2024-12-31", 2, "is not a day"),
    command("a day by a word", "run_etl --start-date yesterday --end-date 2024-12-31", 2, "'yesterday' is not a day"),
    command("a day with an escape sequence", ("run_etl", "--start-date", "2024-\x1b[31m01-01", "--end-date", "2024-12-31"), 2, "is not a day"),
    command("a day with a newline", ("run_etl", "--start-date", "2024-01-01\n", "--end-date", "2024-12-31"), 2, "is not a day"),
    command("an end before the start", "run_etl --start-date 2024-02-01 --end-date 2024-01-31", 2, "before the start"),
    command("a start without an end", "run_etl --start-date 2024-02-01", 2, "both a start and an end date"),
    command("a day in the future", "run_etl --start-date 2024-01-01 --end-date 9999-12-31", 2, "in the future"),
    command("a day before any order", "run_etl --start-date 0001-01-01 --end-date 2024-01-01", 2, "no orders before 2015-01-01"),
    command("two windows", "run_etl --start-date 2024-01-01 --end-date 2024-01-02 --days 7", 2, "not both"),
    command("run 0", "run_etl --resume 0", 2, "'0' is not a whole number from 1 to"),
    command("run -1", "run_etl --resume -1", 2, "a whole number from 1 to"),
    command("a run by a word", "run_etl --resume last", 2, "'last' is not a whole number"),
    command("a run larger than a number of a database", f"run_etl --resume {BIG}", 2, "is not a whole number from 1 to 9223372036854775807"),
    command("a run that is not there", "run_etl --resume 999", 2, "999"),
    command("a run that has succeeded", "run_etl --resume 1", 3, "Run 1 has succeeded already; there is nothing to resume"),
    command("a run and a mode", "run_etl --resume 1 --mode full", 2, "--resume repeats the run's own options"),
    command("acceptance without a run", "run_etl --accept late", 2, "--accept"),
    command("acceptance of a run that nothing stopped", "run_etl --resume 1 --accept late", 3, "Run 1 has succeeded already"),
    command("acceptance without a reason", ("run_etl", "--resume", "1", "--accept", ""), 2, "accept"),
    command("rereading without a full run", "run_etl --reread", 2, "Only a full run rereads everything"),
    command("a run to cancel that is not there", "run_etl --cancel 999", 2, "There is no active run 999"),
    command("a run to cancel that has ended", "run_etl --cancel 1", 2, "There is no active run 1"),
    command("a reason for nothing", "run_etl --reason late", 2, "--reason only with --cancel"),
    command("a reason of 256 letters", f"run_etl --cancel 1 --reason {'x' * 256}", 2, "at most 255 characters"),
    command("a reason that is not UTF-8", ("run_etl", "--cancel", "1", "--reason", "\udcd0"), 2, "An argument is not UTF-8: '\\udcd0'. Set the terminal to UTF-8"),
    command("a dry run in the background without waiting", "run_etl --dry-run --cancel 1", 2, "Combine --cancel only with --reason"),
    command("an unknown state of rejects", "rejects --state closed", 2, "invalid choice: 'closed'"),
    command("an unknown rule", "rejects --rule nonsense", 2, "invalid choice: 'nonsense'"),
    command("an unknown table", "rejects --table nonsense", 2, "argument --table: invalid choice: 'nonsense' (choose from"),
    command("a table that is not UTF-8", ("rejects", "--table", "\udcff"), 2, "An argument is not UTF-8"),
    command("acceptance of rejects without a reason", "rejects --accept 1", 2, "Give --accept together with --reason"),
    command("a reason without rejects", "rejects --reason late", 2, "Give --accept together with --reason"),
    command("a reason of white space", ("rejects", "--accept", "1", "--reason", "  "), 2, "Give --accept together with --reason"),
    command("a reject that is not there", "rejects --accept 999999 --reason late", 2, "There is no open reject 999999"),
    command("reject 0", "rejects --accept 0 --reason late", 2, "'0' is not a whole number"),
    command("two formats at once", "rejects --json --csv -", 2, "not allowed with argument"),
    command("CSV into a folder", f"rejects --csv {FOLDER}", 2, "cannot be written: Is a directory"),
    command("CSV below a folder that is not there", "rejects --csv /nowhere/rejects.csv", 2, "/nowhere/rejects.csv cannot be written: No such file"),
    command("CSV with no name", ("rejects", "--csv", ""), 2, "--csv"),
    command("a schedule that is not there", "schedules --pause nightly", 2, "nightly"),
    command("a schedule without a name", ("schedules", "--pause", ""), 2, "schedule"),
    command("a schedule that is not UTF-8", ("schedules", "--resume", "\udcff"), 2, "An argument is not UTF-8"),
    command("a missed run that is not there", "schedules --run-now 999", 2, "There is no missed run 999"),
    command("a missed run by a word", "schedules --skip all", 2, "'all' is not a whole number"),
    command("two decisions at once", "schedules --skip 1 --run-now 1", 2, "not allowed with argument"),
    command("a comparison of a day that is not", "reconcile --start-date 2026-02-30 --end-date 2026-03-01", 2, "There is no day 2026-02-30"),
    command("a comparison of the future", "reconcile --start-date 2024-01-01 --end-date 9999-12-31", 2, "in the future"),
    command("a comparison of no days", "reconcile --days 0", 2, "'0' is not a whole number"),
    command("a report of a run and a period", "report --run 1 --from 2024-01-01", 2, "Give either a run (--run) or a period"),
    command("a report without a beginning", "report --to 2024-01-01", 2, "--to needs --from"),
    command("a report that ends before it begins", "report --from 2024-02-01 --to 2024-01-01", 2, "before the start"),
    command("a report of a run that is not there", f"report --run 999 --out {FOLDER}/r.html", 2, "999"),
    command("a report of a day that is not", "report --from 2026-02-30", 2, "There is no day 2026-02-30"),
    command("a report of the future", f"report --from 2999-01-01 --out {FOLDER}/r.html", 2, "in the future"),
    command("a report of the year 10000", "report --from 10000-01-01", 2, "is not a day"),
    command("a report into a folder", f"report --run 1 --out {FOLDER}", 1, "cannot be written: Is a directory"),
    command("a report below a file", "report --run 1 --out /dev/null/r.html", 1, "/dev/null/r.html cannot be written: Not a directory"),
    command("a report with a name that is too long", f"report --run 1 --out /tmp/{'x' * 300}.html", 1, "cannot be written: File name too long"),
    command("a report in another language", "report --run 1 --language de", 2, "invalid choice: 'de'"),
    command("a PDF by a browser that is not there", f"report --run 1 --pdf --out {FOLDER}/r.pdf", 4, "CHROMIUM", CHROMIUM="/nowhere/chromium"),
    command("a PDF by a program that is no browser", f"report --run 1 --pdf --out {FOLDER}/r.pdf", 1, "/bin/false wrote no PDF: no error output. Set CHROMIUM", CHROMIUM="/bin/false"),
    command("a region that is not there", "kpis --region XX", 2, "There is no region 'XX'. Choose one of"),
    command("a region in small letters", "kpis --region kv", 2, "There is no region 'kv'. Choose one of"),
    command("an empty region", ("kpis", "--region", ""), 2, "There is no region ''"),
    command("a region that is not UTF-8", ("kpis", "--region", "\udcff"), 2, "An argument is not UTF-8"),
    command("a region with a NUL byte's neighbour", ("kpis", "--region", "K\x01V"), 2, "There is no region"),
    command("a shop of no orders", "generate_data --orders 0", 2, "'0' is not a whole number from 1 to 20000000"),
    command("a shop larger than a disk", "generate_data --orders 99999999999", 2, "is not a whole number from 1 to 20000000"),
    command("a negative seed", "generate_data --seed -1", 2, "is not a whole number"),
    command("changes and a new shop", "generate_data --changes 5 --replace", 2, "Give only one of --changes, --faults"),
    command("changes and faults", "generate_data --changes 5 --faults", 2, "Give only one of"),
    command("a shop that has rows", "generate_data", 1, "The shop already has rows. Run it with --replace"),
    command("a wait without an end", "wait --seconds 99999", 2, "is not a whole number from 0 to 3600"),
    command("a wait for a word", "migrate_all --wait forever", 2, "'forever' is not a whole number"),
    command("an argument for what takes none", "ping orders_db", 2, "unrecognized arguments: orders_db"),
    command("an argument of version", "version --short", 2, "unrecognized arguments: --short"),
    command("a format of export_schema", "export_schema --format yaml", 2, "unrecognized arguments: --format yaml"),
    command("a backup that is not there", "restore 2026-01-31T02-00-00", 2, "No backup '2026-01-31T02-00-00' in"),
    command("a backup without a name", "restore", 2, "the following arguments are required: NAME"),
    command("a backup with an empty name", ("restore", ""), 2, "No backup '' in"),
    command("a backup outside the folder", "restore ../../etc", 2, "No backup"),
    command("a folder that is no backup", "restore /etc", 1, "manifest"),
    command("a database that is none", "restore x --only shop", 2, "invalid choice: 'shop' (choose from"),
    command("no backups to keep", "backup --keep 0", 2, "'0' is not a whole number from 1 to 10000"),
    command("a backup and a verification with a number to keep", "backup --verify x --keep 3", 2, "--keep applies to a new backup"),
    command("a backup into a file", "backup --to /dev/null", 4, "/dev/null"),
    command("a backup below a file", "backup --to /dev/null/backups", 4, "/dev/null/backups"),
    command("Metabase without an administrator", "seed_metabase --wait 0", 4, "METABASE_USER is not set", METABASE_USER=""),
    command("Metabase without a warehouse", "seed_metabase --wait 0", 4, "DWH_BI_URL is not set", DWH_BI_URL=""),
    command("Metabase that does not answer", "seed_metabase --wait 0", 4, "127.0.0.1:9", METABASE_URL="http://127.0.0.1:9"),
    command("Metabase in another language", "seed_metabase --language ru", 2, "invalid choice: 'ru'"),
    command("an administrator without a name", "createsuperuser --noinput", 1, "You must use --username with --noinput"),
    command("an administrator who exists", "createsuperuser --noinput --username admin --email a@example.com", 1, "That username is already taken", DJANGO_SUPERUSER_PASSWORD=f"{SECRET}-2"),
    command("an administrator whose password is nobody's", "changepassword nobody", 1, "user 'nobody' does not exist"),
    command("an app that is none", "migrate nonsense", 1, "No installed app with label 'nonsense'"),
    command("a database of Django that is none", "migrate --database nowhere", 2, "argument --database: invalid choice: 'nowhere'"),
    command("a migration that is none", "migrate orchestration 9999", 1, "Cannot find a migration matching '9999'"),
    command("an app without models", "makemigrations nonsense --check", 2, "nonsense"),
    command("static files nowhere", "findstatic", 2, "Enter at least one staticfile. See `manage.py findstatic --help`"),
    command("data from a file that is not there", "loaddata nowhere.json", 1, "No fixture named 'nowhere' found"),
    command("SQL in the shell of a database that is none", "dbshell --database nowhere", 2, "nowhere"),
)

# --- Databases that are not what they should be: each row has a copy of the shop ---


def sql(file: str, *statements: str) -> Damage:
    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / f"{file}.sqlite3")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return damage


def write(file: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return damage


def cut(file: str, length: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / f"{file}.sqlite3"
        path.write_bytes(path.read_bytes()[:length])

    return damage


def spoil(file: str) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / f"{file}.sqlite3"
        content = path.read_bytes()
        path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))

    return damage


def remove(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / f"{file}.sqlite3").unlink()

    return damage


def make_folder(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / f"{file}.sqlite3").unlink()
        (folder / f"{file}.sqlite3").mkdir()

    return damage


CLOSED = "127.0.0.1:1"
DATABASES = (
    database("a source that does not answer", "run_etl", 4, "orders_db (127.0.0.1:1) does not answer. Start it, or correct ORDERS_DB_URL", ORDERS_DB_URL=f"{MY}{CLOSED}/orders"),
    database("a warehouse that does not answer", "run_etl", 4, "dwh (127.0.0.1:1) does not answer. Start it, or correct DWH_URL", DWH_URL=f"{PG}{CLOSED}/dwh"),
    database("a ledger that does not answer", "run_etl", 4, "control database (127.0.0.1:1) does not answer. Start it, or correct CONTROL_DB_URL", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("a host that is unknown", "run_etl", 4, "(nohost.invalid:default port): the host's name is unknown", PAYMENTS_DB_URL=f"{MY}nohost.invalid/payments"),
    database("a warehouse's host that is unknown", "kpis", 4, "(nohost.invalid:default port): the host's name is unknown", DWH_URL=f"{PG}nohost.invalid/dwh"),
    database("a socket that is not there", "run_etl", 4, "CATALOG_DB_URL", CATALOG_DB_URL=f"mysql://u:{SECRET}@/catalog?socket=/nowhere/mysqld.sock"),
    database("a warehouse's socket that is not there", "kpis", 4, "DWH_URL", DWH_URL=f"postgres://u:{SECRET}@/dwh?socket=/nowhere"),
    database("KPIs without a warehouse", "kpis", 4, "dwh (127.0.0.1:1) does not answer", DWH_URL=f"{PG}{CLOSED}/dwh"),
    database("schedules without a ledger", "schedules", 4, "control database (127.0.0.1:1) does not answer", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("rejects without a ledger", "rejects", 4, "control database (127.0.0.1:1) does not answer", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("a report without a warehouse", "report --out FOLDER/r.html", 4, "dwh (127.0.0.1:1) does not answer", DWH_URL=f"{PG}{CLOSED}/dwh"),
    database("a comparison without a source", "reconcile", 4, "payments_db (127.0.0.1:1) does not answer", PAYMENTS_DB_URL=f"{MY}{CLOSED}/payments"),
    database("a shop made on a source that does not answer", "generate_data --replace", 4, "auth_db (127.0.0.1:1) does not answer", AUTH_DB_URL=f"{MY}{CLOSED}/auth"),
    database("a wait in vain", "wait --seconds 0", 4, "dwh (127.0.0.1:1) does not answer", DWH_URL=f"{PG}{CLOSED}/dwh"),
    database("a wait for sources in vain", "wait --sources --seconds 0", 4, "catalog_db (127.0.0.1:1) does not answer", CATALOG_DB_URL=f"{MY}{CLOSED}/catalog"),
    database("migrations of a server that does not answer", "migrate_all --wait 0", 4, "control database (127.0.0.1:1) does not answer", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("a backup of a server that does not answer", "backup", 4, "orders_db (127.0.0.1:1) does not answer", ORDERS_DB_URL=f"{MY}{CLOSED}/orders"),
    database("an administrator without a ledger", "createsuperuser --noinput --username a --email a@example.com", 4, "127.0.0.1:1", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("Django's migrate without a ledger", "migrate", 4, "127.0.0.1:1", CONTROL_DB_URL=f"{PG}{CLOSED}/control"),
    database("a source that is no database", "run_etl", 4, "/orders.sqlite3) is not an SQLite file. Correct ORDERS_DB_URL", write("orders.sqlite3", b"Not a database. " * 500)),
    database("a ledger that is no database", "run_etl", 4, "/control.sqlite3) is not an SQLite file. Correct CONTROL_DB_URL", write("control.sqlite3", b"Not a database. " * 500)),
    database("a warehouse that is a backup's gzip", "kpis", 4, "/dwh.sqlite3) is not an SQLite file", write("dwh.sqlite3", gzip.compress(b"x" * 9_000))),
    database("an empty file for a ledger", "run_etl", 4, "lacks a table: no such table: orchestration_run. Run `manage.py migrate_all`", write("control.sqlite3", b"")),
    database("an empty file for a source", "run_etl", 4, "orders_db (", write("orders.sqlite3", b"")),
    database("a folder in place of a warehouse", "run_etl", 4, "dwh.sqlite3) cannot be opened", make_folder("dwh")),
    database("a folder in place of a ledger", "schedules", 4, "control.sqlite3) cannot be opened", make_folder("control")),
    database("a folder that is not there", "run_etl", 4, "dwh (/nowhere/dwh.sqlite3) cannot be opened", DWH_URL="sqlite:////nowhere/dwh.sqlite3"),
    database("a source that was deleted", "run_etl", 4, "payments_db (", remove("payments")),
    database("a ledger that was deleted", "run_etl", 4, "lacks a table: no such table: orchestration_run. Run `manage.py migrate_all`", remove("control")),
    database("a damaged warehouse", "run_etl", 4, "is damaged", spoil("dwh")),
    database("a damaged source", "run_etl", 4, "is damaged", spoil("orders")),
    database("a damaged ledger", "schedules", 4, "is damaged", spoil("control")),
    database("a warehouse cut in half", "kpis", 4, "is damaged", cut("dwh", 40_000)),
    database("a source's table that is gone", "run_etl", 4, "user_roles. Restore it in the source database", sql("auth", "DROP TABLE user_roles")),
    database("a source's column that is gone", "run_etl", 4, "cost", sql("catalog", "ALTER TABLE products RENAME COLUMN cost TO gone")),
    database("a source's column of another type", "run_etl", 4, "order_items.quantity is text, not bigint", sql("orders", "ALTER TABLE order_items RENAME COLUMN quantity TO gone", "ALTER TABLE order_items ADD COLUMN quantity TEXT")),
    database("a warehouse's table that is gone", "run_etl", 4, "dim_region", sql("dwh", "ALTER TABLE dim_region RENAME TO gone")),
    database("a warehouse's column that is gone", "run_etl", 4, "net_amount", sql("dwh", "ALTER TABLE fact_sales RENAME COLUMN net_amount TO gone")),
    database("KPIs of a table that is gone", "kpis", 4, "fact_sales", sql("dwh", "DROP TABLE fact_sales")),
    database("KPIs of a dimension that is gone", "kpis", 4, "dwh (", sql("dwh", "DROP TABLE dim_date")),
    database("a ledger's table that is gone", "run_etl", 4, "orchestration_task", sql("control", "DROP TABLE orchestration_task")),
    database("schedules that are gone", "schedules", 4, "django_celery_beat", sql("control", "DROP TABLE django_celery_beat_periodictask")),
    database("a migration that is pending", "wait --seconds 0", 4, "migrate_all", sql("control", "DELETE FROM django_migrations WHERE app = 'orchestration' AND id = (SELECT MAX(id) FROM django_migrations WHERE app = 'orchestration')")),
    database("a warehouse's migration that is pending", "wait --seconds 0", 4, "migrate_all", sql("dwh", "DELETE FROM django_migrations WHERE app = 'dwh' AND id = (SELECT MAX(id) FROM django_migrations WHERE app = 'dwh')")),
    database("another program's table of the same name", "migrate_all", 1, "already exists; nothing was published. Correct it there", sql("dwh", "DELETE FROM django_migrations")),
    database("a mark ahead of the clock", "run_etl", 4, "ahead of the sources' clock", sql("dwh", "UPDATE etl_load SET high_water_mark = '2999-01-01 00:00:00'")),
    database("a shop without orders' numbers", "generate_data --changes 5", 1, "The shop is empty. Run `manage.py generate_data` first", sql("orders", "DELETE FROM order_items", "DELETE FROM orders"), ),
    database("a shop too small for faults", "generate_data --faults", 1, "The shop ", sql("orders", "DELETE FROM order_items WHERE order_id > 3", "DELETE FROM orders WHERE id > 3")),
    database("a source that lost most of its rows", "run_etl --mode full --quiet", 5, "Stopped before publishing", sql("orders", "DELETE FROM order_items WHERE id % 6 <> 0")),
    database("a source whose tables are emptied", "run_etl --mode full --quiet", 5, "", sql("orders", "DELETE FROM order_items", "DELETE FROM orders")),
    database("a loss in the warehouse", "reconcile --quiet", 6, "differ", sql("dwh", "DELETE FROM fact_sales WHERE order_id < 100")),
    database("a backup with a damaged manifest", "restore 2026-01-31T02-00-00", 1, "manifest", lambda folder: write_backup(folder, manifest=b"{")),
    database("a backup with a manifest of another shape", "restore 2026-01-31T02-00-00", 1, "manifest", lambda folder: write_backup(folder, manifest=b"[]")),
    database("a backup whose manifest is not UTF-8", "restore 2026-01-31T02-00-00", 1, "manifest", lambda folder: write_backup(folder, manifest=b"\xff\xfe{}")),
    database("a backup without a manifest", "restore 2026-01-31T02-00-00", 1, "manifest", lambda folder: write_backup(folder)),
)


def write_backup(folder: Path, manifest: bytes | None = None) -> None:
    backup = folder / "backups" / "2026-01-31T02-00-00"
    backup.mkdir(parents=True)
    if manifest is not None:
        (backup / "manifest.json").write_bytes(manifest)


# --- Other programs and starts ---
PROGRAMS = (
    program("a worker with a bad setting", "celery -A techmarket worker", 4, "DWH_URL: the address must begin with", DWH_URL="foo"),
    program("beat with a bad setting", "celery -A techmarket beat", 4, "DEBUG: 'maybe' is neither", DEBUG="maybe"),
    program("the image's gunicorn at a port that is none", "gunicorn --config deploy/gunicorn.conf.py --check-config techmarket.wsgi", 4, "PORT: '70000' is not", PORT="70000"),
    program("the image's web with processes as a word", "sh deploy/entrypoint.sh web", 4, "WEB_CONCURRENCY: 'two' is not a whole number from 1 to 256", WEB_CONCURRENCY="two"),
    program("the image in a role that is none", "sh deploy/entrypoint.sh wbe", 2, "entrypoint: unknown role 'wbe'; use web, worker, beat"),
    program("the image's wait with a word", "sh deploy/entrypoint.sh worker", 2, "'forever' is not a whole number", WAIT_SECONDS="forever"),
    program("a folder that is gone", 'mkdir FOLDER/gone && manage="$PWD/manage.py" && cd FOLDER/gone && rmdir FOLDER/gone && python "$manage" run_etl --days 0', 2, "'0' is not a whole number"),
    program("a terminal without Cyrillic", "python manage.py run_etl --mode повний", 2, "invalid choice", LC_ALL="C", PYTHONIOENCODING="ascii"),
    program("Cyrillic in a locale that is not UTF-8", "python manage.py run_etl --resume останній", 2, "is not a whole number", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"),
)

# --- Streams that are closed, full or no terminal ---
SHELLS = (
    shell("a closed standard output", "python manage.py kpis --region XX >&-", 2, "There is no region 'XX'"),
    shell("a version printed on a full disk", "python manage.py version >/dev/full", 1, "The output cannot be written: No space left on device"),
    shell("KPIs printed on a full disk", "python manage.py kpis >/dev/full", 1, "The output cannot be written: No space left on device"),
    shell("rejects printed on a full disk", "python manage.py rejects --json >/dev/full", 1, "The output cannot be written: No space left on device"),
    shell("rejects as CSV on a full disk", "python manage.py rejects --csv /dev/full", 2, "--csv: /dev/full cannot be written: No space left on device"),
    shell("a report on a full disk", "python manage.py report --run 1 --out /dev/full", 1, "/dev/full cannot be written: No space left on device"),
    shell("a flush without an answer", "python manage.py flush </dev/null", 1, "Nobody has answered: the standard input has ended"),
)

# --- Addresses typed by hand, forms and programs that ask the web server ---
NONE, FORBIDDEN, UNREADABLE = "There is no such page", "You may not do this", "Open the overview"
SELECT_RUNS, SELECT_REJECTS = "Select between 1 and 50 runs", "Select between 1 and 50 rejects"
CRONTAB = {"minute": "0", "hour": "2", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "Europe/Kyiv"}
USER = {"username": "olena", "password1": f"{SECRET}-one-1", "password2": f"{SECRET}-one-1", "usable_password": "true"}
START, ADD_CRONTAB, ADD_USER = (
    f"POST /admin/{page}/" for page in ("orchestration/run/start", "django_celery_beat/crontabschedule/add", "auth/user/add")
)
PAGES = (
    page("a page that is not there", "GET /admin/orchestration/runs/", 404, NONE),
    page("a file of another program", "GET /wp-login.php", 404, NONE),
    page("a settings file", "GET /.env", 404, NONE),
    page("a path out of the folder", "GET /static/../../../etc/passwd", 404, NONE),
    page("an encoded path out of the folder", "GET /static/%2e%2e/%2e%2e/etc/passwd", 404, NONE),
    page("a path that is not UTF-8", "GET /admin/%ff%fe/", 404, NONE),
    page("a path of 3000 letters", f"GET /admin/{'x' * 3000}/", 404, NONE),
    page("a run with a NUL byte", "GET /admin/orchestration/run/%00/change/", 302, "doesn’t exist. Perhaps it was deleted?"),
    page("a run that is not there", "GET /admin/orchestration/run/999999/change/", 302, "run with ID “999999” doesn’t exist"),
    page("a run by a word", "GET /admin/orchestration/run/last/change/", 302, "run with ID “last” doesn’t exist"),
    page("a run larger than a column", f"GET /admin/orchestration/run/{BIG}/change/", 302, f"run with ID “{BIG}” doesn’t exist"),
    page("the live part of no run", "GET /admin/orchestration/run/999998/now/", 302, "run with ID “999998” doesn’t exist"),
    page("the live part of a large number", f"GET /admin/orchestration/run/{BIG}1/now/", 302, f"run with ID “{BIG}1” doesn’t exist"),
    page("a preview that is not there", "GET /admin/orchestration/run/999999/preview/", 404, NONE),
    page("a preview of a run that is none", "GET /admin/orchestration/run/1/preview/", 404, NONE),
    page("a missed run that is not there", "GET /admin/orchestration/scheduledrun/999999/resolve/", 404, NONE),
    page("a missed run of a large number", f"GET /admin/orchestration/scheduledrun/{BIG}/resolve/", 404, NONE),
    page("an order by a word", "GET /admin/orders_db/order/first/change/", 302, "order with ID “first” doesn’t exist"),
    page("a user by a name", "GET /admin/auth/user/admin/change/", 302, "user with ID “admin” doesn’t exist"),
    page("a password of a user who is not there", "GET /admin/auth/user/999999/password/", 404, NONE),
    page("a row to delete of what is read only", "GET /admin/orders_db/order/1/delete/", 403, FORBIDDEN),
    page("a row to add to what is read only", "GET /admin/orders_db/order/add/", 403, FORBIDDEN),
    page("a run to add by hand", "GET /admin/orchestration/run/add/", 403, FORBIDDEN),
    page("a link to a type of content that is none", "GET /admin/r/999/1/", 404, NONE),
    page("a state that is none", "GET /admin/orchestration/run/?state__exact=done", 200, "Nothing matches these filters"),
    page("a state with a NUL byte", "GET /admin/orchestration/run/?state__exact=%00", 200, "Nothing matches these filters"),
    page("a search that is not UTF-8", "GET /admin/orders_db/customer/?q=%ff%fe", 200, "Nothing matches these filters"),
    page("a search of 2500 letters", f"GET /admin/orders_db/customer/?q={'x' * 2500}", 200, "Nothing matches these filters"),
    page("a filter by a user's password", "GET /admin/auth/user/?password__startswith=pbkdf2", 400, UNREADABLE),
    page("an export sent by a form", "POST /admin/orchestration/reject/csv/", 405, "Allow: GET", form={}),
    page("a repair by its address", "GET /admin/orchestration/dayproof/2024-01-01/repair/", 405, "Allow: POST"),
    page("a repair of a day without a comparison", "POST /admin/orchestration/dayproof/2024-01-01/repair/", 404, NONE, form={}),
    page("a run deleted by its address", "DELETE /admin/orchestration/run/1/now/", 405, "Allow: GET"),
    page("a form sent by PUT", "PUT /admin/orchestration/run/start/", 405, "Allow: GET, POST"),
    page("no runs to resume", "GET /admin/orchestration/run/resume/", 302, SELECT_RUNS),
    page("a word for a run to resume", "GET /admin/orchestration/run/resume/?run=last", 302, SELECT_RUNS),
    page("a large number for a run to cancel", f"GET /admin/orchestration/run/cancel/?run={BIG}", 302, SELECT_RUNS),
    page("a run to cancel that has ended", "POST /admin/orchestration/run/cancel/", 302, "Run 1 has already ended", form={"run": "1", "reason": "late"}),
    page("a run to resume that has succeeded", "POST /admin/orchestration/run/resume/", 302, "Run 1 has succeeded already; there is nothing to resume", form={"run": "1", "reason": "late"}),
    page("acceptance of a run that nothing stopped", "POST /admin/orchestration/run/accept/", 200, "Run 1 was not stopped by the brakes: there is nothing to accept", form={"run": "1", "reason": ""}),
    page("no rejects to accept", "POST /admin/orchestration/standingreject/accept/", 302, SELECT_REJECTS, form={}),
    page("a word for rejects to replay", "POST /admin/orchestration/standingreject/replay/", 302, SELECT_REJECTS, form={"reject": "all"}),
    page("a form without its CSRF token", START, 403, FORBIDDEN, form={"mode": "full"}, headers={"X-CSRFToken": ""}),
    page("a form with another CSRF token", START, 403, FORBIDDEN, form={"mode": "full"}, headers={"X-CSRFToken": "x" * 32}),
    page("a form from another site", START, 403, FORBIDDEN, form={"mode": "full"}, headers={"Origin": "https://evil.example"}),
    page("a start in a mode that is none", START, 200, "Select a valid choice. both is not one of", form={"mode": "both"}),
    page("a start for a day that is not", START, 200, "There is no day 2026-02-30", form={"mode": "incremental", "start_date": "2026-02-30"}),
    page("a start for a window that is turned", START, 200, "is before the start, 2024-02-01", form={"mode": "incremental", "start_date": "2024-02-01", "end_date": "2024-01-01"}),
    page("a start in the future", START, 200, "ends on 9999-12-31, in the future", form={"mode": "incremental", "start_date": "2024-01-01", "end_date": "9999-12-31"}),
    page("a start with a long reason", START, 200, "at most 255 characters", form={"mode": "incremental", "reason": "x" * 300}),
    page("a start with a NUL byte in its reason", START, 200, "Null characters are not allowed", form={"mode": "incremental", "reason": "a\0b"}),
    page("minute 99", ADD_CRONTAB, 200, "'99', not in 0-59 for Minutes", form=CRONTAB | {"minute": "99"}),
    page("a schedule in a time zone that is none", ADD_CRONTAB, 200, "Mars/Base is not one of", form=CRONTAB | {"timezone": "Mars/Base"}),
    page("a schedule on the 31st of February", ADD_CRONTAB, 200, "has no time in the coming year", form=CRONTAB | {"day_of_month": "31", "month_of_year": "2"}),
    page("a user whose passwords differ", ADD_USER, 200, "password fields didn’t match", form=USER | {"password2": f"{SECRET}-two-2"}),
    page("a user with a short password", ADD_USER, 200, "This password is too short", form=USER | {"password1": "abc", "password2": "abc"}),
    page("a user with a name that is taken", ADD_USER, 200, "A user with that username already exists", form=USER | {"username": "admin"}),
    page("a user with a NUL byte in the name", ADD_USER, 200, "Null characters are not allowed", form=USER | {"username": "a\0b"}),
    page("an old password that is wrong", "POST /admin/password_change/", 200, "Your old password was entered incorrectly", form={"old_password": f"{SECRET}-wrong", "new_password1": f"{SECRET}-new-1", "new_password2": f"{SECRET}-new-1"}),
    page("a login with a wrong password", "POST /admin/login/", 200, "Please enter the correct username and password", form={"username": "admin", "password": f"{SECRET}-wrong"}),
    page("a login without a CSRF token", "POST /admin/login/", 403, FORBIDDEN, form={"username": "admin", "password": SECRET}, anonymous=True),
    page("a page without a login", "GET /admin/orchestration/run/", 302, "Log in", anonymous=True),
    page("an export without a login", "GET /admin/orchestration/reject/csv/", 302, "Log in", anonymous=True),
    page("a cookie that is no session", "GET /admin/", 302, "Log in", anonymous=True, headers={"Cookie": "sessionid=\"';--"}),
    page("an autocompletion of what is none", "GET /admin/autocomplete/?app_label=x&model_name=y&field_name=z&term=a", 403, FORBIDDEN),
    page("a search of everything with a NUL byte", "GET /admin/search/?s=a%00b", 200, "Nothing matched your search"),
    page("balances of a side that is none", "GET /admin/dwh/factsales/balances/?side=left&p=x", 200, "No order is outstanding"),
    page("a body that is no form", START, 200, "This field is required", body=b"--x\r\nbroken", headers={"Content-Type": "multipart/form-data; boundary=y"}),
    page("a body without a boundary", START, 400, UNREADABLE, body=b"x=1", headers={"Content-Type": "multipart/form-data"}),
    page("a form of 2000 fields", START, 400, UNREADABLE, form={f"a{number}": "1" for number in range(2_000)}),
    page("a form of 3 MB", START, 400, UNREADABLE, form={"reason": "x" * 3_000_000}),
    page("a host that is not ours", "GET /admin/", 400, UNREADABLE, headers={"Host": "evil.example"}),
    page("a host that is no name", "GET /admin/", 400, UNREADABLE, headers={"Host": "a_b c"}),
    page("metrics without a token", "GET /metrics", 401, "The token is missing or wrong", anonymous=True),
    page("metrics with another token", "GET /metrics", 401, "The token is missing or wrong", anonymous=True, headers={"Authorization": "Bearer guess"}),
    page("metrics with the token as Basic", "GET /metrics", 401, "The token is missing or wrong", anonymous=True, headers={"Authorization": "Basic Z3Vlc3M="}),
    page("metrics sent by a form", "POST /metrics", 405, "Allow: ", anonymous=True),
    page("readiness sent by a form", "POST /readyz", 405, "Allow: ", anonymous=True),
)
CASES: tuple[Case, ...] = (*SETTINGS, *ADDRESSES, *FILES, *VALUE_FILES, *COMMANDS, *DATABASES, *PROGRAMS, *SHELLS, *PAGES)
