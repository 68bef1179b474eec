"""A TCP proxy in front of one server that passes, cuts or swallows the traffic, to simulate network failures."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PASS, CUT, SWALLOW = "pass", "cut", "swallow"


class Proxy:
    """`mode` applies to all connections. CUT and SWALLOW begin after `after` more bytes, in either direction.

    CUT closes open connections and refuses new ones; SWALLOW stops reading and answers nothing.
    """

    def __init__(self, url: str, host: str = "127.0.0.1"):
        target = urlsplit(url)
        self.target = (target.hostname or "127.0.0.1", target.port or 0)
        self.listener = socket.create_server((host, 0))
        port = self.listener.getsockname()[1]
        user = target.netloc.rpartition("@")[0]
        self.url = target._replace(netloc=f"{user}@{host}:{port}" if user else f"{host}:{port}").geturl()
        self.mode, self.after = PASS, 0
        self.open: set[socket.socket] = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.listener.close()
        self.cut()

    def set_mode(self, mode: str, after: int = 0) -> None:
        self.after = after
        self.mode = mode

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == CUT and self.after <= 0:
                client.close()
                continue
            server = socket.create_connection(self.target)
            self.open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.forward, args=(source, sink), daemon=True).start()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(16_384):
                self.after -= len(data)
                if self.after < 0 and self.mode == SWALLOW:
                    threading.Event().wait()
                if self.after < 0 and self.mode == CUT:
                    self.cut()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            shut(end)
        self.open -= {source, sink}

    def cut(self) -> None:
        for end in list(self.open):
            shut(end)


def shut(end: socket.socket) -> None:
    """Shut the socket down. While another thread reads it, close() would not be noticed at the other end."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
