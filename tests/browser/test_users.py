"""Each group logs in by the form and sees the menu."""

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Page, expect

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.mark.parametrize("group", [VIEWER, OPERATOR, ADMINISTRATOR])
def test_each_group_logs_in_by_the_form(page: Page, group: str) -> None:
    person = User.objects.create_user("olena", password="a long enough pass phrase", is_staff=True)
    person.groups.set([Group.objects.get(name=group)])
    page.goto("/")
    page.get_by_label("Username").fill("olena")
    page.get_by_label("Password").fill("a long enough pass phrase")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url("/admin/")
    expect(page.get_by_role("link", name="Runs").first).to_be_visible()
