"""The next one is made while this one is being used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def ahead[T](items: Iterator[T]) -> Iterator[T]:
    """`items`, each made in a thread of its own (with connections of its own) while the caller is busy with the one before."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item  # type: ignore[misc]
        finally:
            thread.submit(connections.close_all)
