"""Surrogate keys: given once, never to two members, and taken again by whoever needs the member next."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.etl.load.keys import DimensionKeys, Keys
from apps.warehouse.models import DimRegion, ReservedKey
from tests.orchestration.harness import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
TABLE = "dim_region"


def member(natural: int, key: int) -> None:
    DimRegion.objects.create(region_key=key, region_id=natural, code="KV", name="", run_id=1, is_deleted=False, is_inferred=False)


def read_keys() -> DimensionKeys:
    return DimensionKeys(connections["dwh"].cursor())


def ids(*naturals: int) -> Any:
    return np.array(naturals, dtype=np.int64)


def look_up(keys: DimensionKeys, *naturals: int | None) -> tuple[list[int], list[int]]:
    found, inferred = keys.look_up_column(TABLE, pa.chunked_array([pa.array(naturals, pa.int64())]), empty=-2)
    return found.to_pylist(), inferred


def test_new_members_get_the_keys_after_all_others_in_the_order_of_their_ids() -> None:
    member(10, 2)
    member(30, 5)
    keys = read_keys()
    assert look_up(keys, 40, 10, None, 20, 40) == ([7, 2, -2, 6, 7], [20, 40])
    assert look_up(keys, 40, 20, 30) == ([7, 6, 5], [20, 40])
    assert look_up(keys, None) == ([-2], [])
    assert sorted(ReservedKey.objects.values_list("dimension", "member_id", "member_key")) == [(TABLE, 20, 6), (TABLE, 40, 7)]


def test_members_that_the_run_publishes_are_not_inferred() -> None:
    keys = read_keys()
    keys.expect(TABLE, ids(8, 9))
    assert look_up(keys, 9, 7) == ([2, 3], [7]) and keys.has_reserved


def test_key_is_taken_again_by_the_next_run_and_never_given_twice() -> None:
    assert look_up(read_keys(), 5) == ([1], [5])
    assert look_up(read_keys(), 4, 5) == ([2, 1], [4, 5])
    member(5, 1)
    ReservedKey.objects.filter(member_id=5).delete()
    keys = read_keys()
    assert look_up(keys, 3, 5) == ([3, 1], [3]) and keys.has_reserved


def test_workers_at_the_same_time_agree() -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("SQLite admits one writer at a time")
    wanted = [1, 5, 3, 9, 7]
    found = run_concurrently(4, lambda: look_up(read_keys(), *wanted)[0])
    assert found == [found[0]] * 4 and sorted(found[0]) == [1, 2, 3, 4, 5]


@settings(deadline=None, max_examples=30, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waves=st.lists(st.lists(st.integers(-(2**62), 2**62), max_size=9), max_size=5))
def test_keys_never_change_and_are_never_shared(waves: list[list[int]]) -> None:
    ReservedKey.objects.all().delete()
    keys, known = read_keys(), dict[int, int]()
    for wave in waves:
        found = dict(zip(wave, look_up(keys, *wave)[0], strict=True))
        assert all(found.get(natural, key) == key for natural, key in known.items())
        known |= found
    assert sorted(known.values()) == list(range(1, len(known) + 1))
    assert keys.of(TABLE).has(ids(*known, 2**63 - 1)).tolist() == [True] * len(known) + [False]


def test_keys_in_memory_keep_rows_and_reservations_apart() -> None:
    keys = Keys([(10, 1), (30, 2)])
    keys.add([(20, 3), (30, 9)])
    assert keys.of(ids(10, 20, 30)).tolist() == [1, 3, 2]
    assert keys.unexpected(ids(10, 20, 20)).tolist() == [20]
    keys.expect(ids(20))
    assert keys.unexpected(ids(10, 20)).tolist() == []
    assert keys.without_key(ids(5, 10, 5)).tolist() == [5]
