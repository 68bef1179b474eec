"""What the benchmark's figures mean. The benchmark itself is a command, not a test: `make bench`."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from apps.etl.load.publication import LOAD_LOCK
from tests.bench import harness
from tests.bench.__main__ import parse_count, parse_counts
from tests.bench.claims import Times
from tests.bench.claims import compute_figures as compute_claims
from tests.bench.measure import Cost, Failed, last_lines
from tests.bench.peers import find_sling
from tests.bench.printing import draw_targets
from tests.bench.publication import LOAD_LOCK as WATCHED_LOCK
from tests.bench.publication import LOOK_S, Publication, watch_publication
from tests.bench.targets import FLOORS, ORDERS, TARGETS, Target, select_judged
from tests.bench.waits import NO_TABLE, Phase, combine, find_longest, read_tables
from tests.bench.workers import compute_figures
from tests.browser.worker import address

ON_SERVERS = pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="needs servers: `make test` runs it on them"
)


# --- Targets and options ---


@pytest.mark.parametrize(
    ("target", "value", "verdict", "stretch"),
    [
        (Target("time", "s", 2, 1), 1.5, "met", "1, 0.50 to go"),
        (Target("time", "s", 2, 1), 2.5, "missed", "1, 1.50 to go"),
        (Target("time", "s", 2, 1), 1, "met", "1 reached"),
        (Target("peer", "x ours", 2, 3, at_least=True), 2.5, "met", "3, 0.50 to go"),
        (Target("peer", "x ours", 2, 3, at_least=True), 1.5, "missed", "3, 1.50 to go"),
        (Target("peer", "x ours", 1, None, at_least=True), 1, "met", ""),
        (Target("peer", "x ours", 1, None, at_least=True), None, "not measured", ""),
        (Target("time", "s", 2, 1, bound=3), 1.5, "met", "1, 0.50 to go"),
        (Target("time", "s", 2, 1, bound=3), 2.5, "missed, within 3", "1, 1.50 to go"),
        (Target("time", "s", 2, 1, bound=3), 3.5, "missed", "1, 2.50 to go"),
        (Target("peer", "x ours", 2, 3, at_least=True, bound=1), 1.5, "missed, within 1", "3, 1.50 to go"),
        (Target("peer", "x ours", 2, 3, at_least=True, bound=1), 0.5, "missed", "3, 2.50 to go"),
    ],
)
def test_target(target: Target, value: float | None, verdict: str, stretch: str) -> None:
    assert (target.verdict(value), target.describe_stretch(value)) == (verdict, stretch)


def test_bench_fails_beyond_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [Target("within", "s", 2, 1, bound=3), Target("beyond", "s", 2, 1, bound=3), Target("without", "s", 2, 1)]
    missed = draw_targets(targets, dict.fromkeys(("within", "beyond", "without"), 2.5) | {"beyond": 3.5})
    assert missed == ["beyond: 3.50 where <= 2 s was the target, 3 its bound", "without: 2.50 where <= 2 s was the target"]
    assert "missed, within 3" in capsys.readouterr().out


def test_claims_are_compared_with_the_first() -> None:
    times = Times(planning=1.0, claims=[0.002] * 1_000 + [0.004] * 1_000, finishes=[0.01] * 2_000)
    assert [round(value, 6) for value in compute_claims(times).values()] == [3.5, 2.0, 1.0]


def test_ratios_of_a_small_shop_are_not_judged() -> None:
    assert select_judged(TARGETS, ORDERS) == list(TARGETS)
    small = select_judged(TARGETS, ORDERS // 10)
    assert {target.unit for target in small} == {"s", "MB"} and FLOORS not in {target.unit for target in small}


def test_numbers_of_workers() -> None:
    assert parse_counts("1, 2,4,2") == [1, 2, 4]


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5"])
def test_refused_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number from 1 on"):
        parse_count(text)


# --- Peers ---


def test_no_binary_of_a_peer_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(Failed, match=r"PyPI has no binary of sling for .* riscv64"):
        find_sling()


def test_last_lines_of_a_failed_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_DB_URL", "mysql://test:s%40cret@127.0.0.1:3306/orders_db")
    log = tmp_path / "log"
    log.write_text('\x1b[31mTraceback (most recent call last):\n  File "x", line 1\n    connect()\nno login with s@cret or s%40cret\n')
    assert last_lines(log) == "no login with *** or ***"


# --- Workers and publishing transactions ---


def test_speed_up_needs_one_and_two_workers() -> None:
    lengths = {number: {"first load": length, "1 % changed": 0.1} for number, length in ((1, 0.5), (2, 0.7))}
    measured = compute_figures({1: Cost(30, 0, 0), 2: Cost(20, 0, 0)}, lengths)
    assert list(measured.values()) == [1.5, 0.7, 0.1]
    assert list(compute_figures({4: Cost(20, 0, 0)}, {4: lengths[1]}).values()) == [None, 0.5, 0.1]


def test_publishing_takes_the_watched_lock() -> None:
    assert WATCHED_LOCK == LOAD_LOCK


def test_publication_that_no_look_has_seen() -> None:
    assert Publication().longest == LOOK_S


@ON_SERVERS
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_publication_is_watched(warehouse: str) -> None:
    with psycopg.connect(warehouse) as other, psycopg.connect(warehouse) as load, watch_publication() as publication:
        other.execute("SELECT pg_advisory_xact_lock(1)")
        load.execute("SELECT pg_advisory_xact_lock((%s::bigint << 32) + 'etl_load'::regclass::oid::bigint)", [LOAD_LOCK])
        wait_until(lambda: publication.longest >= 5 * LOOK_S)
        other.rollback()
        load.rollback()
    assert len(publication.transactions) == 1


# --- Waits of readers ---


def test_wait_of_a_phase() -> None:
    phase = Phase("first load", began=10, ended=20)
    assert phase.longest_wait([(1, 8), (9, 2), (12, 1), (19, 5), (21, 9)]) == 5
    assert phase.longest_wait([(1, 8), (21, 9)]) == 0


def test_longest_wait_of_all_rounds() -> None:
    rounds = [Phase("merge", 0, 1, publication, {"dim_date": wait}) for publication, wait in ((0.3, 0.1), (0.2, 0.4))]
    longest = combine(rounds)
    assert (longest.publication, longest.waits) == (0.3, {"dim_date": 0.4})


@ON_SERVERS
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_reader_waits_for_a_locked_table(warehouse: str) -> None:
    with psycopg.connect(warehouse) as load, read_tables() as samples:
        phase = Phase("first load", time.monotonic())
        load.execute("LOCK TABLE dim_region")
        time.sleep(0.5)
        load.rollback()
        phase.ended = time.monotonic()
    phase.waits = {table: phase.longest_wait(taken) for table, taken in samples().items()}
    assert phase.waits["dim_region"] > 0.3
    assert all(phase.waits.values()), "every reader has read"
    assert max(phase.waits, key=phase.waits.__getitem__) == "dim_region"
    assert find_longest({"first load": phase})[0][1] == "dim_region" and NO_TABLE in phase.waits


@ON_SERVERS
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_reader_that_gets_an_error(warehouse: str) -> None:
    with (
        pytest.raises(Failed, match=r'the reader of dim_region failed: .*relation "dim_region" does not exist'),
        psycopg.connect(warehouse, autocommit=True) as load,
        read_tables(),
    ):
        load.execute("ALTER TABLE dim_region RENAME TO dim_region_away")
        try:
            time.sleep(0.5)
        finally:
            load.execute("ALTER TABLE dim_region_away RENAME TO dim_region")


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of the test's warehouse, set as the one that the benchmark reads."""
    url = address("dwh", "DWH_URL")
    monkeypatch.setenv("DWH_URL", url)
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    return url


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
