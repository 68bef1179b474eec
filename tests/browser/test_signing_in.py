"""A provider's button, an authenticator app, recovery codes and passkeys in a real browser, under the policy for browsers."""

from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.cache import cache
from playwright.sync_api import Page, expect

from apps.console.groups import VIEWER
from tests.browser.axe import faults
from tests.browser.conftest import DESKTOP, PHONE, OpenPage
from tests.security.deeds import PASSWORD
from tests.security.provider import CLIENT, SECRET, run_provider
from tests.security.totp import compute_code

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
# A phone's or a computer's own, which finds out by itself that its owner is there.
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
LOOKS = [("en", "light", DESKTOP), ("uk", "dark", PHONE)]


@pytest.fixture
def olena(transactional_db: None) -> User:
    return User.objects.create_superuser("olena", password=PASSWORD)


@pytest.fixture
def provider(settings: Any, transactional_db: None) -> Iterator[Any]:
    with run_provider() as provider:
        cache.clear()
        settings.OIDC_URL, settings.OIDC_NAME, settings.OIDC_GROUPS = provider.url, "Keycloak", {VIEWER: ["shop-analysts"]}
        settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT, SECRET
        yield provider


def fill_password(page: Page) -> None:
    page.goto("/admin/login/")
    page.locator("#id_username").fill("olena")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("#login-form button[type=submit]").click()


def confirm_password(page: Page) -> None:
    page.locator("#id_password").fill(PASSWORD)
    page.locator("main button[type=submit], #content button[type=submit]").first.click()


def plug_in(page: Page) -> Any:
    """Give the browser an authenticator for passkeys, and return the session by which it is reached."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    session.authenticator = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    return session


def add_passkey(page: Page, name: str) -> None:
    page.goto("/admin/security/passkeys/add/")
    if page.url.split("?")[0].endswith("/password/"):
        confirm_password(page)
    page.locator("#id_name").fill(name)
    page.locator("#add-passkey").click()


def test_button_leads_to_the_provider_and_back(browser_page: Page, provider: Any) -> None:
    browser_page.goto("/admin/orchestration/run/")
    browser_page.get_by_role("link", name="Sign in with Keycloak").click()
    expect(browser_page).to_have_url("/admin/orchestration/run/")
    expect(browser_page.get_by_role("link", name="Runs").first).to_be_visible()


@pytest.mark.parametrize(("language", "theme", "viewport"), LOOKS)
def test_login_page_with_a_provider_is_accessible(open_page: OpenPage, provider: Any, language: str, theme: str, viewport: Any) -> None:
    page = open_page(language, theme, viewport)
    page.goto("/admin/login/")
    expect(page.locator("#login-form")).to_be_visible()
    assert not faults(page)


@pytest.mark.parametrize(("language", "theme", "viewport"), LOOKS)
def test_app_is_set_up_by_its_picture_and_then_needed(open_page: OpenPage, olena: User, language: str, theme: str, viewport: Any) -> None:
    page = open_page(language, theme, viewport)
    fill_password(page)
    page.goto("/admin/security/")
    assert not faults(page)
    page.goto("/admin/security/app/add/")
    assert not faults(page)
    confirm_password(page)
    expect(page.locator("img.tm-qr")).to_be_visible()
    assert page.evaluate("document.querySelector('img.tm-qr').naturalWidth > 100"), "the policy lets the picture be shown"
    assert not faults(page)
    secret = page.locator("form code").inner_text()
    page.locator("#id_code").fill(compute_code(secret, page.evaluate("Date.now() / 1000")))
    page.locator("form button[type=submit]:not([name=language])").last.click()
    expect(page.locator(".tm-codes li")).to_have_count(10)
    assert not faults(page)
    codes = page.locator(".tm-codes li").all_inner_texts()
    with page.expect_download() as download:
        page.locator("a[download]").click()
    assert download.value.path().read_text().split() == codes
    log_in_by(page, codes[0])


def log_in_by(page: Page, code: str) -> None:
    page.context.clear_cookies()
    fill_password(page)
    expect(page.locator("#id_code")).to_be_visible()
    assert not faults(page)
    page.locator("#id_code").fill(code)
    page.keyboard.press("Enter")
    expect(page).to_have_url("/admin/")


def test_passkey_is_made_used_and_removed(open_page: OpenPage, olena: User) -> None:
    page = open_page()
    device = plug_in(page)
    fill_password(page)
    add_passkey(page, "laptop")
    expect(page.locator(".tm-codes li")).to_have_count(10)
    credentials = device.send("WebAuthn.getCredentials", {"authenticatorId": device.authenticator})["credentials"]
    assert len(credentials) == 1 and credentials[0]["rpId"] == "localhost"
    page.context.clear_cookies()
    fill_password(page)
    page.locator("#use-passkey").click()
    expect(page).to_have_url("/admin/")
    page.goto("/admin/security/")
    expect(page.locator("li", has_text="laptop")).to_be_visible()
    assert not faults(page)
    page.get_by_role("link", name="Remove laptop").click()
    page.get_by_role("link", name="Use a passkey").click()
    page.locator("#use-passkey").click()
    page.get_by_role("button", name="Remove").click()
    expect(page).to_have_url("/admin/security/")
    assert not Authenticator.objects.exists()


def test_passkey_of_another_account_or_device_is_refused(open_page: OpenPage, olena: User) -> None:
    page = open_page()
    device = plug_in(page)
    fill_password(page)
    add_passkey(page, "laptop")
    expect(page.locator(".tm-codes li")).to_have_count(10)
    device.send("WebAuthn.clearCredentials", {"authenticatorId": device.authenticator})
    page.context.clear_cookies()
    fill_password(page)
    page.locator("#use-passkey").click()
    expect(page.locator("#passkey-error")).to_be_visible()
    page.goto("/admin/")
    expect(page).to_have_url("/admin/login/?next=/admin/")
