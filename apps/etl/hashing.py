"""The hash that SQLite computes by a function of ours. Servers have their own."""

from typing import Any
from zlib import crc32


def hash_values(*values: Any) -> int:
    """Return a CRC-32 of the digits of another, as a function for SQLite, which has none itself. Sums of plain ones miss exchanges."""
    return crc32(b"%d" % crc32(repr(values).encode("utf-8", "backslashreplace")))
