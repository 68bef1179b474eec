"""gunicorn's worker of the web process: a request is given a thread once all of it has arrived.

gunicorn's own thread worker reads a request in the thread that answers it: as many clients as there are threads, each of which sends a byte
now and then, would keep all others waiting for ever. Here one loop receives all requests, and nobody's slowness costs a thread.
"""

import errno
import socket
import struct
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from techmarket.http_framing import CONTINUE, Framing, Need

REQUEST_TIMEOUT_S = 20.0  # from a request's first byte to its last: a form of 2.5 MB at 1 Mbit/s
CLOSING_TIMEOUT_S = 2.0  # for a client to read the end of an answer
SWEEP_S = 0.5
CHUNK = 1 << 16
MAX_CONNECTIONS = 500  # of a process, that wait for a request: a process often may open 1 024 files
MAX_BUFFERED = 64 * 1024 * 1024  # bytes of requests that have not arrived in whole
# Of a read or a write in a thread without a byte: a client that reads no answer gives its thread back.
IO_TIMEOUT = struct.pack("ll", int(REQUEST_TIMEOUT_S), 0)
NO_FILES = (errno.EMFILE, errno.ENFILE)


@dataclass
class Waiting:
    """What has arrived of a connection's next request; with `is_over` whatever comes is discarded."""

    deadline: float
    is_over: bool = False
    framing: Framing = field(default_factory=Framing)


class ReceivingWorker(ThreadWorker):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.waiting: dict[TConn, Waiting] = {}  # oldest first
        self.next_sweep = 0.0

    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in NO_FILES and self.waiting:
                self.drop(next(iter(self.waiting)))
            return
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, option, IO_TIMEOUT)
        self.nr_conns += 1
        self.wait_for_request(TConn(self.cfg, client, address, listener.getsockname()), REQUEST_TIMEOUT_S)

    # --- Receiving, in the loop ---

    def wait_for_request(self, conn: TConn, timeout: float, first: bytes = b"") -> None:
        """Wait for a request, of which `first` has come already. Where too many wait, the one that has waited longest is closed."""
        if len(self.waiting) >= MAX_CONNECTIONS:
            self.drop(next(iter(self.waiting)))
        conn.sock.setblocking(False)
        self.waiting[conn] = Waiting(time.monotonic() + timeout)
        self.poller.register(conn.sock, EVENT_READ, partial(self.receive, conn))
        if first:
            self.take(conn, first)

    def receive(self, conn: TConn, client: socket.socket) -> None:
        try:
            chunk = client.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.drop(conn)
        elif not self.waiting[conn].is_over:
            self.take(conn, chunk)

    def take(self, conn: TConn, chunk: bytes) -> None:
        """Add what has arrived, and act on what the request then needs."""
        waiting = self.waiting[conn]
        if not waiting.framing.received:
            waiting.deadline = time.monotonic() + REQUEST_TIMEOUT_S
        match waiting.framing.add(chunk):
            case Need.NOTHING:
                self.hand_over(conn)
            case Need.CONTINUE:
                self.send(conn, CONTINUE)
            case Need.REFUSAL:
                self.send(conn, waiting.framing.refusal)
                self.close_later(conn)
        while sum(len(each.framing.received) for each in self.waiting.values()) > MAX_BUFFERED:
            self.drop(max(self.waiting, key=lambda each: len(self.waiting[each].framing.received)))

    def hand_over(self, conn: TConn) -> None:
        """Give the connection and its request to a thread."""
        received = bytes(self.forget(conn).framing.received)
        conn.init()
        conn.parser.unreader.unread(received)
        conn.data_ready = True
        self.enqueue_req(conn)

    def send(self, conn: TConn, answer: bytes) -> None:
        with suppress(OSError):  # of a few bytes, which the socket takes at once or never
            conn.sock.send(answer)

    # --- The end of an answer, and of connections ---

    def finish_request(self, conn: TConn, answered: "Future[Any]") -> None:
        """Wait for the connection's next request, or close it. gunicorn itself would wait up to two seconds for the client to close it."""
        stays = not answered.cancelled() and answered.exception() is None and answered.result() is True
        if stays and self.alive:
            self.wait_for_request(conn, self.cfg.keepalive, conn.parser.unreader.take_buffered())
        else:
            self.wait_for_request(conn, CLOSING_TIMEOUT_S)
            self.close_later(conn)

    def close_later(self, conn: TConn) -> None:
        """End the answer, and close once the client has read it: an earlier close would take the answer's end away."""
        self.waiting[conn].is_over, self.waiting[conn].deadline = True, time.monotonic() + CLOSING_TIMEOUT_S
        self.waiting[conn].framing = Framing()
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)

    def murder_pending(self) -> None:
        """Close what has waited too long; the loop calls it. A worker that stops waits only for requests that have begun."""
        now = time.monotonic()
        if now < self.next_sweep:
            return
        self.next_sweep = now + SWEEP_S
        for conn, waiting in list(self.waiting.items()):
            if waiting.deadline <= now or not (self.alive or waiting.is_over or waiting.framing.received):
                self.drop(conn)

    def drop(self, conn: TConn) -> None:
        self.forget(conn)
        self.nr_conns -= 1
        conn.close()

    def forget(self, conn: TConn) -> Waiting:
        self.poller.unregister(conn.sock)
        return self.waiting.pop(conn)
