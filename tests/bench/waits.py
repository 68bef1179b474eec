"""`--lock`: how long a reader of each table waits at worst while loads are published."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from tests.bench import harness, ours
from tests.bench.measure import Failed, last_lines
from tests.bench.peers import STAR
from tests.bench.printing import Report, draw_targets, log, report, screen
from tests.bench.publication import watch_publication
from tests.bench.targets import LOCK_TARGETS

TABLES = (*STAR, "etl_load")
NO_TABLE = "no table"  # a reader that waits for the machine alone
QUIET, QUIET_S = "quiet", 5.0
STOP_TIMEOUT_S = 30.0
Sample = tuple[float, float]  # when a statement began, by the machine's monotonic clock, and its seconds


@dataclass
class Phase:
    """A stretch of time, and the longest wait of each reader in it, in seconds."""

    name: str
    began: float
    ended: float = 0.0
    publication: float | None = None  # s, of the longest publishing transaction
    waits: dict[str, float] = field(default_factory=dict)

    def longest_wait(self, samples: Sequence[Sample]) -> float:
        """Return the longest of the statements that were under way in this phase, in seconds; 0 where there was none."""
        return max((seconds for began, seconds in samples if began < self.ended and began + seconds > self.began), default=0.0)


def measure_waits(orders: int, rounds: int) -> Report:
    log(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    phases = [phase for number in range(rounds) for phase in measure_round(number)]
    longest = {name: combine([phase for phase in phases if phase.name == name]) for name in dict.fromkeys(each.name for each in phases)}
    draw_waits(list(longest.values()))
    values = {LOCK_TARGETS[0].figure: max(wait for wait, *_ in find_longest(longest))}
    log("longest: " + ", ".join(f"{wait:.3f} s of {table} ({name})" for wait, table, name in find_longest(longest)[:3]))
    details = {"waits_s": {name: phase.waits for name, phase in longest.items()}}
    return report(details, {}, values), draw_targets(LOCK_TARGETS, values)


def find_longest(phases: Mapping[str, Phase]) -> list[tuple[float, str, str]]:
    """Return seconds, table and phase of every reader of a table while a load ran, the longest wait first."""
    found = [(phase.waits[table], table, name) for name, phase in phases.items() if name != QUIET for table in TABLES]
    return sorted(found, reverse=True)


def measure_round(number: int) -> list[Phase]:
    """Read every table through a quiet time, a first load, a rebuild, and a merge of 1 %."""
    harness.empty_targets()
    harness.checkpoint()
    phases: list[Phase] = []
    with read_tables() as samples:
        with time_phase(phases, QUIET):
            time.sleep(QUIET_S)
        measure_load(phases, "first load", "full")
        harness.age_changes()
        harness.change_lines("1 = 1")
        measure_load(phases, "rebuild", "full", "--reread")
        harness.age_changes()
        harness.change_one_percent(number)
        measure_load(phases, "1 % changed", "incremental")
    for each in phases:
        each.waits = {table: each.longest_wait(taken) for table, taken in samples().items()}
        log(f"round {number + 1}: {each.name}: {each.ended - each.began:.2f} s, longest wait {max(each.waits.values()):.3f} s")
    return phases


def measure_load(phases: list[Phase], name: str, *options: str) -> None:
    harness.checkpoint()
    with time_phase(phases, name) as current, watch_publication() as publication:
        ours.run(*options)
    current.publication = publication.longest


@contextmanager
def time_phase(phases: list[Phase], name: str) -> Iterator[Phase]:
    current = Phase(name, time.monotonic())
    yield current
    current.ended = time.monotonic()
    phases.append(current)


def combine(phases: Sequence[Phase]) -> Phase:
    """Return the longest waits of the same phase of several rounds."""
    lengths = [phase.publication for phase in phases if phase.publication is not None]
    waits = {table: max(phase.waits[table] for phase in phases) for table in phases[0].waits}
    return Phase(phases[0].name, phases[0].began, phases[0].ended, max(lengths, default=None), waits)


# --- Readers ---


@contextmanager
def read_tables() -> Iterator[Callable[[], dict[str, list[Sample]]]]:
    """Read each table in a process of its own until the block is left. Then the function yielded returns the samples by table."""
    readers = {table: start_reader(table) for table in (NO_TABLE, *TABLES)}
    samples: dict[str, list[Sample]] = {}
    try:
        for table, reader in readers.items():
            wait_until_ready(table, reader)
        yield lambda: samples
        samples.update({table: stop_reader(table, reader) for table, reader in readers.items()})
    finally:
        for reader in readers.values():
            reader.kill()
            reader.wait()
            for pipe in (reader.stdin, reader.stdout):
                pipe.close()  # type: ignore[union-attr]


def start_reader(table: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.reader", *([] if table == NO_TABLE else [table])]
    with log_of(table).open("wb") as errors:
        return subprocess.Popen(
            command, cwd=harness.ROOT, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def log_of(table: str) -> Path:
    return harness.FOLDER / f"reader-{table.replace(' ', '-')}.log"


def wait_until_ready(table: str, reader: "subprocess.Popen[str]") -> None:
    if reader.stdout.readline() != "ready\n":  # type: ignore[union-attr]
        raise failure(table)


def stop_reader(table: str, reader: "subprocess.Popen[str]") -> list[Sample]:
    """Return the reader's samples. Raises Failed where it ended before: a reader must never get an error."""
    with suppress(subprocess.TimeoutExpired):
        output, _ = reader.communicate(timeout=STOP_TIMEOUT_S)
    if reader.returncode != 0:
        raise failure(table)
    return [(began, seconds) for began, seconds in json.loads(output)]


def failure(table: str) -> Failed:
    return Failed(f"the reader of {table} failed: {last_lines(log_of(table))}")


def draw_waits(phases: Sequence[Phase]) -> None:
    table = Table("longest wait of a reader, s", *(phase.name for phase in phases))
    for name in (NO_TABLE, *TABLES):
        table.add_row(name, *(f"{phase.waits[name]:.3f}" for phase in phases))
    table.add_section()
    table.add_row("publishing transaction", *("" if phase.publication is None else f"{phase.publication:.2f}" for phase in phases))
    screen.print(table)
