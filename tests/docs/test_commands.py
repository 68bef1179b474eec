"""Every command line of the documents is run, as a reader would after `make demo`; or it stands here with the reason why it is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PASSED_ON, ROOT
from tests.docs.documents import ORIGINALS, Command, commands

# The command, or how it begins where the last character is no letter: why it cannot be run here, and what is tested instead.
NOT_RUN = {
    "make demo": "builds the virtual environment that these tests run in; tests/test_setup.py",
    "make test": "is what runs these tests",
    "make ping": "asks the stack of docker-compose.yml; `ping --databases` is run",
    "make start": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "make start PROFILES=bi": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "python manage.py ping": "fails without workers and beat; `ping --databases` is run",
    "python manage.py ping --json": "fails without workers and beat; `ping --databases` is run",
    "curl -s http://": "asks a server that runs; tests/monitoring asks the same pages",
    "python manage.py createsuperuser": "asks at the terminal",
    "python manage.py runserver": "does not end; tests/browser has a server",
    "docker ": "needs Docker and its images; tests/deploy/test_compose.py, test_containers.py",
    "kubectl ": "needs a cluster; tests/deploy/test_kubernetes.py",
    "./k8s/create-configmaps.sh": "needs a cluster; tests/deploy/test_kubernetes.py",
    "mysql -h ": "needs the stack of docker-compose.yml",
    "psql postgres://": "needs the stack of docker-compose.yml",
    "MYSQL_HOST=": "names a server that is the reader's own; tests/deploy/test_rights.py runs the script",
    "PGHOST=": "names a server that is the reader's own; tests/deploy/test_rights.py runs the script",
}
# What a shell can do in an empty folder.
SHELL = ("for ", "echo ")
# Those of the twins are the same: test_twins.py.
ALL = [command for path in ORIGINALS for command in commands(path)]
PROGRAM = "python manage.py "


def reason(command: Command) -> str | None:
    return next((why for start, why in NOT_RUN.items() if is_one(command, start)), None)


def is_one(command: Command, start: str) -> bool:
    return command.text == start or (not start[-1].isalpha() and command.text.startswith(start))


def test_every_command_is_run_or_excused() -> None:
    unknown = [str(command) for command in ALL if not (reason(command) or command.text.startswith((PROGRAM, *SHELL)))]
    assert not unknown, "run it in tests/docs/test_commands.py, or say there why not"
    assert len(ALL) > 20


def test_no_excuse_is_left_over() -> None:
    assert not [start for start in NOT_RUN if not any(is_one(command, start) for command in ALL)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make demo` leaves behind, with fewer orders."""
    folder = tmp_path_factory.mktemp("shop")
    for arguments in ("migrate_all -v 0", "generate_data --orders 300 --quiet", "run_etl --mode full --quiet"):
        assert run(folder, [sys.executable, "manage.py", *arguments.split()]).returncode == 0
    yield folder
    shutil.rmtree(folder)


def run(folder: Path, command: list[str], cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull}
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("document", ORIGINALS, ids=lambda path: path.name)
def test_commands_of_the_program_work_in_their_order(document: Path, shop: Path) -> None:
    for command in commands(document):
        if command.text.startswith(PROGRAM) and not reason(command):
            result = run(shop, ["sh", "-c", f'"{sys.executable}" {command.text.removeprefix("python ")}'])
            assert result.returncode == 0, f"{command}\n{result.stderr}"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_commands_of_the_shell_work(tmp_path: Path) -> None:
    """Those that fill an .env: each line of it is one variable."""
    script = "\n".join(command.text for command in ALL if command.text.startswith(SHELL))
    assert run(tmp_path, ["sh", "-e", "-c", script], cwd=tmp_path).returncode == 0
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert written["DEBUG"] == "false" and len(written["SECRET_KEY"]) > 50 and len(set(written.values())) == len(written) > 12
