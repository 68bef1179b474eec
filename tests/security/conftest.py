"""The admin's fixtures: clients signed in as people of each group, and a shop's schedules."""

from tests.console.conftest import empty_cache, sign_in
from tests.orchestration.conftest import schedules

__all__ = ["empty_cache", "schedules", "sign_in"]
