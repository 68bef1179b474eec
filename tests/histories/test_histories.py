"""After every incremental run the warehouse is what the shop holds, whatever programs did to the shop before and meanwhile."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from apps.etl.extract import sweep
from apps.orchestration import planning
from tests.histories.replay import Replay
from tests.histories.shop import Rows, clock_restored, open_shop
from tests.histories.steps import History, histories

HISTORIES = int(os.environ.get("HISTORIES", "24"))
SEED = int(os.environ.get("HISTORIES_SEED", "0"))
PER_TEST = 12
# Without shrinking, which takes minutes; `make soak` does it.
PHASES = [Phase.generate, Phase.shrink] if os.environ.get("HISTORIES_SHRINK") else [Phase.generate]
RUNS = {
    "ETL_BATCH_ORDERS": 5,
    "ETL_OVERLAP_MINUTES": 0,
    "ETL_SWEEP_SECONDS": 60,
    "ETL_MAX_REJECTED_PERCENT": 100,
    "ETL_MAX_DELETED_PERCENT": 100,
}


@pytest.fixture
def opening(transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    for name, value in RUNS.items():
        setattr(settings, name, value)
    monkeypatch.setattr(sweep, "SEGMENTS_PER_STEP", 2)
    with clock_restored():
        yield open_shop()


@pytest.mark.long
@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("number", range(SEED, SEED + -(-HISTORIES // PER_TEST)))
def test_runs_load_what_the_shop_holds(opening: Rows, number: int, monkeypatch: pytest.MonkeyPatch, record_property: Any) -> None:
    """Every other one as for a user who may not create tables: then the publishing transaction compares, and nothing is prepared."""
    if number % 2:
        monkeypatch.setattr(planning, "may_create", lambda cursor: False)
    tally: Counter[str] = Counter()

    @seed(number)
    @settings(max_examples=PER_TEST, phases=PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(history=histories)
    def replay(history: History) -> None:
        Replay(opening, tally).replay(history)

    try:
        replay()
    finally:
        record_property("tally", dict(tally))
