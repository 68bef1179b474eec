"""Make the next item in a thread while the caller uses the current one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def prefetch[T](items: Iterator[T]) -> Generator[T]:
    """Yield `items`, each made in one thread with database connections of its own while the caller is busy with the one before."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        try:
            following = thread.submit(next, items, end)
            while (item := following.result()) is not end:
                following = thread.submit(next, items, end)
                yield item  # type: ignore[misc]
        finally:
            thread.submit(connections.close_all)
