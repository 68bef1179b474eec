"""Sources to warehouse: extract, transform, load, checks. A plain package without models or tasks that knows nothing of runs.

A source table, dimension or fact is declared in tables.py; a rule for rows and its text in transform/rules.py.
"""

import ctypes
import os
import sys
from contextlib import suppress

# Arrow's own allocator does not return memory: loading 250 000 orders took 299 MB at its peak, with malloc 245. Set in the environment
# before Arrow is imported, since pyarrow.set_memory_pool affects only a part of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

# One malloc heap for all threads (-8 is glibc's M_ARENA_MAX): 360 MB, against 384 with a heap per thread.
if sys.platform == "linux":
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(-8, 1)
