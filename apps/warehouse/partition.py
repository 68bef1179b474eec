"""Partitioned tables, which Django does not support. PostgreSQL then swaps a whole table in while grants and views stay."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState

WHOLE_RANGE = "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"


def partition_by_range(key: str) -> str:
    return f"PARTITION BY RANGE ({key})"


def create_only_partition(table: str) -> str:
    return f"CREATE TABLE {table}_0 PARTITION OF {table} {WHOLE_RANGE}"


class CreateSinglePartitionModel(CreateModel):
    """Create a partitioned table with one partition for the whole range; on SQLite, a plain table."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model: Any = to_state.apps.get_model(app_label, self.name)
        if schema_editor.connection.vendor != "postgresql" or not self.allow_migrate_model(schema_editor.connection.alias, model):
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        table, key = model._meta.db_table, model._meta.pk.column
        original = schema_editor.sql_create_table
        schema_editor.sql_create_table = f"{original} {partition_by_range(key)}"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = original
        schema_editor.execute(create_only_partition(table))
        return None
