"""Every page says what a browser may do with it: nothing that is written into a page, and nothing from elsewhere."""

from base64 import b64encode
from hashlib import sha256

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from apps.console.browser_policy import build_policy

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
PAGES = ("admin:login", "admin:index", "admin:auth_user_changelist", "admin:orchestration_run_start", "admin:audit_entry_csv")


def parse(policy: str) -> dict[str, set[str]]:
    return {words[0]: set(words[1:]) for words in (part.split() for part in policy.split(";"))}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_its_policy(name: str) -> None:
    client = Client()
    if name != "admin:login":
        client.force_login(User.objects.create_superuser("olena"))
    answer = client.get(reverse(name))
    allowed = parse(answer["Content-Security-Policy"])
    assert answer.status_code == 200 and allowed["default-src"] == {"'none'"} and allowed["frame-ancestors"] == {"'none'"}
    assert not [sources for name, sources in allowed.items() if "'unsafe-inline'" in sources and name != "style-src-attr"]
    assert not [source for sources in allowed.values() for source in sources if "://" in source or source == "*"]
    assert "camera=()" in answer["Permissions-Policy"] and answer["X-Frame-Options"] in ("DENY", "SAMEORIGIN")
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin" and answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("address", ["/admin/none/", "/none/"])
def test_refusals_have_the_policy_too(client: Client, address: str) -> None:
    assert "default-src 'none'" in client.get(address, follow=True)["Content-Security-Policy"]


def test_only_the_themes_own_styles_are_allowed() -> None:
    theme = b'<style id="unfold-theme-colors">:root { --color: 1 }</style>'
    written = b"<style>body { background: url(//evil) }</style>"
    assert build_policy(theme + written) == build_policy(theme) != build_policy(written) == build_policy(b"")
    assert build_policy(theme).count("sha256-") == 1


def test_style_of_an_error_page_is_allowed_by_its_hash(client: Client) -> None:
    answer = client.get("/nowhere/")
    style = answer.content.partition(b"<style>")[2].partition(b"</style>")[0]
    assert answer.status_code == 404 and b"color-scheme" in style
    assert f"'sha256-{b64encode(sha256(style).digest()).decode()}'" in answer["Content-Security-Policy"]
