"""Descriptions of the tables of the four sources and the warehouse, read from the models; the renderers make files of them."""

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

from apps.schema.offline import make_backend
from apps.warehouse.kpi_sql import VIEWS, View
from apps.warehouse.partition import CreateSinglePartitionModel

WAREHOUSE = "dwh"
SHORT_TYPES = {"timestamp with time zone": "timestamptz"}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `type` is the server's type, `field_type` the class of the model's field, `definition` what follows the name in CREATE TABLE,
    `references` the referenced table and column.
    """

    name: str
    type: str
    definition: str
    description: str
    field_type: str
    null: bool = False
    primary: bool = False
    unique: bool = False
    auto_increment: bool = False
    default: str = ""
    values: tuple[str, ...] = ()
    references: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    `clauses` are the constraints of CREATE TABLE, `indexes` are statements, `uniques` are groups of columns that are unique together.
    """

    name: str
    description: str
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
        """The names of the tables that it references, without itself."""
        named = (column.references[0] for column in self.columns if column.references)
        return tuple(dict.fromkeys(name for name in named if name != self.name))


@dataclass(frozen=True)
class Database:
    """One database. `alias` is Django's alias and the database's own name."""

    alias: str
    description: str
    tables: tuple[Table, ...] = field(default=())
    views: tuple[View, ...] = ()

    @property
    def is_warehouse(self) -> bool:
        return self.alias == WAREHOUSE

    @property
    def short_name(self) -> str:
        return self.alias.removesuffix("_db")

    @property
    def file_name(self) -> str:
        """The name of its files in docs/, without a suffix: "auth_mysql"."""
        return f"{self.short_name}_{'postgres' if self.is_warehouse else 'mysql'}"

    @property
    def sql_path(self) -> str:
        """The path of its SQL file below deploy/: "mysql/01_auth.sql"."""
        number = [*settings.SOURCES, WAREHOUSE].index(self.alias) + 1
        return f"{'postgres' if self.is_warehouse else 'mysql'}/{number:02}_{self.short_name}.sql"

    @property
    def product(self) -> str:
        return "PostgreSQL 15" if self.is_warehouse else "MySQL 8"

    def quote_name(self, name: str) -> str:
        return f'"{name}"' if self.is_warehouse else f"`{name}`"


def describe_databases() -> list[Database]:
    """Describe the four sources and the warehouse, in English whatever language is active."""
    with override("en"):
        return [describe_database(alias) for alias in (*settings.SOURCES, WAREHOUSE)]


def describe_database(alias: str, models: Iterable[type[Model]] | None = None) -> Database:
    """Describe the tables of the app with this label, or those of `models`."""
    config, connection = apps.get_app_config(alias), make_backend(alias)
    description = (config.models_module.__doc__ or "").splitlines()[0] if config.models_module else ""
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        tables = tuple(describe_table(model, editor, connection) for model in (models or config.get_models()))
    return Database(alias, description, tables, VIEWS if alias == WAREHOUSE else ())


def describe_table(model: type[Model], editor: Any, connection: BaseDatabaseWrapper) -> Table:
    fields = model._meta.local_concrete_fields
    foreign = [str(editor._create_fk_sql(model, each, "_fk_%(to_table)s_%(to_column)s")) for each in fields if each.remote_field]
    uniques = [constraint for constraint in model._meta.constraints if isinstance(constraint, UniqueConstraint)]
    return Table(
        name=model._meta.db_table,
        description=" ".join(cleandoc(model.__doc__ or "").split()),
        columns=tuple(describe_column(model, each, editor, connection) for each in fields),
        clauses=(
            *(str(constraint.constraint_sql(model, editor)) for constraint in model._meta.constraints),
            *(statement.partition(" ADD ")[2] for statement in foreign),
        ),
        indexes=tuple(str(statement) for statement in editor._model_indexes_sql(model)),
        uniques=tuple(tuple(get_column_name(model, name) for name in constraint.fields) for constraint in uniques),
        partitioned=(model._meta.app_label, model.__name__) in find_partitioned_models(),
    )


def describe_column(model: type[Model], field: Any, editor: Any, connection: BaseDatabaseWrapper) -> Column:
    definition, _ = editor.column_sql(model, field)
    suffix = field.db_type_suffix(connection)
    default, _ = editor.db_default_sql(field) if field.has_db_default() else ("", ())
    server_type = str(field.db_parameters(connection)["type"])
    target = field.target_field if field.remote_field else None
    return Column(
        name=str(field.column),
        type=SHORT_TYPES.get(server_type, server_type.removesuffix(" AUTO_INCREMENT")),
        definition=" ".join(filter(None, (definition, suffix))),
        description=str(field.help_text),
        field_type=field.get_internal_type(),
        null=field.null,
        primary=field.primary_key,
        unique=field.unique and not field.primary_key,
        auto_increment=server_type.endswith(" AUTO_INCREMENT"),
        default=default.removeprefix("(").removesuffix(")"),
        values=tuple(str(value) for value, _ in field.flatchoices),
        references=(target.model._meta.db_table, str(target.column)) if target is not None else None,
    )


def get_column_name(model: type[Model], name: str) -> str:
    each: Any = model._meta.get_field(name)
    return str(each.column)


@cache
def find_partitioned_models() -> set[tuple[str, str]]:
    """Return app label and name of the models whose table a migration partitions: Django's models have no option for it."""
    migrations = MigrationLoader(None).disk_migrations.items()
    return {
        (label, operation.name)
        for (label, _), migration in migrations
        for operation in migration.operations
        if isinstance(operation, CreateSinglePartitionModel)
    }
