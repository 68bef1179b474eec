"""Metadata that travels with a batch in its Arrow schema: a source's clock, a fingerprint, sums to reconcile with."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def set_metadata(table: "pa.Table", **metadata: str) -> "pa.Table":
    """Return the table with these entries added to its metadata."""
    present = dict(table.schema.metadata or {})
    return table.replace_schema_metadata(present | {name.encode(): value.encode() for name, value in metadata.items()})


def get_metadata(table: "pa.Table", name: str) -> str:
    """Return the entry, empty where there is none."""
    return str((table.schema.metadata or {}).get(name.encode(), b"").decode())
