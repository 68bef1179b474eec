"""The cost of a command: wall-clock seconds, CPU seconds, and the peak memory of its largest process."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Failed(Exception):
    """A measured process failed; the message names it and quotes its last output."""


@dataclass(frozen=True)
class Cost:
    wall: float  # s
    cpu: float  # s, of the client's processes, not of the servers
    rss: float  # MB, of the largest of them
    output: str = ""


def measure(command: Sequence[str], env: Mapping[str, str], log: Path, into: Sequence[str] | None = None, code: int = 0) -> Cost:
    """Run `command`, piped into the command `into` where given. Return the cost, with the output of the last of them.

    Raises Failed where one of them ends with another exit code than `code`.
    """
    began = time.monotonic()
    with log.open("wb") as errors:
        first = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        started = [first]
        if into:
            started.append(subprocess.Popen(into, env=env, stdin=first.stdout, stdout=subprocess.PIPE, stderr=errors))
            first.stdout.close()  # type: ignore[union-attr]  # else it would not notice that the other has ended
        output = started[-1].stdout.read()  # type: ignore[union-attr]
        used = [wait_for_usage(process, log, code) for process in started]
    wall = time.monotonic() - began
    return Cost(wall, sum(cpu for cpu, _ in used), max(rss for _, rss in used), output.decode(errors="replace"))


def wait_for_usage(process: "subprocess.Popen[bytes]", log: Path, code: int) -> tuple[float, float]:
    """Wait for the process. Return CPU seconds, its children included, and the peak MB of its largest single process. Raises Failed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        command = Path(str(process.args[0])).name  # type: ignore[index]
        raise Failed(f"{command} ended with {process.returncode}: {last_lines(log)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def last_lines(log: Path) -> str:
    """Return the last three lines of a program's output that say something, without colours, frames of a traceback and passwords."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((" ", "Traceback", "-----"))]
    return mask_passwords(" ".join(lines[-3:]))


def mask_passwords(text: str) -> str:
    """Return the text without the passwords of the addresses in our environment."""
    passwords = {urlsplit(value).password for name, value in os.environ.items() if name.endswith("_URL") and "@" in value}
    for password in passwords - {None, ""}:
        text = text.replace(str(password), "***").replace(unquote(str(password)), "***")
    return text


def add_costs(parts: Sequence[Cost]) -> Cost:
    """Return the cost of parts executed one after another."""
    return Cost(sum(part.wall for part in parts), sum(part.cpu for part in parts), max(part.rss for part in parts))


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure by itself, but the maximum of the memory."""
    return Cost(
        statistics.median(each.wall for each in costs), statistics.median(each.cpu for each in costs), max(each.rss for each in costs)
    )
