"""Django's settings, read from environment variables, each of which `.env.example` documents.

With urls.py this is the composition root: only here may techmarket/ name the apps above it, by their dotted names.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg import IsolationLevel

from techmarket import logs
from techmarket.env_file import read_env_file, refuse_misspelled
from techmarket.environment import (
    DEVELOPMENT_PASSWORD,
    SEED_PASSWORDS,
    Environment,
    invalid,
    refuse_driver_variables,
    refuse_incomplete_provider,
    refuse_insecure_settings,
    refuse_seed_broker,
    refuse_shared_databases,
    refuse_weak_key,
    refuse_weak_token,
)
from techmarket.sessions import MYSQL_INIT_COMMAND

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = Path(os.environ.get("ENV_FILE", BASE_DIR / ".env"))
env_file = read_env_file(ENV_FILE, required="ENV_FILE" in os.environ)
for name, value in env_file.items():
    os.environ.setdefault(name, value)
env = Environment(os.environ)

VAR_DIR = env.folder("VAR_DIR", BASE_DIR / "var", "/var/lib/techmarket")
DEBUG = env.flag("DEBUG", True)
SECRET_KEY = env.text("SECRET_KEY", "django-insecure-for-the-embedded-default-only" if DEBUG else "", "$(openssl rand -base64 48)")
# Earlier keys, after a rotation: sessions, backups and the seal of the audit log that they have signed stay valid.
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS", "", "the key before, or several, separated by commas")
# gunicorn reads it, too, before any code of ours, and shows a traceback where it is no number: deploy/entrypoint.sh runs a command first.
WEB_PROCESSES = env.number("WEB_CONCURRENCY", 2, 1, 256)
if not SECRET_KEY:
    raise invalid("SECRET_KEY", "a secret of 50 characters or more is needed", "$(openssl rand -base64 48)")
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else "", "etl.example.com")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", "", "10.0.0.0/8")  # whose X-Forwarded-For and X-Request-ID are believed
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", "", "https://etl.example.com")

# --- Databases: one alias per service, equal to the label of its Django app; `default` is the control database -------
SOURCES = {"auth_db": "AUTH_DB_URL", "catalog_db": "CATALOG_DB_URL", "orders_db": "ORDERS_DB_URL", "payments_db": "PAYMENTS_DB_URL"}
WAREHOUSE = {"default": "CONTROL_DB_URL", "dwh": "DWH_URL"}
PRIMARIES = WAREHOUSE | SOURCES
# Replicas of sources, which runs and comparisons read instead; the alias of one is `orders_replica`.
READ_VARIABLES = {alias: variable.replace("_DB_", "_READ_") for alias, variable in SOURCES.items()}
# A URL may change these.
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "django.db.backends.sqlite3": {"timeout": 30},
    "techmarket.backends.mysql": {"connect_timeout": 10, "read_timeout": env.number("SOURCE_READ_TIMEOUT", 120, 1, 3600)},
    "techmarket.backends.postgresql": {
        "connect_timeout": 5,
        "application_name": "techmarket",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    },
}
# These no URL changes, for a run rests on them: techmarket/options.py, techmarket/sessions.py.
OPTIONS: dict[str, dict[str, Any]] = {
    "django.db.backends.sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
    "techmarket.backends.mysql": {
        "charset": "utf8mb4",
        "init_command": MYSQL_INIT_COMMAND,
    },
    # Sent with each BEGIN, so that behind a pooler, too, no default of the server or the role decides.
    "techmarket.backends.postgresql": {"isolation_level": IsolationLevel.READ_COMMITTED},
}


def configure_database(alias: str) -> dict[str, Any]:
    """Return one entry of DATABASES. Tests on SQLite use files too, because a snapshot opens a second connection."""
    file = "control" if alias == "default" else alias.removesuffix("_db")
    servers = "mysql" if alias in SOURCES else "postgres"
    config = set_options(env.database(PRIMARIES[alias], VAR_DIR / f"{file}.sqlite3", servers))
    if config["ENGINE"].endswith("sqlite3"):
        config["TEST"] = {"NAME": str(VAR_DIR / "test" / f"{file}.sqlite3")}
    if config["ENGINE"].endswith("mysql"):
        config["TEST"] = {"CHARSET": "utf8mb4"}
    return config


def set_options(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"OPTIONS": DEFAULT_OPTIONS[config["ENGINE"]] | config.get("OPTIONS", {}) | OPTIONS[config["ENGINE"]]}


DATABASES = {alias: configure_database(alias) for alias in PRIMARIES}
REPLICAS = {}  # by alias of the source: the alias of its replica, where it has one
VARIABLES = dict(PRIMARIES)
for alias, variable in READ_VARIABLES.items():
    if replica := env.replica(variable, SOURCES[alias], DATABASES[alias]):
        REPLICAS[alias] = alias.replace("_db", "_replica")
        VARIABLES[REPLICAS[alias]] = variable
        DATABASES[REPLICAS[alias]] = set_options(replica) | {"TEST": {"MIRROR": alias}}
DATABASE_ROUTERS = ["techmarket.routers.LabelRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
refuse_shared_databases(DATABASES, VARIABLES)
refuse_driver_variables(os.environ, DATABASES.values())
DWH_BI = env.database("DWH_BI_URL", VAR_DIR / "dwh.sqlite3", "postgres", elsewhere=True)  # not in DATABASES: only Metabase connects with it
if str(DWH_BI.get("HOST", "")).startswith("/"):
    raise invalid("DWH_BI_URL", "Metabase cannot connect by a socket", "postgres://bi_reader:password@dwh.example.com:5432/dwh")
if not DEBUG:
    for key in SECRET_KEY_FALLBACKS:
        refuse_weak_key("SECRET_KEY_FALLBACKS", key)
    refuse_insecure_settings(SECRET_KEY, ALLOWED_HOSTS, DATABASES | {"bi": DWH_BI}, VARIABLES | {"bi": "DWH_BI_URL"})
if any(config["ENGINE"].endswith("sqlite3") for config in DATABASES.values()):
    try:
        (VAR_DIR / "test").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise invalid("VAR_DIR", f"cannot write there ({error.strerror})", "/var/lib/techmarket") from None

# --- Runs ----------------------------------------------------------------------------------------------------------
SHOP_TIME_ZONE = env.zone("SHOP_TIME_ZONE", "Europe/Kyiv")
ETL_BATCH_ORDERS = env.number("ETL_BATCH_ORDERS", 20_000, 1, 1_000_000)
ETL_SOURCE_CONNECTIONS = env.number("ETL_SOURCE_CONNECTIONS", 4, 1, 1000)
ETL_MAX_REPLICA_LAG_SECONDS = env.number("ETL_MAX_REPLICA_LAG_SECONDS", 60, 1, 3600)
ETL_PROCESSES = env.number("ETL_PROCESSES", min(4, os.cpu_count() or 1), 1, 64)
ETL_OVERLAP_MINUTES = env.number("ETL_OVERLAP_MINUTES", 10, 0, 10_080)
ETL_SWEEP_SECONDS = env.number("ETL_SWEEP_SECONDS", 10, 0, 86_400)
ETL_MAX_REJECTED_PERCENT = env.number("ETL_MAX_REJECTED_PERCENT", 5, 0, 100)
ETL_MAX_DELETED_PERCENT = env.number("ETL_MAX_DELETED_PERCENT", 5, 0, 100)
ETL_MAX_MONTH_PERCENT = env.number("ETL_MAX_MONTH_PERCENT", 10, 0, 100)
ETL_KEEP_BATCHES_DAYS = env.number("ETL_KEEP_BATCHES_DAYS", 7, 0, 3650)
# Of an S3 client; elsewhere they may be anybody's. Without keys it looks for them as AWS's programs do: a profile, a role.
AWS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"), "")
if env.text("ETL_BATCH_URL", "", "s3://bucket/prefix").lower().startswith("s3:"):
    AWS["AWS_ACCESS_KEY_ID"] = env.text("AWS_ACCESS_KEY_ID", "", "the key's id")
    AWS["AWS_SECRET_ACCESS_KEY"] = env.text("AWS_SECRET_ACCESS_KEY", "", "the key itself")
    AWS["AWS_SESSION_TOKEN"] = env.text("AWS_SESSION_TOKEN", "", "the token of a temporary key")
    AWS["AWS_REGION"] = env.text("AWS_REGION", "", "eu-central-1")
BATCH_STORE = env.batch_store("ETL_BATCH_URL", "", AWS)
ETL_KEEP_DETAILS_DAYS = env.number("ETL_KEEP_DETAILS_DAYS", 365, 1, 36_500)
ETL_HEARTBEAT_SECONDS = env.number("ETL_HEARTBEAT_SECONDS", 5, 1, 60)
ETL_LOST_AFTER_SECONDS = env.number("ETL_LOST_AFTER_SECONDS", 30, 5, 3600)
if ETL_LOST_AFTER_SECONDS < 2 * ETL_HEARTBEAT_SECONDS:
    raise invalid("ETL_LOST_AFTER_SECONDS", "less than two heartbeats (ETL_HEARTBEAT_SECONDS): live runs would be declared lost", "30")

# --- Workers: Celery delivers, the ledger decides ------------------------------------------------------------------
CELERY_BROKER_URL = env.broker("CELERY_BROKER_URL", "filesystem://")
if not DEBUG:
    refuse_seed_broker(CELERY_BROKER_URL)
RUN_LIMITS = {
    "incremental": env.number("ETL_INCREMENTAL_LIMIT_SECONDS", 7_200, 10, 604_800),
    "full": env.number("ETL_FULL_LIMIT_SECONDS", 14_400, 10, 604_800),
}
CELERY_TASK_TIME_LIMIT = max(RUN_LIMITS.values()) + 600  # a last resort: the ledger's limits end a run earlier
CELERY_VISIBILITY_TIMEOUT = env.number("CELERY_VISIBILITY_TIMEOUT", 2 * CELERY_TASK_TIME_LIMIT, 1, 10_000_000)
if CELERY_VISIBILITY_TIMEOUT < 2 * CELERY_TASK_TIME_LIMIT:
    raise invalid(
        "CELERY_VISIBILITY_TIMEOUT",
        "less than twice the longest task: Redis would deliver a running task again",
        str(2 * CELERY_TASK_TIME_LIMIT),
    )
BROKER_DIR = VAR_DIR / "broker"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {
        "data_folder_in": str(BROKER_DIR / "messages"),
        "data_folder_out": str(BROKER_DIR / "messages"),
        "control_folder": str(BROKER_DIR / "control"),
        "polling_interval": 0.1,
    }
    if CELERY_BROKER_URL.startswith("filesystem")
    else {
        # Without timeouts a silent Redis would block us forever.
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": CELERY_VISIBILITY_TIMEOUT,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
    }
)
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"visibility_timeout": CELERY_VISIBILITY_TIMEOUT}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False  # else a task that kills its worker would return forever; the reaper counts attempts
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONCURRENCY = env.number("WORKER_CONCURRENCY", 2, 1, 256)
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1_000
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # else a worker gives up when the broker is down for about 50 minutes
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_IMPORTS = ["apps.orchestration.worker.tasks"]
CELERY_BEAT_SCHEDULER = "apps.orchestration.worker.beat:LivenessScheduler"
REAP_QUEUE = "reap"  # of its own: beat empties it before it sends, and no slow task stands before the reaper
CELERY_TASK_QUEUES = {name: {"exchange": name, "routing_key": name} for name in ("celery", REAP_QUEUE)}
CELERY_TASK_ROUTES = {"techmarket.reap": {"queue": REAP_QUEUE}}
DJANGO_CELERY_BEAT_TZ_AWARE = True
ETL_REAP_SECONDS = env.number("ETL_REAP_SECONDS", 15, 1, 60)
ETL_ATTEMPTS = env.number("ETL_ATTEMPTS", 3, 1, 10)
ETL_RETRY_SECONDS = env.number("ETL_RETRY_SECONDS", 1, 0, 3600)
ETL_SCHEDULED_RETRY_SECONDS = env.number("ETL_SCHEDULED_RETRY_SECONDS", 300, 0, 86_400)
CHROMIUM = env.text("CHROMIUM", "", "/usr/bin/chromium")
NOTIFY_URL = env.web_address("NOTIFY_URL", "", "https://chat.example.com/hooks/etl")

# --- Pages: how long a statement may take, and how many searches and exports a person may send ----------------------------
PAGE_TIMEOUT_SECONDS = env.number("PAGE_TIMEOUT_SECONDS", 20, 1, 600)
SOURCE_PAGE_TIMEOUT_SECONDS = env.number("SOURCE_PAGE_TIMEOUT_SECONDS", 5, 1, 600)
COSTLY_REQUESTS_PER_MINUTE = env.number("COSTLY_REQUESTS_PER_MINUTE", 30, 1, 100_000)

# --- Logins: by an OpenID provider, by local accounts, or by both -----------------------------------------------------
OIDC_URL = env.issuer("OIDC_URL", "", "https://login.example.com/realms/shop", DEBUG)
OIDC_CLIENT_ID = env.text("OIDC_CLIENT_ID", "", "techmarket")
OIDC_CLIENT_SECRET = env.text("OIDC_CLIENT_SECRET", "", "the secret that the provider shows for this client")
OIDC_NAME = env.text("OIDC_NAME", "OpenID Connect", "Keycloak")
OIDC_GROUPS_CLAIM = env.text("OIDC_GROUPS_CLAIM", "groups", "groups")
OIDC_GROUPS = {  # by group of TechMarket: the values of the claim that mean it
    "viewer": env.words("OIDC_VIEWERS", "", "shop-analysts"),
    "operator": env.words("OIDC_OPERATORS", "", "shop-data-engineers"),
    "administrator": env.words("OIDC_ADMINISTRATORS", "", "shop-admins"),
}
LOCAL_LOGIN = env.flag("LOCAL_LOGIN", True)
refuse_incomplete_provider(OIDC_URL, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_GROUPS, LOCAL_LOGIN)
MFA_REQUIRED = env.choice("MFA_REQUIRED", "none", ("none", "operators", "everyone"))  # of local accounts

# --- Audit: who did what ---------------------------------------------------------------------------------------------
AUDIT_KEEP_DAYS = env.number("AUDIT_KEEP_DAYS", 1_095, 30, 36_500)

# --- Monitoring ----------------------------------------------------------------------------------------------------
METRICS_TOKEN = env.text("METRICS_TOKEN", "", "$(openssl rand -hex 24)")
if METRICS_TOKEN and not DEBUG:
    refuse_weak_token(METRICS_TOKEN)

# --- Backups -------------------------------------------------------------------------------------------------------
BACKUP_DIR = env.folder("BACKUP_DIR", VAR_DIR / "backups", "/var/backups/techmarket")
BACKUP_KEEP = env.number("BACKUP_KEEP", 14, 1, 10_000)
BACKUP_RECIPIENT = env.recipients("BACKUP_RECIPIENT", "", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
BACKUP_IDENTITY_FILE = env.file("BACKUP_IDENTITY_FILE", "", "/run/secrets/backup-key.txt")

# --- Metabase, for `manage.py seed_metabase` -------------------------------------------------------------------------
METABASE_URL = env.web_address("METABASE_URL", "http://127.0.0.1:3000", "https://metabase.example.com")
if "@" in urlsplit(METABASE_URL).netloc:
    raise invalid("METABASE_URL", "the address holds a user; those are METABASE_USER and METABASE_PASS", "https://metabase.example.com")
METABASE_USER = env.text("METABASE_USER", "", "admin@example.com")
METABASE_PASS = env.text("METABASE_PASS", "", "a password of your own")
if not DEBUG and METABASE_PASS in SEED_PASSWORDS:
    raise invalid("METABASE_PASS", DEVELOPMENT_PASSWORD, "a password of your own")

# --- Log: one line per event, on stderr, because stdout is for --json -------------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", "console" if DEBUG else "json", ("console", "json"))
passwords = [str(config.get("PASSWORD", "")) for config in (*DATABASES.values(), DWH_BI)] + [
    unquote(urlsplit(CELERY_BROKER_URL).password or "")
]
known_secrets = [SECRET_KEY, *SECRET_KEY_FALLBACKS, METRICS_TOKEN, NOTIFY_URL, METABASE_PASS, *passwords]
known_secrets += [OIDC_CLIENT_SECRET, AWS["AWS_SECRET_ACCESS_KEY"], AWS["AWS_SESSION_TOKEN"]]
# A client may name the path without the host; shorter parts are words, as `hooks`.
known_secrets += [unquote(part) for part in NOTIFY_URL.split("/")[3:] if len(part) >= 16]
# The loggers that report the progress and the end of a run.
RUN_LOGGERS = ["apps.orchestration.outcome", "apps.orchestration.worker.loop"]
LOGGING = logs.build_logging(LOG_FORMAT, RUN_LOGGERS, known_secrets)
logs.configure_structlog(LOG_FORMAT)

# --- Django --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin.apps.SimpleAdminConfig",  # without autodiscovery, which the URLs do: commands start 0.1 s faster
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.mfa",
    "techmarket",
    "apps.sources",
    "apps.sources.auth",
    "apps.sources.catalog",
    "apps.sources.orders",
    "apps.sources.payments",
    "apps.warehouse",
    "apps.audit",
    "apps.orchestration",
    "apps.demo",
    "apps.console",
    "apps.monitoring",
    "apps.backups",
    "apps.bi",
    "apps.schema",
]
MIDDLEWARE = [
    "apps.monitoring.middleware.MonitoringMiddleware",  # before the redirect to HTTPS and the check of the Host header
    "django.middleware.security.SecurityMiddleware",
    "apps.console.browser_policy.BrowserPolicyMiddleware",
    "apps.console.page_timeout.PageTimeoutMiddleware",  # before all that asks a database, but for the probes
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "apps.audit.middleware.AuditMiddleware",
    "apps.audit.sessions.SessionLimitsMiddleware",
    "apps.console.rate_limit.RateLimitMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apps.console.second_factor.required.RequiredFactorMiddleware",
    "apps.console.personal.PersonalDataMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.console.not_allowed.NotAllowedMiddleware",
    "apps.console.unreadable.UnreadableMiddleware",  # the last: it answers for the views alone
]
ROOT_URLCONF = "techmarket.urls"
WSGI_APPLICATION = "techmarket.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {"formats": "techmarket.formats", "ledger_messages": "techmarket.messages"},
        },
    }
]
AUTHENTICATION_BACKENDS = ["apps.audit.guesses.GuessLimitBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [  # the first makes new hashes; at the next login it replaces those of the second, which earlier releases made
    "techmarket.hashers.Argon2Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
AUTH_PASSWORD_VALIDATORS.append({"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}})
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"  # where an address after the login is missing, or leads outside
# allauth signs in, and asks for the second factor; nobody signs up, and there is no e-mail. Failures are counted by apps/audit/guesses.py.
ACCOUNT_ADAPTER = "apps.console.second_factor.adapters.AccountAdapter"
ACCOUNT_FORMS = {"reauthenticate": "apps.console.second_factor.forms.PasswordForm"}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_SIGNUP_FIELDS = ["username*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = False
SOCIALACCOUNT_ADAPTER = "apps.console.oidc.adapter.SocialAdapter"
MFA_ADAPTER = "apps.console.second_factor.adapters.FactorAdapter"
MFA_FORMS = {
    name: f"apps.console.second_factor.forms.{form}"
    for name, form in {
        "authenticate": "CodeForm",
        "reauthenticate": "CodeAgainForm",
        "authenticate_webauthn": "PasskeyForm",
        "reauthenticate_webauthn": "PasskeyAgainForm",
        "activate_totp": "SetUpForm",
        "add_webauthn": "AddPasskeyForm",
    }.items()
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_RECOVERY_CODE_DIGITS = 10
MFA_TOTP_ISSUER = "TechMarket"
MFA_TOTP_TOLERANCE = 1  # of the code before and after, since clocks differ
SESSION_COOKIE_AGE = 3600 * env.number("SESSION_HOURS", 8, 1, 168)
SESSION_IDLE_SECONDS = 60 * env.number("SESSION_IDLE_MINUTES", 60, 5, 1_440)
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("uk", "Українська")]
TIME_ZONE = SHOP_TIME_ZONE
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = env.folder("STATIC_ROOT", VAR_DIR / "static", "/srv/techmarket/static")
if STATIC_ROOT.is_dir() or not DEBUG:
    MIDDLEWARE.insert(MIDDLEWARE.index("django.middleware.security.SecurityMiddleware") + 1, "whitenoise.middleware.WhiteNoiseMiddleware")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage" if DEBUG else "techmarket.static.HashedStaticFilesStorage"
    },
}
FORMAT_MODULE_PATH = "techmarket.date_formats"  # one date format on all pages: 26 November 2026, 13:50
LOCALE_PATHS = [BASE_DIR / "techmarket" / "locale"]
UNFOLD = {
    "SITE_TITLE": "TechMarket",
    "SITE_HEADER": "TechMarket",
    "SITE_SYMBOL": "warehouse",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "apps.console.navigation.icon"}],
    "LOGIN": {"form": "apps.console.login.LoginForm"},
    "SITE_URL": None,  # there is no other site to view
    "DASHBOARD_CALLBACK": "apps.console.overview.page.fill",
    "ACCOUNT": {"navigation": "apps.console.navigation.account_links"},
    "SIDEBAR": {"navigation": "apps.console.navigation.sidebar"},
    "STYLES": ["apps.console.navigation.stylesheet"],
    "SCRIPTS": ["apps.console.navigation.script"],
}

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", not DEBUG)
if env.flag("BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if DEBUG else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not DEBUG

ENVIRONMENT_HASHES = env.hash_given(SECRET_KEY)
refuse_misspelled(env_file, env.names, ENV_FILE)
refuse_misspelled(os.environ, env.names, "the environment")
