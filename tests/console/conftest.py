"""A loaded star, and people."""

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

Came = Callable[[str], Client]


@pytest.fixture(autouse=True)
def no_memory() -> None:
    cache.clear()


@pytest.fixture
def came(transactional_db: None) -> Came:
    """Somebody of the group, logged in."""

    def logged_in(group: str) -> Client:
        person = User.objects.create_user(group, is_staff=True)
        person.groups.set([Group.objects.get(name=group)])
        client = Client()
        client.force_login(person)
        return client

    return logged_in


@pytest.fixture
def star(transactional_db: None, schedules: None) -> Run:  # noqa: F811
    """300 orders, one bad line among them, loaded by a full run."""
    shop.generate(300, 7)
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    done = api.run("full")
    assert done.state == "succeeded"
    return done
