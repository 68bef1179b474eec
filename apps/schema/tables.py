"""One description of the tables of five databases, out of the models; each writer makes a file of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from inspect import cleandoc
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model, UniqueConstraint
from django.utils.translation import override

from apps.schema.offline import server
from apps.warehouse.kpi_views import VIEWS, View
from apps.warehouse.partition import CreateSinglePartitionModel

WAREHOUSE = "dwh"
SHORTER = {"timestamp with time zone": "timestamptz"}  # the same, in one word


@dataclass(frozen=True)
class Column:
    """`type` is the server's, `kind` the model field's; `definition` what stands beside the name in CREATE TABLE.

    `references`: a table and its column.
    """

    name: str
    type: str
    definition: str
    meaning: str
    kind: str
    null: bool = False
    primary: bool = False
    unique: bool = False
    automatic: bool = False
    default: str = ""
    values: tuple[str, ...] = ()
    references: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """`clauses`: constraints of several columns and foreign keys, as in CREATE TABLE. `indexes`: statements. `uniques`: columns."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    clauses: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    partitioned: bool = False

    @property
    def key(self) -> str:
        return next(column.name for column in self.columns if column.primary)

    @property
    def parents(self) -> tuple[str, ...]:
        """The tables that it references, without itself."""
        named = (column.references[0] for column in self.columns if column.references)
        return tuple(dict.fromkeys(name for name in named if name != self.name))


@dataclass(frozen=True)
class Database:
    """`alias` is Django's, and the database's name; `name` that of its files."""

    alias: str
    meaning: str
    tables: tuple[Table, ...] = field(default=())
    views: tuple[View, ...] = ()

    @property
    def is_warehouse(self) -> bool:
        return self.alias == WAREHOUSE

    @property
    def short(self) -> str:
        return self.alias.removesuffix("_db")

    @property
    def name(self) -> str:
        return f"{self.short}_{'postgres' if self.is_warehouse else 'mysql'}"

    @property
    def sql(self) -> str:
        """Its file of SQL, below deploy/."""
        number = [*settings.SOURCES, WAREHOUSE].index(self.alias) + 1
        return f"{'postgres' if self.is_warehouse else 'mysql'}/{number:02}_{self.short}.sql"

    @property
    def product(self) -> str:
        return "PostgreSQL 15" if self.is_warehouse else "MySQL 8"

    def quoted(self, name: str) -> str:
        return f'"{name}"' if self.is_warehouse else f"`{name}`"


def described() -> list[Database]:
    """The four sources and the warehouse, in English whatever the language of the day."""
    with override("en"):
        return [database(alias) for alias in (*settings.SOURCES, WAREHOUSE)]


def database(alias: str, models: Iterable[type[Model]] | None = None) -> Database:
    """Of an app's models, or of those given."""
    config, connection = apps.get_app_config(alias), server(alias)
    meaning = (config.models_module.__doc__ or "").splitlines()[0] if config.models_module else ""
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        tables = tuple(table(model, editor, connection) for model in (models or config.get_models()))
    return Database(alias, meaning, tables, VIEWS if alias == WAREHOUSE else ())


def table(model: type[Model], editor: Any, connection: BaseDatabaseWrapper) -> Table:
    fields = model._meta.local_concrete_fields
    foreign = [str(editor._create_fk_sql(model, each, "_fk_%(to_table)s_%(to_column)s")) for each in fields if each.remote_field]
    uniques = [constraint for constraint in model._meta.constraints if isinstance(constraint, UniqueConstraint)]
    return Table(
        name=model._meta.db_table,
        meaning=" ".join(cleandoc(model.__doc__ or "").split()),
        columns=tuple(column(model, each, editor, connection) for each in fields),
        clauses=(
            *(str(constraint.constraint_sql(model, editor)) for constraint in model._meta.constraints),
            *(statement.partition(" ADD ")[2] for statement in foreign),
        ),
        indexes=tuple(str(statement) for statement in editor._model_indexes_sql(model)),
        uniques=tuple(tuple(column_of(model, name) for name in constraint.fields) for constraint in uniques),
        partitioned=(model._meta.app_label, model.__name__) in partitioned_models(),
    )


def column(model: type[Model], each: Any, editor: Any, connection: BaseDatabaseWrapper) -> Column:
    definition, _ = editor.column_sql(model, each)
    suffix = each.db_type_suffix(connection)
    default, _ = editor.db_default_sql(each) if each.has_db_default() else ("", ())
    kind = str(each.db_parameters(connection)["type"])
    target = each.target_field if each.remote_field else None
    return Column(
        name=str(each.column),
        type=SHORTER.get(kind, kind.removesuffix(" AUTO_INCREMENT")),
        definition=" ".join(filter(None, (definition, suffix))),
        meaning=str(each.help_text),
        kind=each.get_internal_type(),
        null=each.null,
        primary=each.primary_key,
        unique=each.unique and not each.primary_key,
        automatic=kind.endswith(" AUTO_INCREMENT"),
        default=default.removeprefix("(").removesuffix(")"),
        values=tuple(str(value) for value, _ in each.flatchoices),
        references=(target.model._meta.db_table, str(target.column)) if target is not None else None,
    )


def column_of(model: type[Model], name: str) -> str:
    each: Any = model._meta.get_field(name)
    return str(each.column)


@cache
def partitioned_models() -> set[tuple[str, str]]:
    """Models do not say it: Django knows no partitions, and a migration of ours makes them."""
    migrations = MigrationLoader(None).disk_migrations.items()
    return {
        (label, operation.name)
        for (label, _), migration in migrations
        for operation in migration.operations
        if isinstance(operation, CreateSinglePartitionModel)
    }
