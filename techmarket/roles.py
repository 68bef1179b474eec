"""Users of our own databases who are not their owners, and what each may do there. PostgreSQL only: an SQLite file knows no users.

deploy/postgres/roles.sh creates them, and each migrate of the control database grants. A login may also be a member of one of them.
Workers and migrations own the warehouse: only the owner of a table may exchange its partitions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.apps import AppConfig, apps
from django.db import connections, models, transaction

from techmarket.routers import find_database

CONTROL = "default"
CHANGES = ("INSERT", "UPDATE", "DELETE")


class Right(NamedTuple):
    """`column` is empty where the right is on the whole table."""

    table: str
    verb: str
    column: str = ""


@dataclass(frozen=True)
class Role:
    """May read every table of the control database, but only a few of the columns of those in `columns`, and change what `changes` names.

    Models by their label, in lower case; `functions` run with the rights of the owner.
    """

    name: str
    changes: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    functions: tuple[str, ...] = ()


LOG = {"audit.entry": ("INSERT",), "audit.head": ("UPDATE",)}
# What a request does: logins, people, schedules, and what is asked of runs. It reads no batch's body, which is raw rows.
WEB = Role(
    "etl_web",
    LOG
    | {
        "audit.requestrate": ("INSERT", "UPDATE"),
        "auth.user": ("INSERT", "UPDATE"),
        "auth.user_groups": ("INSERT", "DELETE"),
        "auth.user_user_permissions": ("INSERT", "DELETE"),
        "auth.group": CHANGES,
        "auth.group_permissions": ("INSERT", "DELETE"),
        "socialaccount.socialaccount": ("INSERT", "UPDATE"),
        "mfa.authenticator": CHANGES,
        "admin.logentry": ("INSERT",),
        "sessions.session": CHANGES,
        "django_celery_beat.crontabschedule": ("INSERT", "UPDATE"),
        "django_celery_beat.periodictask": ("UPDATE",),
        "django_celery_beat.periodictasks": ("INSERT", "UPDATE"),
        "orchestration.erasure": ("INSERT",),
        "orchestration.hostclock": ("INSERT", "UPDATE"),
        "orchestration.run": ("INSERT", "UPDATE"),
        "orchestration.schedule": ("UPDATE",),
        "orchestration.scheduledrun": ("UPDATE",),
        "orchestration.standingreject": ("UPDATE",),
        "orchestration.task": ("INSERT", "UPDATE"),
        "orchestration.taskcount": ("INSERT", "UPDATE"),
    },
    columns={"orchestration.batch": ("id", "run_id", "task_id", "name", "rows", "checksum", "object_name")},
)
# The whole ledger, and of people and sessions no more than names and dates.
WORKER = Role(
    "etl_worker",
    LOG
    | {
        "orchestration.*": CHANGES,
        "django_celery_beat.*": CHANGES,
        "admin.logentry": ("UPDATE",),  # of what is typed there, where a customer is forgotten
        "sessions.session": ("DELETE",),
    },
    columns={
        "auth.user": ("id", "username", "first_name", "last_name", "is_active"),
        "sessions.session": ("expire_date",),
        "mfa.authenticator": ("id",),
        "socialaccount.socialapp": ("id",),
        "socialaccount.socialtoken": ("id",),
    },
    functions=("audit_entry_delete(bigint)", "orchestration_analyze_tasks()"),
)
ROLES = (WEB, WORKER)

OWN_ROLE = """
SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND pg_has_role(oid, 'USAGE') AND NOT EXISTS (
    SELECT 1 FROM pg_class WHERE oid = to_regclass('django_migrations') AND pg_has_role(relowner, 'USAGE')
)
"""
FOUND_RIGHTS = """
SELECT relname, privilege_type, '' FROM unnest(%(tables)s::text[]) AS own(name) JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(name))
CROSS JOIN aclexplode(relacl) WHERE grantee = %(role)s::regrole
UNION ALL
SELECT relname, privilege_type, attname FROM unnest(%(tables)s::text[]) AS own(name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(name)) JOIN pg_attribute ON attrelid = c.oid AND attacl IS NOT NULL
CROSS JOIN aclexplode(attacl) WHERE grantee = %(role)s::regrole
"""

# A process of web writes users, but makes nobody a superuser: `manage.py createsuperuser` does, as the owner.
SUPERUSERS = """
CREATE OR REPLACE FUNCTION auth_user_refuse_superuser() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.is_superuser AND OLD.id = NEW.id THEN
            RETURN NEW;
        END IF;
    END IF;
    IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    RAISE 'only the owner of these tables makes a user a superuser' USING ERRCODE = 'TM001';
END $$;
CREATE OR REPLACE TRIGGER auth_user_superuser BEFORE INSERT OR UPDATE ON auth_user
    FOR EACH ROW WHEN (NEW.is_superuser) EXECUTE FUNCTION auth_user_refuse_superuser();
ALTER TABLE auth_user ENABLE ALWAYS TRIGGER auth_user_superuser;
"""


def read_schema(cursor: Any) -> str:
    """Return the schema of our tables, quoted, for functions that must find them whatever their caller's search path is."""
    cursor.execute("SELECT quote_ident(current_schema())")
    return str(cursor.fetchone()[0])


def find_role(cursor: Any) -> Role | None:
    """Return the role that the session's user is, or is a member of; None for the owner of the tables and any other user."""
    cursor.execute(OWN_ROLE, [[role.name for role in ROLES]])
    found = {name for (name,) in cursor.fetchall()}
    return next((role for role in ROLES if role.name in found), None)


def own_models(alias: str) -> "list[type[models.Model]]":
    """Return the models whose tables belong to this database."""
    found = apps.get_models(include_auto_created=True)
    return [model for model in found if find_database(model._meta.app_label) == alias and model._meta.managed]


def find_needed(role: Role) -> Iterator[Right]:
    """Yield the rights on the tables of the control database."""
    yield Right("django_migrations", "SELECT")
    for model in own_models(CONTROL):
        table, label = model._meta.db_table, model._meta.label_lower
        for column in role.columns.get(label, ("",)):
            yield Right(table, "SELECT", column)
        for verb in role.changes.get(label, role.changes.get(f"{model._meta.app_label}.*", ())):
            yield Right(table, verb)


def grant_after_migrate(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Grant each role that exists what it needs, and nothing else."""
    if using != CONTROL or connections[using].vendor != "postgresql":
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(SUPERUSERS)
        for role in ROLES:
            cursor.execute("SELECT to_regrole(%s) IS NOT NULL", [role.name])
            if cursor.fetchone()[0]:
                grant(cursor, role)


def grant(cursor: Any, role: Role) -> None:
    """Grant anew on the tables whose rights differ. A needless GRANT would wait for whoever uses the table."""
    needed, found = set(find_needed(role)), find_granted(cursor, role)
    for table in sorted({right.table for right in needed ^ found}):
        cursor.execute(f"REVOKE ALL ON {table} FROM {role.name}")
        for right in sorted(each for each in needed if each.table == table):
            column = f" ({right.column})" if right.column else ""
            cursor.execute(f"GRANT {right.verb}{column} ON {table} TO {role.name}")
    for function in role.functions:
        cursor.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {role.name}")


def find_granted(cursor: Any, role: Role) -> set[Right]:
    tables = ["django_migrations", *(model._meta.db_table for model in own_models(CONTROL))]
    cursor.execute(FOUND_RIGHTS, {"tables": tables, "role": role.name})
    return {Right(*row) for row in cursor.fetchall()}
