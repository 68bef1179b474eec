"""Signals that arrive while Arrow works: none is lost."""

import io
import signal
from types import FrameType

import pyarrow.csv as csv

from apps.etl.extract import columns  # noqa: F401  sets whether Arrow handles signals


class Interrupted(io.BytesIO):
    """A file that sends this process SIGTERM at each read."""

    def read(self, size: int | None = -1, /) -> bytes:
        signal.raise_signal(signal.SIGTERM)
        return super().read(size)


def test_arrow_leaves_signals_to_our_handler() -> None:
    """Its CSV reader replaced the handlers: a run whose SIGTERM arrived in there went on to its end, and succeeded."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, receive)
    try:
        table = csv.read_csv(Interrupted(b"1,2\n3,4"), csv.ReadOptions(column_names=["a", "b"], use_threads=False))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert table.to_pydict() == {"a": [1, 3], "b": [2, 4]}
    assert received and set(received) == {signal.SIGTERM}
