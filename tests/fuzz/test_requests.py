"""Requests: headers, cookies, searches and filters of any text get a page or a refusal, and what is recorded of them is a value."""

import re
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse
from hypothesis import example, given
from hypothesis import strategies as st

from apps.audit.chain import record
from apps.audit.middleware import find_client_address, find_request_id
from apps.audit.models import Deed
from apps.console.unreadable import LOOKUPS
from apps.demo import shop
from apps.monitoring.metrics import REGISTRY
from apps.orchestration.models import Run
from tests.fuzz.inputs import ODD, SECRET, fuzzed, spliced, texts

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
# A header as WSGI passes it on: any byte but those that end it.
headers = st.one_of(texts, st.text(st.characters(max_codepoint=255), max_size=60)).map(
    lambda text: re.sub("[\0\r\n]", "", text).encode("utf-8", "replace").decode("latin-1")
)
hops = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.sampled_from(
            ["10.1.2.3", "fd00::1", "::ffff:10.0.0.1", "203.0.113.9:4711", "[2001:db8::1]:443", "[2001:DB8::1]", "unknown", "", " "]
        ),
        st.sampled_from(["fe80::1%\x1b[31m", "1.2.3", "::1%", "203.0.113.9\t", "x" * 300]),
        headers,
    ),
    max_size=4,
).map(",".join)


def make_request(**meta: str) -> HttpRequest:
    return RequestFactory().get("/admin/", **meta)  # type: ignore[arg-type]


@fuzzed(3)
@given(forwarded=hops, peer=st.sampled_from(["10.0.0.1", "::ffff:10.0.0.1", "203.0.113.9", ""]), trusts=st.booleans())
def test_client_address_is_an_address(forwarded: str, peer: str, trusts: bool) -> None:
    """Of a peer that is no trusted proxy its own; else that of the last hop that is none, spelled in one way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "TRUSTED_PROXIES", PROXIES if trusts else [])
        found = find_client_address(make_request(REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded))
        own = find_client_address(make_request(REMOTE_ADDR=peer))
    assert found == "" or (str(ip_address(found)) == found and "%" not in found)
    assert found == own or (trusts and not peer.startswith("203"))


@fuzzed()
@given(given=st.one_of(headers, st.from_regex(r"\A[A-Za-z0-9._-]{6,66}\Z")), peer=st.sampled_from(["10.0.0.1", "203.0.113.9"]))
def test_request_id_is_a_word(given: str, peer: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "TRUSTED_PROXIES", PROXIES)
        found = find_request_id(make_request(REMOTE_ADDR=peer, HTTP_X_REQUEST_ID=given))
    assert re.fullmatch("[A-Za-z0-9._-]{8,64}", found) and (found == given or len(found) == 32)


# --- Pages: a fifth of the inputs, since each takes some 50 ms ---


@pytest.fixture
def root(transactional_db: None) -> Client:
    shop.generate(5, 7)
    record(Deed.RUN_STARTED, reason="a reason")
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root"))
    return client


databases = pytest.mark.django_db(transaction=True, databases="__all__")
naive_dates = pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning")  # of Django's filters of dates
assert get_resolver().url_patterns, "whose reading registers the pages"
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
PLACES = [(model, field) for model in MODELS for field in model._meta.concrete_fields]
values = st.one_of(
    texts,
    st.integers().map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    spliced(["1", "-", "9" * 30, "2026-02-30", "true"], [",", "", "T24:00", "e9"], ["2", "", "Z", "+99:99"]),
)


def spell(name: str, value: str) -> str:
    """Return a parameter of an address, which may be no UTF-8."""
    return "=".join(quote(text.encode("utf-8", "surrogatepass")) for text in (name, value))


@databases
@naive_dates
@fuzzed(0.2)
@given(
    place=st.sampled_from(PLACES),
    lookup=st.one_of(st.sampled_from(sorted(LOOKUPS)), st.sampled_from(["", "regex", "date", "year"]), texts),
    value=values,
)
@example(place=PLACES[0], lookup="regex", value="(a+)+$")
@example(place=PLACES[0], lookup="range", value="000")
@example(place=(Run, Run._meta.get_field("revenue")), lookup="contains", value="0")
def test_filter_lists_rows_or_is_refused(root: Client, place: Any, lookup: str, value: str) -> None:
    model, field = place
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    answer = root.get(f"{address}?{spell(f'{field.name}__{lookup}' if lookup else field.name, value)}")
    assert answer.status_code in (200, 302, 400), ascii((address, lookup, value))
    assert "regex" not in lookup or answer.status_code != 200


@databases
@fuzzed(0.2)
@given(
    model=st.sampled_from(MODELS),
    name=st.sampled_from(["q", "q", "p", "o", "_changelist_filters"]),
    term=st.one_of(values, st.text(st.sampled_from(ODD + "\"'%_\\"), max_size=40)),
)
def test_search_lists_rows_or_is_refused(root: Client, model: Any, name: str, term: str) -> None:
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    answer = root.get(f"{address}?{spell(name, term)}")
    assert answer.status_code in (200, 302, 400), ascii((address, name, term))


@databases
@fuzzed(0.2)
@given(start=values, end=values, region=values, other=texts)
def test_filters_of_the_overview_are_answered(root: Client, start: str, end: str, region: str, other: str) -> None:
    query = "&".join(spell(name, value) for name, value in {"start": start, "end": end, "region": region, other or "x": other}.items())
    assert root.get(f"/admin/?{query}").status_code == 200


@databases
@fuzzed(0.2)
@given(data=st.data())
def test_cookies_of_any_text_are_no_session(transactional_db: None, data: st.DataObject) -> None:
    value = data.draw(st.one_of(headers, st.from_regex(r"\A[a-z0-9]{32}\Z")))
    names = ("sessionid", "csrftoken", "messages", "django_language")
    answer = Client(raise_request_exception=False).get("/admin/", headers={"cookie": "; ".join(f"{name}={value}" for name in names)})
    assert answer.status_code in (302, 400)


@databases
@fuzzed(0.2)
@given(data=st.one_of(texts, st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")), st.just("e30:1abc:" + "x" * 43)))
def test_damaged_session_is_none(root: Client, data: str) -> None:
    """What somebody has written into the row of a session ends it."""
    Session.objects.update(session_data=data.replace("\0", "").encode("utf-8", "replace").decode())
    answer = root.get("/admin/")
    assert answer.status_code == 302 and reverse("admin:login") in answer["Location"]


@databases
@fuzzed(0.2)
@given(
    accept=st.one_of(
        headers, spliced(["text/plain", "application/openmetrics-text", "*/*"], ["; version=", ";q=", ";", ""], ["1.0.0", "x", "", "9"])
    ),
    token=headers,
    language=headers,
)
def test_headers_of_a_scrape_are_answered(transactional_db: None, accept: str, token: str, language: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(REGISTRY, "collect", list)
        patch.setattr(settings, "METRICS_TOKEN", SECRET)
        client = Client(raise_request_exception=False)
        for authorization, status in ((token, 401), (f"Bearer {SECRET}", 200)):
            meta = {"HTTP_ACCEPT": accept, "HTTP_AUTHORIZATION": authorization, "HTTP_ACCEPT_LANGUAGE": language}
            answer = client.get("/metrics", **meta)  # type: ignore[arg-type]
            assert answer.status_code == status and SECRET not in answer.content.decode()
    only = urlencode({"only": language}, errors="replace")
    assert client.get(f"/readyz?{only}").status_code == 400
