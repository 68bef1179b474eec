"""Words that travel with a batch, in its schema: a clock, a sum to reconcile with."""

import pyarrow as pa


def note(table: pa.Table, **notes: str) -> pa.Table:
    """The table with these notes beside those it has."""
    kept = dict(table.schema.metadata or {})
    return table.replace_schema_metadata(kept | {name.encode(): word.encode() for name, word in notes.items()})


def noted(table: pa.Table, name: str) -> str:
    """Empty where there is no such note."""
    return str((table.schema.metadata or {}).get(name.encode(), b"").decode())
