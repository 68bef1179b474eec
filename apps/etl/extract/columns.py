"""Fetched rows as columns. Apart from snapshot.py, which a run with nothing to read uses without numpy and Arrow: 0.2 s to import."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from apps.etl.sums import NOTHING, Sums, add_up, to_columns

# Arrow's CSV reader catches SIGINT and SIGTERM itself, and loses 2 to 5 of 100 that arrive while it reads a small block.
pa.enable_signal_handlers(False)

Rows = Sequence[tuple[Any, ...]]


def join(blocks: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables(blocks)


def lines_to_columns(rows: Rows, exact: Sequence[str], others: Sequence[str], names: Sequence[str]) -> pa.Table:
    """Turn rows of one line of comma-separated whole numbers, `exact`, and of bytes, `others`, into columns in the order of `names`."""
    first, *rest = zip(*rows, strict=True) if rows else [()] * (1 + len(others))
    columns = dict(zip(exact, parse_integers(first, exact), strict=True))
    columns |= {name: pa.array(values, pa.binary()) for name, values in zip(others, rest, strict=True)}
    return pa.table({name: columns[name] for name in names})


def values_to_columns(rows: Rows, names: Sequence[str], integers: Sequence[str]) -> pa.Table:
    """Turn rows of bytes, of `integers` where the name is among those, into columns."""
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    kinds = [pa.int64() if name in integers else pa.binary() for name in names]
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(names, columns, kinds, strict=True)})


def lines_to_numbers(blocks: Iterable[Rows], width: int) -> list[Any]:
    """Turn rows of one line of `width` whole numbers each into int64 arrays."""
    names = [str(number) for number in range(width)]
    parsed = [parse_integers([row[0] for row in rows], names) for rows in blocks]
    return [np.concatenate([NOTHING, *(block[at].to_numpy() for block in parsed)]) for at in range(width)]


def values_to_numbers(blocks: Iterable[Rows], width: int) -> list[Any]:
    """Turn rows of `width` whole numbers into int64 arrays."""
    columns = [to_columns(rows, width) for rows in blocks]
    return [np.concatenate([NOTHING, *(block[at] for block in columns)]) for at in range(width)]


def rows_to_sums(blocks: Iterable[Rows]) -> Sums:
    """Add up rows of a key and its sum."""
    return add_up([Sums(*to_columns(rows, 2)) for rows in blocks])


def parse_integers(lines: Sequence[bytes], names: Sequence[str]) -> Sequence[pa.Array]:
    """Parse lines of comma-separated whole numbers, empty for NULL, into columns of int64."""
    if not lines:
        return [pa.array([], pa.int64()) for _ in names]
    table = csv.read_csv(
        pa.py_buffer(b"\n".join(lines)),
        csv.ReadOptions(column_names=names, use_threads=False),
        csv.ParseOptions(quote_char=False),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.int64()), null_values=[""]),
    )
    return [column.combine_chunks() for column in table.columns]
