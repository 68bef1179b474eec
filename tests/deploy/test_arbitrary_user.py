"""The roles of the image as a user without a name or a home, with read-only files: started for real, in namespaces of their own."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

UNSHARE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def unshare() -> list[str]:
    """Return the command that gives a process mounts of its own, and ends every process that it starts."""
    if os.geteuid() != 0 or not shutil.which("setpriv") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs root with the right to mount, unshare and setpriv")
    return UNSHARE


@pytest.mark.process
@pytest.mark.once
def test_roles_start_as_any_user_of_group_0(unshare: list[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    script = Path(__file__).with_name("as_container.sh")
    command = [*unshare, "sh", script, ROOT, sys.prefix, sys.base_prefix, port]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, (result.stdout, result.stderr)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["no name", "read-only"]
    assert [line for line in lines if line.endswith(": alive")] == ["web: alive", "worker: alive", "beat: alive"], result.stdout
    assert re.match(r"(\d[\d ]+) of \1 days are equal\.", lines[-1]), lines[-1]
    assert "Traceback" not in result.stdout + result.stderr
