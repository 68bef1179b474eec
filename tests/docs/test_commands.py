"""Run every command line of the documents, as after `make demo`, except those listed here with a reason."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from techmarket.commands import ExitCode
from tests.conftest import PASSED_ON, ROOT
from tests.docs.documents import ORIGINALS, Command, find_commands

# Command, or its beginning if the last character is no letter: why it cannot run here, and what tests it instead.
NOT_RUN = {
    "make demo": "builds the virtual environment that these tests run in; tests/test_setup.py",
    "make test": "is what runs these tests",
    "make ping": "needs the stack of docker-compose.yml; `ping --databases` is run",
    "make start": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "make start PROFILES=bi": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "python manage.py ping": "fails without workers and beat; `ping --databases` is run",
    "python manage.py ping --json": "fails without workers and beat; `ping --databases` is run",
    "curl -s http://": "needs a running server; tests/monitoring requests the same pages",
    "make run": "does not end; tests/docs/test_tour.py",
    "python manage.py createsuperuser": "prompts at the terminal; tests/docs/test_tour.py",
    "docker ": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "kubectl ": "needs a cluster; tests/deploy/test_kubernetes.py",
    "./k8s/create-configmaps.sh": "needs a cluster; tests/deploy/test_kubernetes.py",
    "mysql -h ": "needs the stack of docker-compose.yml",
    "psql postgres://": "needs the stack of docker-compose.yml",
    "MYSQL_HOST=": "names the reader's own server; tests/deploy/test_rights.py runs the script",
    "PGHOST=": "names the reader's own server; tests/deploy/test_rights.py runs the script",
}
# Shell commands that run in an empty folder.
SHELL_COMMANDS = ("for ", "echo ")
# Translations have the same commands: test_twins.py.
ALL_COMMANDS = [command for path in ORIGINALS for command in find_commands(path)]
PROGRAM = "python manage.py "


def find_reason(command: Command) -> str | None:
    return next((why for start, why in NOT_RUN.items() if matches(command, start)), None)


def matches(command: Command, start: str) -> bool:
    return command.text == start or (not start[-1].isalpha() and command.text.startswith(start))


def test_every_command_is_run_or_listed() -> None:
    unknown = [
        str(command) for command in ALL_COMMANDS if not (find_reason(command) or command.text.startswith((PROGRAM, *SHELL_COMMANDS)))
    ]
    assert not unknown, "run it in tests/docs/test_commands.py, or add it to NOT_RUN with a reason"
    assert len(ALL_COMMANDS) > 20


def test_every_listed_command_is_in_a_document() -> None:
    assert not [start for start in NOT_RUN if not any(matches(command, start) for command in ALL_COMMANDS)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set up the result of `make demo`, with fewer orders."""
    folder = tmp_path_factory.mktemp("shop")
    for arguments in ("migrate_all -v 0", "generate_data --orders 300 --quiet", "run_etl --mode full --quiet"):
        assert run(folder, [sys.executable, "manage.py", *arguments.split()]).returncode == 0
    yield folder
    shutil.rmtree(folder)


def run(folder: Path, command: list[str], cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull}
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("document", ORIGINALS, ids=lambda path: path.name)
def test_management_commands_work_in_order(document: Path, shop: Path) -> None:
    """A run that is accepted by the next command has been stopped by the brakes; there the number of the run is this shop's."""
    commands = [each for each in find_commands(document) if each.text.startswith(PROGRAM) and not find_reason(each)]
    stopped = ""
    for command, following in zip_longest(commands, commands[1:]):
        text = re.sub(r"--resume \d+ --accept", f"--resume {stopped} --accept", command.text.removeprefix("python "))
        result = run(shop, ["sh", "-c", f'"{sys.executable}" {text}'])
        is_stopped = following is not None and "--accept" in following.text
        assert result.returncode == (ExitCode.REFUSED if is_stopped else 0), f"{command}\n{result.stderr}"
        stopped = result.stdout.split(":")[0].removeprefix("Run ") if is_stopped else ""


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_shell_commands_work(tmp_path: Path) -> None:
    """Shell commands that write an .env file with one variable per line."""
    script = "\n".join(command.text for command in ALL_COMMANDS if command.text.startswith(SHELL_COMMANDS))
    assert run(tmp_path, ["sh", "-e", "-c", script], cwd=tmp_path).returncode == 0
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert written["DEBUG"] == "false" and len(written["SECRET_KEY"]) > 50 and len(set(written.values())) == len(written) > 12
