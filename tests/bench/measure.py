"""What a process costs: seconds, CPU seconds, and the most memory that any of its processes held at once."""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class Failed(Exception):
    """A measured process did not do its work; the message says which, and what it said."""


@dataclass(frozen=True)
class Cost:
    wall: float  # s
    cpu: float  # s, of the client's processes, not of the servers
    rss: float  # MB, of the largest of them
    said: str = ""


def cost(command: Sequence[str], env: Mapping[str, str], log: Path, into: Sequence[str] | None = None) -> Cost:
    """Runs `command`, piped into the command `into` where there is one. What the last of them printed comes along."""
    began = time.monotonic()
    with log.open("wb") as errors:
        first = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        started = [first]
        if into:
            started.append(subprocess.Popen(into, env=env, stdin=first.stdout, stdout=subprocess.PIPE, stderr=errors))
            first.stdout.close()  # type: ignore[union-attr]  # else it would not hear of the other's end
        said = started[-1].stdout.read()  # type: ignore[union-attr]
        used = [ended(process, log) for process in started]
    wall = time.monotonic() - began
    return Cost(wall, sum(cpu for cpu, _ in used), max(rss for _, rss in used), said.decode(errors="replace"))


def ended(process: "subprocess.Popen[bytes]", log: Path) -> tuple[float, float]:
    """CPU seconds and peak MB, children that it has waited for included (of the memory the largest single process)."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise Failed(f"{Path(str(process.args[0])).name} ended with {process.returncode}: {' '.join(said)}")  # type: ignore[index]
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def together(parts: Sequence[Cost]) -> Cost:
    """One after the other."""
    return Cost(sum(part.wall for part in parts), sum(part.cpu for part in parts), max(part.rss for part in parts))


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure by itself, but the memory: that is the worst."""
    return Cost(
        statistics.median(each.wall for each in costs), statistics.median(each.cpu for each in costs), max(each.rss for each in costs)
    )
