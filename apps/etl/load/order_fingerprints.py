"""The fingerprints of the orders that a run has read into etl_order, and what it has proven into etl_segment."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import pyarrow as pa

from apps.etl.load.copying import analyze, copy, create_stage
from apps.etl.load.look_ups import few_looked_up
from apps.etl.load.merging import delete
from apps.etl.load.relations import add_keys_and_indexes, create_like, find_free_name, replace_table
from apps.etl.slices import SEGMENT, Bounds, within
from apps.etl.sums import segments_of
from apps.etl.tables import ORDER_FINGERPRINTS, ORDER_SOURCES
from apps.warehouse.prepared import Prepared, drop_prepared

TABLE = ORDER_FINGERPRINTS
STAGE, CHANGED, VANISHED = (f"{name}_{ORDER_FINGERPRINTS}" for name in ("stage", "changed", "vanished"))
SUMS = list(ORDER_SOURCES)
COLUMNS = ["order_id", *SUMS, "look_again_at"]
FIND_VANISHED = f"INSERT INTO {VANISHED} SELECT order_id FROM {TABLE} WHERE {{scope}} EXCEPT SELECT order_id FROM {STAGE}"
SAME = " AND ".join(f"t.{column} IS NOT DISTINCT FROM s.{column}" for column in COLUMNS)
FIND_CHANGED = f"""
INSERT INTO {CHANGED} SELECT * FROM {STAGE} AS s
WHERE NOT EXISTS (SELECT 1 FROM {TABLE} AS t WHERE t.order_id = s.order_id AND {SAME})
"""
UPSERT_CHANGED = f"""
INSERT INTO {TABLE} ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)} FROM {CHANGED} WHERE TRUE
ON CONFLICT (order_id) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])}
"""
# It is empty, ours, and nobody else's rights, views or foreign keys hang on it.
IS_REPLACEABLE = f"""
SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE') AND NOT EXISTS (SELECT 1 FROM {TABLE})
    AND NOT EXISTS (SELECT 1 FROM aclexplode(relacl) WHERE grantee <> relowner)
    AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE refobjid = c.oid AND classid = 'pg_rewrite'::regclass)
    AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid)
FROM pg_class AS c WHERE oid = '{TABLE}'::regclass
"""
INSERT_SEGMENTS = f"""
INSERT INTO etl_segment (segment, star) SELECT DISTINCT order_id / {SEGMENT}, 0 FROM {{table}} WHERE TRUE ON CONFLICT (segment) DO NOTHING
"""


class OrderFingerprints:
    """The fingerprints that a run has read: first staged and compared, then written in the publishing transaction."""

    def __init__(self, cursor: Any):
        self.cursor = cursor
        self.replacement = ""  # a whole new table, where the present one is empty and may be replaced

    def stage(self, batches: Iterable[pa.Table], run_id: int, run_uuid: UUID, scope: str) -> None:
        """Stage the fingerprints, and find those of the orders in `scope`, SQL, that have changed or vanished.

        Where there are none yet, stage them in a new table, whose key is made when all rows are there: in half the time.
        """
        drop_prepared(Prepared.objects.filter(run_uuid=run_uuid, fact=TABLE))  # of an earlier attempt
        if self.cursor.db.vendor == "postgresql" and is_replaceable(self.cursor):
            self.replacement = find_free_name(self.cursor, f"{TABLE}_{run_id}")
            create_like(self.cursor, TABLE, self.replacement)
            Prepared.objects.create(
                run_uuid=run_uuid, run_id=run_id, fact=TABLE, relation=self.replacement, is_partition=False, findings={}
            )
        else:
            create_stage(self.cursor, STAGE, TABLE, COLUMNS)
        for batch in batches:
            copy(self.cursor, self.replacement or STAGE, batch)
        if self.replacement:
            add_keys_and_indexes(self.cursor, TABLE, self.replacement)
            analyze(self.cursor, self.replacement)
        else:
            self.compare(scope)

    def compare(self, scope: str) -> None:
        analyze(self.cursor, STAGE)
        create_stage(self.cursor, CHANGED, TABLE, COLUMNS)
        create_stage(self.cursor, VANISHED, TABLE, ["order_id"])
        with few_looked_up(self.cursor, STAGE, TABLE):
            self.cursor.execute(FIND_CHANGED)
            self.cursor.execute(FIND_VANISHED.format(scope=scope))
        analyze(self.cursor, VANISHED)

    def write(self) -> None:
        """Write the fingerprints that have changed and delete those that have vanished."""
        if not self.replacement:
            with few_looked_up(self.cursor, VANISHED, TABLE):
                delete(self.cursor, TABLE, f"order_id IN (SELECT order_id FROM {VANISHED})")
            self.cursor.execute(UPSERT_CHANGED)
        self.cursor.execute(INSERT_SEGMENTS.format(table=self.replacement or STAGE))

    @property
    def locked(self) -> list[str]:
        """The tables that nobody may read while `swap_in` is under way."""
        return [TABLE] if self.replacement else []

    def swap_in(self) -> None:
        """Let the new table, if there is one, take the place of the empty one."""
        if self.replacement:
            replace_table(self.cursor, TABLE, self.replacement)


def is_replaceable(cursor: Any) -> bool:
    cursor.execute(IS_REPLACEABLE)
    return bool(cursor.fetchone()[0])


def record_proof(cursor: Any, proven: Iterable[Bounds], as_of: datetime) -> None:
    """Record that the orders within these ranges, which end where a segment does, are as the sources held them at `as_of`."""
    for low, high in proven:
        first, after = (None if edge is None else int(segments_of(edge)) for edge in (low, high))
        where = " AND ".join(["TRUE", *within("segment", (first, after))])
        cursor.execute(f"UPDATE etl_segment SET proven_at = %s WHERE {where}", [cursor.db.ops.adapt_datetimefield_value(as_of)])
