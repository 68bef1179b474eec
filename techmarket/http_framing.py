"""Where an HTTP request ends: its head at an empty line, its body by length or by its last chunk. gunicorn parses it afterwards."""

import re
from dataclasses import dataclass, field
from enum import Enum, auto

MAX_HEAD = 64 * 1024  # bytes; gunicorn's own limits of a line and of a header are smaller
MAX_BODY = 4 * 1024 * 1024  # bytes; Django itself refuses a form of more than 2.5 MB
END_OF_HEAD, LAST_CHUNK = b"\r\n\r\n", b"0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
REFUSAL = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
HEAD_TOO_LARGE, BODY_TOO_LARGE = REFUSAL % b"431 Request Header Fields Too Large", REFUSAL % b"413 Content Too Large"


class Need(Enum):
    NOTHING = auto()  # the request is there
    MORE = auto()
    CONTINUE = auto()  # the client waits for leave to send its body
    REFUSAL = auto()


@dataclass
class Framing:
    """What has arrived of a request. `head`: the length of its head once it has ended; `body`: that of its body, None for chunks."""

    received: bytearray = field(default_factory=bytearray)
    head: int = 0
    body: int | None = 0
    refusal: bytes = b""

    def add(self, chunk: bytes) -> Need:
        searched = max(0, len(self.received) - len(END_OF_HEAD))
        self.received += chunk
        if not self.head:
            end = self.received.find(END_OF_HEAD, searched)
            if end < 0:
                return self.refuse(HEAD_TOO_LARGE) if len(self.received) > MAX_HEAD else Need.MORE
            return self.read_head(end)
        return self.measure()

    def read_head(self, end: int) -> Need:
        self.head = end + len(END_OF_HEAD)
        head = bytes(self.received[: self.head])
        self.body = None if CHUNKED.search(head) else max((int(length) for length in LENGTH.findall(head)), default=0)
        need = self.measure()
        return Need.CONTINUE if need == Need.MORE and EXPECTS.search(head) else need

    def measure(self) -> Need:
        arrived = len(self.received) - self.head
        if max(self.body or 0, arrived if self.body is None else 0) > MAX_BODY:
            return self.refuse(BODY_TOO_LARGE)
        is_whole = self.received.endswith(LAST_CHUNK) if self.body is None else arrived >= self.body
        return Need.NOTHING if is_whole else Need.MORE

    def refuse(self, answer: bytes) -> Need:
        self.refusal = answer
        return Need.REFUSAL
