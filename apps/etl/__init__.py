"""Sources to star: extract, transform, load, checks. A plain package: no models of its own, no tasks, knows nothing of runs."""

import ctypes
import os
import sys
from contextlib import suppress

# Arrow's own allocator keeps what it has once had: loading 250 000 orders held 299 MB at its peak, with malloc 245. Told by the
# environment, before Arrow is there: pyarrow.set_memory_pool reaches but a part of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

# Nor may each thread keep a heap of its own (M_ARENA_MAX, of glibc's malloc): 384 MB with them, 360 without.
if sys.platform == "linux":
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(-8, 1)
