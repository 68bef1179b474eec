"""Batches of the ledger: saved and opened as Arrow tables."""

from typing import Any

import psycopg
import pyarrow as pa
from django.db import connections

from apps.etl.batch import decode, encode
from apps.etl.tables import TOUCHED_ORDERS
from apps.orchestration.models import Batch, Run
from techmarket.errors import BatchDamaged


def save_batch(batch: Batch, table: pa.Table) -> None:
    """Save by COPY on PostgreSQL: an INSERT writes the body as hexadecimal on both ends, 25 ms for a slice's 1 MB instead of 8."""
    batch.body, batch.checksum = encode(table)
    if connections["default"].vendor != "postgresql":
        return batch.save(force_insert=True)
    query = "COPY orchestration_batch (run_id, task_id, name, rows, checksum, body) FROM STDIN (FORMAT binary)"
    with connections["default"].cursor() as cursor, cursor.copy(query) as stream:
        stream.set_types(["int8", "int8", "varchar", "int8", "int8", "bytea"])
        stream.write_row([batch.run_id, batch.task_id, batch.name, batch.rows, batch.checksum, batch.body])
    return None


def open_batch(batch: Batch, positions: list[int] | None = None) -> pa.Table:
    """Return the batch's table, or of its columns those at `positions`."""
    return decode(read_body(batch), batch.checksum, batch.rows, positions)


def read_body(batch: Batch) -> bytes:
    """Return the bytes, on PostgreSQL in binary instead of hexadecimal: 0.7 ms for a slice's instead of 3.7."""
    control = connections["default"]
    if control.vendor != "postgresql":
        return bytes(batch.body)
    control.ensure_connection()
    query = "SELECT body FROM orchestration_batch WHERE id = %s"
    row = psycopg.Cursor(control.connection).execute(query, [batch.pk], binary=True).fetchone()
    if row is None:
        raise BatchDamaged
    return bytes(row[0])


def read_touched_orders(run: Run) -> Any:
    """Return the ids of the orders that the plan found, ascending, as int64. A run that reads everything has none."""
    return open_batch(Batch.objects.defer("body").get(run=run.pk, name=TOUCHED_ORDERS))["order_id"].to_numpy()
