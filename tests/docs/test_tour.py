"""The tour of README, as a newcomer types it after `make demo`: what comes is what is printed, in both languages.

In a printed sample a line `...` stands for any lines, and `...` at the end of a line for its rest. Seconds are those of any machine:
`0.3 s` equals `12 s`. Everything else is compared letter by letter: the demo shop is always the same, and holds no date of today.
"""

import http.cookiejar
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest

from techmarket.commands import ExitCode
from tests.conftest import PASSED_ON, ROOT
from tests.docs.documents import DOCUMENTS, Sample, find_samples

pytestmark = pytest.mark.process
READMES = [ROOT / "README.md", ROOT / "README.uk.md"]
# What `make demo` runs: its recipe in the Makefile.
DEMO = tuple(
    re.findall(r"^\t\$\(MANAGE\) (.+?)(?: && \\)?$", (ROOT / "Makefile").read_text().split("\ndemo:")[1].split("\n\n")[0], re.MULTILINE)
)
# Commands of the tour that do not end by themselves, or read from the terminal: `test_admin_of_the_tour` executes them.
IN_THE_ADMIN = ("python manage.py createsuperuser", "make run")
# Printed samples elsewhere, and what proves them.
PROVED_ELSEWHERE = {"curl -s http://127.0.0.1:8000/readyz": "tests/monitoring/test_readyz.py"}
SECONDS = re.compile(r"\b\d+(?:\.\d+)? s\b")
NAME, PASSWORD = "newcomer", "a-password-of-the-tour"
DEADLINE_S = 120.0
LOG = "make-run.log"  # of web, worker and beat


def make_environment(folder: Path) -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull}


def run(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line as a shell does, with the errors between the output as on a terminal."""
    program, *arguments = shlex.split(command)
    assert program == "python", command
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=make_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a shop as `make demo` leaves it, after the tour's commands have run in it."""
    folder = tmp_path_factory.mktemp("demo")
    for command in DEMO:
        result = run(folder, f"python manage.py {command}")
        assert result.returncode == 0, result.stdout
    return folder


# --- The rule of comparison ---


def matches(expected: Sequence[str], lines: Sequence[str]) -> bool:
    """Return True if the lines are those of a sample."""
    pattern = "\n".join(line_pattern(line) for line in expected)
    # A line `...` takes any number of whole lines.
    pattern = re.sub(r"(^|\n)<lines>(?=\n|$)", lambda found: r"(?:\n[^\n]*)*" if found[1] else r"[^\n]*(?:\n[^\n]*)*", pattern)
    return re.fullmatch(pattern, "\n".join(normalize(line) for line in lines)) is not None


def line_pattern(line: str) -> str:
    if line.strip() == "...":
        return "<lines>"
    start = line.removesuffix("...")
    return re.escape(normalize(start)) + (r"[^\n]*" if start != line else "")


def normalize(line: str) -> str:
    return SECONDS.sub("0 s", line)


@pytest.mark.parametrize(
    ("expected", "lines", "equal"),
    [
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "d"], True),
        (["a", "..."], ["a"], True),
        (["...", "d"], ["a", "d"], True),
        (["a", "d"], ["a", "b", "d"], False),
        (["a"], ["a", "b"], False),
        (["changes from ..."], ["changes from 2026-01-31 to now"], True),
        (["...", "took 0.3 s."], ["x", "took 12 s."], True),
        (["took 0.3 s, 5 rows"], ["took 0.3 s, 6 rows"], False),
        (["5 sales"], ["6 sales"], False),
        (["a.c"], ["abc"], False),
    ],
)
def test_rule_of_comparison(expected: list[str], lines: list[str], equal: bool) -> None:
    assert matches(expected, lines) is equal


# --- The commands ---


def test_demo_is_the_recipe_of_the_makefile() -> None:
    assert DEMO[0] == "migrate_all" and DEMO[-1] == "kpis" and len(DEMO) == 6


def test_every_printed_sample_is_compared() -> None:
    printed = [sample for path in DOCUMENTS if path not in READMES for sample in find_samples(path) if sample.output]
    assert {sample.command.text for sample in printed} == set(PROVED_ELSEWHERE)
    assert all((ROOT / where).is_file() for where in PROVED_ELSEWHERE.values())


def test_tour_prints_what_comes(demo: Path) -> None:
    """Both documents have the same blocks (test_twins.py), so the commands run once."""
    tour, twin = map(find_samples, READMES)
    assert [(sample.command.text, sample.output) for sample in twin] == [(sample.command.text, sample.output) for sample in tour]
    assert sum(bool(sample.output) for sample in tour) >= 5
    for sample in tour:
        if sample.command.text not in IN_THE_ADMIN:
            check_sample(sample, demo)


def check_sample(sample: Sample, folder: Path) -> None:
    result = run(folder, sample.command.text)
    stopped = any(line.startswith("Stopped before publishing") for line in sample.output)
    assert result.returncode == (ExitCode.REFUSED if stopped else ExitCode.DONE), f"{sample.command}\n{result.stdout}"
    assert matches(sample.output, result.stdout.splitlines()), f"{sample.command}\n{result.stdout}"


# --- The admin ---


@pytest.fixture
def site(demo: Path) -> Iterator["Site"]:
    """Create the account at a terminal, start `make run`, and yield the admin as it answers to that account."""
    create_account(demo)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with make_run(demo, port):
        yield Site(f"http://127.0.0.1:{port}", demo / LOG)


def create_account(folder: Path) -> None:
    """Answer the questions of createsuperuser in a terminal: name, no e-mail address, password twice."""
    terminal, end = pty.openpty()
    command = [sys.executable, "manage.py", "createsuperuser"]
    with subprocess.Popen(
        command, cwd=ROOT, env=make_environment(folder), stdin=end, stdout=end, stderr=end, start_new_session=True
    ) as process:
        os.close(end)
        seen = ""
        for question, answer in (("sername", NAME), ("mail", ""), ("assword:", PASSWORD), ("again", PASSWORD)):
            seen = read_until(terminal, question)
            os.write(terminal, f"{answer}\n".encode())
        seen = read_until(terminal, "created successfully")
        assert process.wait(DEADLINE_S) == 0, seen
    os.close(terminal)


def read_until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 1024).decode()
    return seen


@contextmanager
def make_run(folder: Path, port: int) -> Iterator[None]:
    """Run the target, without its prerequisite that installs packages, and stop it as Ctrl-C does."""
    environment = os.path.relpath(Path(sys.executable).parent.parent, ROOT)
    command = ["make", "--old-file=setup", f"VENV={environment}", "run"]
    env = make_environment(folder) | {"WEB_PORT": str(port)}
    with (
        (folder / LOG).open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(DEADLINE_S)


class Site:
    """The pages of the admin, as a browser without scripts sees them."""

    def __init__(self, address: str, log: Path):
        self.address, self.log = address, log
        self.cookies = http.cookiejar.CookieJar()
        self.opener: OpenerDirector = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> tuple[str, str]:
        """Return the address that answered in the end, and the page."""
        return self.open(path, None)

    def submit(self, path: str, **fields: str) -> tuple[str, str]:
        token = next(cookie.value or "" for cookie in self.cookies if cookie.name == "csrftoken")
        return self.open(path, urlencode(fields | {"csrfmiddlewaretoken": token}).encode())

    def open(self, path: str, content: bytes | None) -> tuple[str, str]:
        with self.opener.open(self.address + path, content, timeout=60) as answer:
            return answer.url.removeprefix(self.address), answer.read().decode()

    def wait_for(self, path: str, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with suppress(URLError, ConnectionError):
                page = self.get(path)[1]
                if condition(page):
                    return page
            time.sleep(0.3)
        raise AssertionError(f"{path} does not show what is expected within {DEADLINE_S:.0f} s\n{self.log.read_text()}")


def test_admin_of_the_tour(site: Site) -> None:
    """Log in, click Run now, then Preview changes: what `make run` has started executes it."""
    site.wait_for("/", lambda page: "password" in page)
    landed, page = site.submit("/admin/login/?next=/admin/", username=NAME, password=PASSWORD)
    assert landed == "/admin/" and "/admin/orchestration/run/start/" in page
    assert "Preview changes" in site.get("/admin/orchestration/run/start/")[1]
    preview, _ = site.submit("/admin/orchestration/run/start/", mode="full", preview="1")
    assert re.fullmatch(r"/admin/orchestration/run/\d+/preview/", preview)
    page = site.wait_for(preview, lambda page: "every 2s" not in page)
    assert "Net revenue by month" in page and "No worker has taken this run yet" not in page
