"""The admin's fixtures: clients signed in as people of each group, and a shop's schedules; and a shop for commands."""

from tests.console.conftest import empty_cache, sign_in
from tests.failures.conftest import shop, template
from tests.orchestration.conftest import broker, schedules

__all__ = ["broker", "empty_cache", "schedules", "shop", "sign_in", "template"]
