"""Messages of the broker: whatever a message holds, a worker takes it for none, and goes on to the next."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.orchestration.models import Run, Task
from apps.orchestration.worker import tasks
from tests.fuzz.inputs import fuzzed, json_values
from tests.orchestration.conftest import broker, schedules

__all__ = ["broker", "schedules"]
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
NAMES = ("plan", "extract", "transform", "prepare", "load", "scheduled", "reconcile")
values = st.one_of(json_values, st.sampled_from([2**63, -(2**63) - 1, 2**64, "1", "a\0b", "\ud800", [1], {"pk": 1}, 1.5, True, None]))


@fuzzed()
@given(name=st.sampled_from(NAMES), argument=values)
@example(name="plan", argument="a\0b")
@example(name="load", argument=2**70)
@example(name="scheduled", argument={"a": 1})
@example(name="reconcile", argument=10**9)
def test_message_of_any_content_is_done(transactional_db: None, schedules: None, broker: object, name: str, argument: Any) -> None:
    before = (Run.objects.count(), Task.objects.count())
    if name == "reconcile" and (argument is None or (type(argument) is int and 1 <= argument <= 3650)):
        return
    getattr(tasks, name)(argument)
    assert (Run.objects.count(), Task.objects.count()) == before
