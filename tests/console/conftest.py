"""A loaded warehouse, and clients signed in as members of each group."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client

from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.models import Run
from apps.sources.orders.models import OrderItem
from tests.orchestration.conftest import broker, schedules, small_shop  # noqa: F401  fixtures

SignIn = Callable[[str], Client]


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def sign_in(transactional_db: None) -> SignIn:
    """Return a function that creates a user of a group and a client signed in as that user."""

    def create_client(group: str) -> Client:
        person = User.objects.create_user(group, is_staff=True)
        person.groups.set([Group.objects.get(name=group)])
        client = Client()
        client.force_login(person)
        return client

    return create_client


@pytest.fixture
def loaded_run(transactional_db: None, schedules: None) -> Run:  # noqa: F811
    """Return the full run that loaded 300 orders, one of them with a line that is rejected."""
    shop.generate(300, 7)
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    run = api.run("full")
    assert run.state == "succeeded"
    return run
