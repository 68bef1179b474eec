"""Run `manage.py` in processes forked from one that has loaded the libraries, which takes nine tenths of a start.

Each process has its own environment, settings, folder, output and exit code; nothing of TechMarket is loaded before the fork. A test
that sends a signal, closes a stream or sets a locale needs a real start, by `subprocess`.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
LIBRARIES = (
    *("pandas", "pyarrow.compute", "psycopg", "MySQLdb", "redis", "environ", "structlog.dev", "coverage"),
    *("django.core.management", "django.db.models", "django.http", "django.template", "django.forms", "django.urls"),
    *("celery", "celery.app.amqp", "kombu.entity", "kombu.transport.redis", "kombu.transport.filesystem"),
)
# Variables that a process needs and that do not concern TechMarket.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_FILE", "COVERAGE_PROCESS_CONFIG")
LARGEST = 200_000  # bytes of arguments and environment
# Python and the C library read these once, before any code of ours.
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")


def can_run(env: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Return True if a forked process behaves like a started one: no options of Popen, no variables that are read only at the start."""
    return not options and not any(name.startswith(READ_AT_START) for name in env)


def run(*args: str, env: Mapping[str, str], cwd: Path, timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run `manage.py` to its end and return the result as `subprocess.run` does, with the output decoded as UTF-8."""
    global server
    if server is None:
        server = Server()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = server.run({"args": args, "env": dict(env), "cwd": str(cwd)}, out, err, timeout)
        return subprocess.CompletedProcess([sys.executable, str(MANAGE), *args], code, text(out), text(err))


def text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class Server:
    """The tests' end of the process that forks."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
        # No threads before a fork, and no coverage here: the children measure themselves.
        fork_safe = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
        env = os.environ | fork_safe | {"COVERAGE_PROCESS_CONFIG": ""}
        command = [sys.executable, __file__, str(theirs.fileno())]
        self.process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        atexit.register(self.stop)

    def run(self, job: dict[str, Any], out: IO[bytes], err: IO[bytes], timeout: float) -> int:
        reader, writer = os.pipe()
        with os.fdopen(reader, encoding="ascii") as answers:
            try:
                socket.send_fds(self.socket, [json.dumps(job).encode()], [out.fileno(), err.fileno(), writer])
            finally:
                os.close(writer)
            pid = int(answers.readline())
            if not select.select([reader], [], [], timeout)[0]:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(job["args"], timeout, text(out), text(err))
            return int(answers.readline())

    def stop(self) -> None:
        self.socket.close()
        self.process.wait()


server: Server | None = None


# --- The process that forks ---


def serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for each job until the tests close the connection; return the job in the process that is to execute it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            return supervise(cast(dict[str, Any], json.loads(message)), files)
        for file in files:
            os.close(file)


def supervise(job: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Fork once more: the parent reports the process's id and exit code to the tests, as `subprocess` would know them."""
    out, err, answers = files
    pid = os.fork()
    if pid:
        os.close(out)
        os.close(err)
        os.write(answers, b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, b"%d\n" % code)
        os._exit(0)
    os.close(answers)
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file, number)
        os.close(file)
    return job


def become(job: dict[str, Any]) -> None:
    """Run `manage.py` in this process, as if it had just been started."""
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    time.tzset()
    cast(Any, sys.stdout).reconfigure(encoding="utf-8", line_buffering=False)
    cast(Any, sys.stderr).reconfigure(encoding="utf-8")
    sys.argv = [str(MANAGE), *job["args"]]
    sys.path[0] = str(MANAGE.parent)
    if os.environ.get("COVERAGE_PROCESS_CONFIG"):
        import coverage

        coverage.process_startup()
    runpy.run_path(str(MANAGE), run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES:
        import_module(library)
    gc.collect()
    gc.freeze()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
