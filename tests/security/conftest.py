"""The admin's fixtures: clients signed in as people of each group, and a shop's schedules."""

from tests.console.conftest import empty_cache, sign_in
from tests.orchestration.conftest import broker, schedules

__all__ = ["broker", "empty_cache", "schedules", "sign_in"]
