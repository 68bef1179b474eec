"""Slow and oversized clients against gunicorn as the image starts it: whatever they do, others are answered within a second or two."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from techmarket.web_worker import MAX_CONNECTIONS
from tests.conftest import PASSED_ON, ROOT

pytestmark = pytest.mark.process
KEY = "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
PROCESSES, THREADS = 2, 4
CLIENTS = 4 * PROCESSES * THREADS  # at once: several times the threads
CONNECTIONS = (PROCESSES + 1) * MAX_CONNECTIONS
ANSWERED_S = 2.0
MEASUREMENTS = 20
HEAD = b"POST /healthz HTTP/1.1\r\nHost: etl.example.com\r\n"
Slow = Callable[[socket.socket], None]


class Web:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
            "VAR_DIR": str(folder),
            "ENV_FILE": os.devnull,
            "DEBUG": "false",
            "ALLOWED_HOSTS": "etl.example.com",
            "SECRET_KEY": KEY,
            "SECURE_SSL_REDIRECT": "false",
            "WEB_CONCURRENCY": str(PROCESSES),
            "COVERAGE_PROCESS_CONFIG": "",
        }
        command = [str(Path(sys.executable).parent / "gunicorn"), "--config", "deploy/gunicorn.conf.py"]
        self.log = folder / "web.log"
        with self.log.open("w") as log:
            bind = ["--bind", f"127.0.0.1:{self.port}", "techmarket.wsgi"]
            self.process = subprocess.Popen([*command, *bind], cwd=ROOT, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self.is_up():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def is_up(self) -> bool:
        with suppress(OSError):
            return self.ask()[0] == 200
        return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def ask(self, path: str = "/healthz") -> tuple[int, float]:
        """Return the status of a well-behaved request, and the seconds that it took."""
        began = time.monotonic()
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", path, headers={"Host": "etl.example.com"})
            return connection.getresponse().status, time.monotonic() - began

    def send(self, *parts: bytes) -> bytes:
        """Send the parts, and return all that comes back."""
        with closing(self.connect()) as client:
            received = b""
            with suppress(ConnectionError):
                for part in parts:
                    client.sendall(part)
                while chunk := client.recv(65_536):
                    received += chunk
            return received


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    web = Web(tmp_path_factory.mktemp("web"))
    yield web
    web.process.send_signal(signal.SIGTERM)
    web.process.wait(60)


def drip(head: bytes, rest: bytes) -> Slow:
    """Return a client that sends `head` at once and then `rest` byte by byte."""

    def send(client: socket.socket) -> None:
        client.sendall(head)
        for number in range(len(rest)):
            client.sendall(rest[number : number + 1])
            time.sleep(0.2)

    return send


def answered(head: bytes) -> Slow:
    """Return a client that has one request answered, has begun another in the same packet, and waits."""
    return lambda client: client.sendall(b"GET /healthz HTTP/1.1\r\nHost: etl.example.com\r\n\r\n" + head)


SLOW: dict[str, Slow] = {
    "idle": lambda client: None,
    "request line byte by byte": drip(b"", HEAD * 9),
    "headers byte by byte": drip(HEAD, b"X-A: b\r\n" * 99),
    "body byte by byte": drip(HEAD + b"Content-Length: 1000\r\n\r\n", b"x" * 999),
    "chunks byte by byte": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 99),
    "second request unfinished": answered(b"GET /healthz HT"),
    "second body unfinished": answered(HEAD + b"Content-Length: 9\r\n\r\nx"),
    "asks to close and does not": lambda client: client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n"),
}


@pytest.mark.parametrize("how", list(SLOW))
def test_others_are_answered_beside_slow_clients(web: Web, how: str) -> None:
    def attack(client: socket.socket) -> None:
        with suppress(OSError):
            SLOW[how](client)

    with ExitStack() as stack:
        clients = [stack.enter_context(closing(web.connect())) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=attack, args=(client,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        times = sorted(seconds for status, seconds in (web.ask() for _ in range(MEASUREMENTS)) if status == 200)
        print(f"{how}: {CLIENTS} clients; median {times[len(times) // 2]:.3f} s, slowest {times[-1]:.3f} s")
    assert len(times) == MEASUREMENTS and times[-1] < ANSWERED_S


def test_many_idle_connections_do_not_keep_others_out(web: Web) -> None:
    """More than the processes let wait: the oldest are closed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(closing(web.connect()))
        assert max(web.ask()[1] for _ in range(MEASUREMENTS)) < ANSWERED_S


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (b"400", b"414")),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", (b"400", b"431")),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", (b"400", b"431")),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, (b"431",)),
        (HEAD + b"Content-Length: 999999999999\r\n\r\n", (b"413",)),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", (b"400",)),
        (HEAD + b"Content-Length: -5\r\n\r\n", (b"400",)),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (b"400",)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", (b"400", b"405")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (b"400",)),
        (b"GET / HTTP/1.1\r\nX\x00: a\r\nHost: a\nb\r\n\r\n", (b"400",)),
        (b"GET / HTTP/9.9\r\n\r\n", (b"400", b"505")),
    ],
    ids=str,
)
def test_oversized_and_damaged_requests_are_refused(web: Web, request_bytes: bytes, statuses: tuple[bytes, ...]) -> None:
    answer = web.send(request_bytes)
    assert answer.split(b" ")[1] in statuses and b"Traceback" not in answer, answer[:200]
    assert web.ask()[0] == 200


def test_body_waits_for_leave_and_requests_follow_each_other(web: Web) -> None:
    form = b"username=x&password=y"
    with closing(web.connect()) as client:
        client.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(form))
        assert client.recv(1_000).startswith(b"HTTP/1.1 100 ")
        client.sendall(form)
        answer = b""
        while b" 405 " not in answer:  # gunicorn gives leave again, which a client passes over
            answer += (chunk := client.recv(10_000))
            assert chunk, answer
    both = web.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert both.count(b"alive\n") == 2
    chunked = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 405 " in web.send(chunked, b"5\r\nhello\r\n", b"0\r\n\r\n")


def test_stopping_does_not_wait_for_idle_clients(tmp_path: Path) -> None:
    web = Web(tmp_path)
    with closing(web.connect()), closing(web.connect()) as begun:
        begun.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        time.sleep(0.5)
        began = time.monotonic()
        web.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        begun.sendall(b"\r\n")
        assert b" 200 " in begun.recv(1_000), "a request that has begun is still answered"
        assert web.process.wait(60) == 0 and time.monotonic() - began < 10
