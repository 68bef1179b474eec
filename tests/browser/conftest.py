"""Chromium on the pages of a live server, logged in as a member of one of the three groups."""

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
expect.set_options(timeout=60_000)  # milliseconds: the machine may have other work too
OpenPage = Callable[..., Page]
LogIn = Callable[[Page, str], User]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start one browser for all tests. Playwright's synchronous API leaves an event loop in this thread; Django refuses queries there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        try:
            with chromium.launch_browser() as started:
                yield started
        except Unavailable as error:
            pytest.fail(str(error))


@pytest.fixture(autouse=True)
def idle_sessions(transactional_db: None) -> Iterator[None]:
    """Wait for other sessions before the tables are emptied: a page's last request or a worker's last statement may outlive both, and
    would deadlock with the deletes."""
    yield
    for alias in ("default", "dwh"):
        if connections[alias].vendor == "postgresql":
            deadline = time.monotonic() + 10
            while busy_sessions(alias) and time.monotonic() < deadline:
                time.sleep(0.05)


def busy_sessions(alias: str) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer) -> Iterator[OpenPage]:
    """Return a function that opens a page in a new context, by language, theme and size.

    At the end no page has had a script error or a dialog, violated its policy, or sent a request to another host.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(language: str = "en", theme: str = "light", viewport: dict[str, int] = DESKTOP) -> Page:
        context = browser.new_context(
            base_url=live_server.url, locale=LOCALES[language], color_scheme=theme, viewport=viewport, reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda line: "Content Security Policy" in line.text and complaints.append(f"policy: {line.text}"))
        page.on("request", lambda request: is_foreign(request.url) and complaints.append(f"request: {request.url}"))
        return page

    def is_foreign(url: str) -> bool:
        return not url.startswith((live_server.url, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def browser_page(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A page that may complain."""
    context = browser.new_context(base_url=live_server.url)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """A page in English, light, of desktop size."""
    return open_page()


@pytest.fixture
def log_in(live_server: LiveServer) -> LogIn:
    """Return a function that creates a member of a group and logs them in on a page, without the form."""

    def log_in(page: Page, group: str) -> User:
        person, _ = User.objects.get_or_create(username=group, defaults={"is_staff": True, "email": f"{group}@shop.example"})
        person.groups.set([Group.objects.get(name=group)])
        client = Client()
        client.force_login(person)
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}
        page.context.add_cookies([{**cookie, "url": live_server.url}])
        return person

    return log_in
