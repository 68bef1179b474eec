"""Fixtures: a browser on a live server, logged in as a user of one of the three groups."""

import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.browser import chromium
from tests.servers import Unavailable

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LOCALES = {"en": "en-GB", "uk": "uk-UA"}
expect.set_options(timeout=60_000)  # milliseconds; generous, for a busy machine
OpenPage = Callable[..., Page]
LogIn = Callable[[Page, str], User]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Share one browser. Playwright's synchronous API keeps an event loop in this thread, in which Django refuses database access."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        try:
            with chromium.launch_browser() as launched:
                yield launched
        except Unavailable as error:
            pytest.fail(str(error))


@pytest.fixture(autouse=True)
def wait_for_idle_connections(transactional_db: None) -> Iterator[None]:
    """Wait for idle connections before the tables are truncated: the last request of a page or the last statement of a worker may still
    run after both have ended, and would deadlock with the truncation."""
    yield
    for alias in ("default", "dwh"):
        if connections[alias].vendor == "postgresql":
            deadline = time.monotonic() + 10
            while count_busy_connections(alias) and time.monotonic() < deadline:
                time.sleep(0.05)


def count_busy_connections(alias: str) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer) -> Iterator[OpenPage]:
    """Open pages in separate contexts, by language, theme and width. Fail at the end on dialogs, errors and foreign requests."""
    problems: list[str] = []
    contexts = []

    def open_in_new_context(language: str = "en", theme: str = "light", viewport: dict[str, int] = DESKTOP) -> Page:
        context = browser.new_context(
            base_url=live_server.url, locale=LOCALES[language], color_scheme=theme, viewport=viewport, reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: is_foreign(request.url) and problems.append(f"request: {request.url}"))
        return page

    def is_foreign(url: str) -> bool:
        return not url.startswith((live_server.url, "data:", "blob:"))

    yield open_in_new_context
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """Open a page in English, with the light theme, on a desktop."""
    return open_page()


@pytest.fixture
def log_in(live_server: LiveServer) -> LogIn:
    """Create a user of the group (VIEWER, OPERATOR or ADMINISTRATOR) and log in without the form."""

    def log_in_as(page: Page, group: str) -> User:
        user, _ = User.objects.get_or_create(username=group, defaults={"is_staff": True, "email": f"{group}@shop.example"})
        user.groups.set([Group.objects.get(name=group)])
        client = Client()
        client.force_login(user)
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}
        page.context.add_cookies([{**cookie, "url": live_server.url}])
        return user

    return log_in_as
