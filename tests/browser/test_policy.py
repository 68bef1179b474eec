"""What somebody has managed to write into a page neither runs, nor styles it, nor reaches another origin."""

import pytest
from playwright.sync_api import Page

from apps.console.groups import VIEWER
from tests.browser.conftest import LogIn

WRITTEN = {
    "a script": "const it = document.createElement('script'); it.textContent = 'window.reached = 1'; document.body.append(it)",
    "a handler": "document.body.insertAdjacentHTML('beforeend', '<img src=/none onerror=\"window.reached = 1\">')",
    "a style sheet": "document.body.insertAdjacentHTML('beforeend', '<style>body { --reached: 1 }</style>')",
    "a script from elsewhere": "const it = document.createElement('script'); it.src = 'https://example.invalid/'; document.body.append(it)",
    "a frame": "document.body.insertAdjacentHTML('beforeend', '<iframe src=\"https://example.invalid/\"></iframe>')",
}


pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.mark.parametrize("what", list(WRITTEN))
def test_what_is_written_into_a_page_does_nothing(live_server: object, browser_page: Page, log_in: LogIn, what: str) -> None:
    refused: list[str] = []
    browser_page.on("console", lambda line: refused.append(line.text))
    log_in(browser_page, VIEWER)
    browser_page.goto("/admin/")
    browser_page.evaluate(f"() => {{ {WRITTEN[what]} }}")
    browser_page.wait_for_timeout(300)
    reached = "window.reached || getComputedStyle(document.body).getPropertyValue('--reached')"
    assert not browser_page.evaluate(reached) and [line for line in refused if "Content Security Policy" in line]
