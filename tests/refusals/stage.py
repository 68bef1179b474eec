"""Where the cases happen: a loaded shop in SQLite files, copies of it to damage, and a web server as in production."""

import itertools
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from html import unescape
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests import prepared
from tests.refusals.case import FOLDER, SECRET, Case, Kind, Request, Result

ROOT = prepared.MANAGE.parent
TIMEOUT_S = 120.0
FILES = ("control", "dwh", "auth", "catalog", "orders", "payments")
KEY = f"{SECRET}-k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
# Secrets that every case has, so that any of its outputs could show one.
SECRETS = {
    "SECRET_KEY": KEY,
    "METRICS_TOKEN": f"{SECRET}-token-8d1f0c7b2a9e4d63",
    "METABASE_USER": "admin@example.com",
    "METABASE_PASS": f"{SECRET}-metabase-1",
    "NOTIFY_URL": f"https://127.0.0.1:9/hooks/{SECRET}",
    "DWH_BI_URL": f"postgres://bi_reader:{SECRET}@127.0.0.1:9/dwh",
}
# Those of servers, where no database is asked.
SERVERS = {
    "CONTROL_DB_URL": f"postgres://control:{SECRET}@127.0.0.1:9/control",
    "DWH_URL": f"postgres://dwh:{SECRET}@127.0.0.1:9/dwh",
    "ORDERS_DB_URL": f"mysql://orders:{SECRET}@127.0.0.1:9/orders",
    "CELERY_BROKER_URL": f"redis://:{SECRET}@127.0.0.1:9/0",
}
ADMINISTRATOR = "admin"


def passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in prepared.PASSED_ON if name in os.environ}


class Stage:
    """Runs cases. The shop is made when the first case needs it, and so is the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        self._shop: Shop | None = None
        self._server: Server | None = None

    @property
    def shop(self) -> "Shop":
        self._shop = self._shop or Shop(self.folder / "shop")
        return self._shop

    @property
    def server(self) -> "Server":
        self._server = self._server or Server(self.shop)
        return self._server

    def prepare(self) -> None:
        """Make everything now, so that cases may run in threads."""
        assert self.server

    def close(self) -> None:
        if self._server:
            self._server.close()
        if self._shop:
            self._shop.close()

    def run(self, case: Case) -> Result:
        """Run one case in a folder of its own."""
        if case.request:
            return self.server.ask(case.request)
        folder = self.folder / f"case{next(self.numbers)}"
        folder.mkdir()
        env = self.prepare_folder(case, folder) | {name: value.replace(FOLDER, str(folder)) for name, value in case.env.items()}
        arguments = [argument.replace(FOLDER, str(folder)) for argument in case.arguments]
        with self.shop.unchanged() if case.kind == Kind.COMMAND else nullcontext():
            return run_program(arguments, env) if case.kind in (Kind.PROGRAM, Kind.SHELL) else run_manage(arguments, env)

    def prepare_folder(self, case: Case, folder: Path) -> dict[str, str]:
        """Write what the case needs into its folder, and return the environment that is around it."""
        env = SECRETS | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull}
        if case.kind in (Kind.SETTING, Kind.PROGRAM):
            return env | SERVERS
        if case.kind == Kind.FILE:
            (folder / "env").write_bytes(case.content)
            return {"VAR_DIR": str(folder), "SECRET_KEY": KEY}
        if case.kind == Kind.VALUE_FILE:
            (folder / "value").write_bytes(case.content)
            return {name: value for name, value in (env | SERVERS).items() if f"{name}_FILE" not in case.env}
        if case.kind == Kind.COMMAND:
            return env | {"VAR_DIR": str(self.shop.folder)}
        self.shop.copy_to(folder)
        if case.damage:
            case.damage(folder)
        return env


def run_manage(arguments: list[str], env: dict[str, str]) -> Result:
    if prepared.can_run(env, {}):
        result = prepared.run(*arguments, env=passed_on() | env, cwd=ROOT, timeout=TIMEOUT_S)
        return Result(result.returncode, result.stdout, result.stderr)
    return run_program([sys.executable, "manage.py", *arguments], env)


def run_program(arguments: list[str], env: dict[str, str]) -> Result:
    """Run a program with this Python's folder first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        arguments, cwd=ROOT, env=passed_on() | {"PATH": path} | env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
    )
    return Result(result.returncode, result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace"))


class Shop:
    """Six SQLite files with a loaded warehouse, an administrator, and changes that no run has loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.env = SECRETS | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull}
        account = {"DJANGO_SUPERUSER_PASSWORD": f"{SECRET}-of-the-admin"}
        for command in (
            "migrate_all -v 0",
            "generate_data --quiet",
            "run_etl --quiet",
            "generate_data --changes 30 --quiet",
            f"createsuperuser --noinput --username {ADMINISTRATOR} --email {ADMINISTRATOR}@example.com",
        ):
            result = run_manage(command.split(), self.env | account)
            assert result.code == 0, result.err
        self.connections = [sqlite3.connect(folder / f"{name}.sqlite3", check_same_thread=False) for name in FILES]

    def copy_to(self, folder: Path) -> None:
        for name in FILES:
            with closing(sqlite3.connect(folder / f"{name}.sqlite3")) as target:
                self.connections[FILES.index(name)].backup(target)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Assert that nothing inside writes to a database: what is refused at once leaves no trace."""
        before = self.versions()
        yield
        assert self.versions() == before, "a database was written"

    def versions(self) -> list[int]:
        return [connection.execute("PRAGMA data_version").fetchone()[0] for connection in self.connections]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: str


class Server:
    """gunicorn with DEBUG=false and one signed-in administrator, whose requests are sent byte by byte as they are typed."""

    def __init__(self, shop: Shop) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = shop.folder / "web.log"
        env = {"DEBUG": "false", "ALLOWED_HOSTS": "127.0.0.1", "SECURE_SSL_REDIRECT": "false", "LOG_FORMAT": "console"}
        env["COSTLY_REQUESTS_PER_MINUTE"] = "1000"
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--no-control-socket", "--threads", "2"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "techmarket.wsgi"], cwd=ROOT, env=passed_on() | shop.env | env, stdout=log, stderr=log
            )
        self.cookies: dict[str, str] = {}
        self.wait()
        self.sign_in()

    def wait(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.read_log()
                time.sleep(0.1)

    def sign_in(self) -> None:
        self.send(Request("GET", "/admin/login/"))
        form = {"username": ADMINISTRATOR, "password": f"{SECRET}-of-the-admin", "next": "/admin/"}
        assert self.send(Request("POST", "/admin/login/", form)).status == 302

    def ask(self, request: Request) -> Result:
        """Return the status of the first answer and the text of the last one; and as stderr what the server logged, and the whole page."""
        start = len(self.read_log())
        first = answer = self.send(request)
        for _ in range(3):
            location = answer.headers.get("location", "")
            if not location.startswith("/"):
                break
            answer = self.send(Request("GET", location, anonymous=request.anonymous))
        text = f"Allow: {first.headers.get('allow')}" if first.status == HTTPStatus.METHOD_NOT_ALLOWED else to_text(answer.content)
        return Result(first.status, text, self.read_log()[start:] + answer.content)

    def send(self, request: Request) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection._validate_path = lambda url: None  # type: ignore[attr-defined]  # as it is typed
        connection._encode_request = lambda text: text.encode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
        body = urlencode(request.form).encode() if request.form is not None else request.body
        headers = {"Accept-Language": "en"}
        if not request.anonymous:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers["X-CSRFToken"] = self.cookies.get("csrftoken", "")
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers |= request.headers
        with closing(connection):
            connection.putrequest(request.method, request.target, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or request.method == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            content = response.read().decode(errors="replace")
        if not request.anonymous:
            self.take_cookies(response)
        found = {name.lower(): value for name, value in response.getheaders()}
        if "location" in found:
            parts = urlsplit(found["location"])
            found["location"] = parts._replace(scheme="", netloc="").geturl()
        return Answer(response.status, found, content)

    def take_cookies(self, response: HTTPResponse) -> None:
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                cookie, _, content = value.partition(";")[0].partition("=")
                self.cookies[cookie] = content

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def to_text(page: str) -> str:
    """Return the text of a page, without tags, scripts and styles, with single spaces."""
    bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(bare).split())


def find_faults(case: Case, result: Result) -> list[str]:
    """Return what is wrong with the answer to a bad input; nothing where it is refused as the row promises."""
    shown = result.out + result.err
    found = [
        (result.code != case.code, f"code {result.code} instead of {case.code}"),
        ("Traceback" in shown, "a traceback"),
        (SECRET in shown, "a secret"),
        ("This is a bug" in shown, "an unexpected error"),
    ]
    if case.kind == Kind.PAGE:
        found += [(case.text not in result.out, "another text"), (result.code >= 500, "an error of the server")]
    else:
        found += [
            (case.text not in result.err, "another sentence"),
            (result.err.count("\n") != 1 or not result.err.endswith("\n"), f"{result.err.count(chr(10))} lines"),
        ]
    return [text for is_wrong, text in found if is_wrong]
