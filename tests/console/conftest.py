"""A loaded warehouse, clients signed in as members of each group, and what their pages say."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

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


def page_text(client: Client, address: str, **query: str) -> str:
    """Return the text of a page, without tags and with single spaces."""
    answer = client.get(address, query)
    assert answer.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def list_messages(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]
