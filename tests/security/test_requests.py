"""Requests that a browser, a proxy or an attacker forges: each is refused, and changes nothing."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import get_resolver, reverse

from apps.audit.models import Deed, Entry
from tests.console.test_every_address import fill, walk
from tests.security.deeds import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
OUTSIDE = ("https://evil.example/", "//evil.example/", "https:evil.example", "\\\\evil.example", "/\\evil.example", "javascript:alert(1)")
ANONYMOUS = ("/healthz", "/readyz", "/metrics", "/admin/login/", "/language/setlang/")
FORM, FORM_TYPE = "action=delete_selected&enabled=on&reason=x", "application/x-www-form-urlencoded"
MEGABYTES = 3 * 1024 * 1024  # of Django's limit of 2.5 for a form


@pytest.fixture
def root(transactional_db: None) -> Client:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(User.objects.create_superuser("olena", password=PASSWORD))
    return client


def count_deeds() -> int:
    """Return the number of entries, without the settings that a process records at its first request."""
    return Entry.objects.exclude(deed=Deed.SETTINGS_SEEN).count()


def list_addresses() -> list[str]:
    return [fill(route, "1") for route in sorted(set(walk(get_resolver().url_patterns))) if fill(route, "1") not in ("/readyz", "/metrics")]


def test_nothing_is_done_without_a_token(root: Client) -> None:
    """Every address of the resolver, by every method that may change something."""
    before, done = count_deeds(), 0
    for address in list_addresses():
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = root.generic(method, address, FORM, content_type=FORM_TYPE)
            done += 1
            assert answer.status_code in (403, 404, 405), (method, address, answer.status_code)
    assert done > 500 and count_deeds() == before and User.objects.count() == 1


def test_nothing_is_shown_to_strangers(transactional_db: None) -> None:
    client = Client()
    for address in list_addresses():
        answer = client.get(address)
        if address in ANONYMOUS:
            continue
        assert answer.status_code in (301, 302, 403, 404, 405), (address, answer.status_code)
        assert answer.status_code != 302 or answer["Location"].startswith(("/admin/", "/?", "/")), address


@pytest.mark.parametrize("target", OUTSIDE)
def test_no_redirect_leads_outside(transactional_db: None, target: str) -> None:
    User.objects.create_superuser("olena", password=PASSWORD)
    client = Client()
    form = {"username": "olena", "password": PASSWORD, "next": target}
    assert client.post(f"{reverse('admin:login')}?next={target}", form)["Location"] == reverse("admin:index")
    answer = client.post(reverse("set_language"), {"language": "uk", "next": target}, headers={"Referer": target})
    assert answer.get("Location", "/") == "/"


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "localhost:80@evil.example"}, {"Host": "localhost\t"}])
def test_foreign_host_is_refused(root: Client, headers: dict[str, str]) -> None:
    assert root.get(reverse("admin:index"), headers=headers).status_code == 400


def test_forwarded_host_is_not_believed(root: Client) -> None:
    page = root.get(reverse("admin:index"), headers={"X-Forwarded-Host": "evil.example", "X-Original-URL": "/metrics"})
    assert page.status_code == 200 and b"evil.example" not in page.content


@pytest.mark.parametrize(
    "body", ["reason=" + "x" * MEGABYTES, "&".join(f"run={number}" for number in range(2_000))], ids=["bytes", "fields"]
)
def test_oversized_form_is_refused(root: Client, body: str) -> None:
    lax = Client(raise_request_exception=False)
    lax.cookies = root.cookies
    answer = lax.post(reverse("admin:orchestration_run_cancel"), body, content_type=FORM_TYPE)
    assert answer.status_code == 400 and "Traceback" not in answer.content.decode()


@pytest.mark.parametrize("path", ["/static/../manage.py", "/static/%2e%2e/manage.py", "/static/..%2fmanage.py", "/admin/../../etc/passwd"])
def test_no_path_leads_out_of_the_static_files(root: Client, path: str) -> None:
    answer = root.get(path)
    assert answer.status_code in (302, 404) and b"TechMarket's command line" not in b"".join(answer)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "X" * 200])
def test_other_methods_do_nothing(root: Client, method: str) -> None:
    before = count_deeds()
    for name in ("admin:index", "admin:orchestration_run_start", "admin:auth_user_changelist"):
        answer: Any = root.generic(method, reverse(name))
        assert answer.status_code in (200, 403, 405) and count_deeds() == before
