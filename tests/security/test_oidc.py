"""People sign in by an OpenID provider with exactly the rights that it names, and nobody else does, whatever a token or an answer holds."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from apps.audit.models import Deed, Entry
from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.console.oidc import documents
from tests.security.deeds import PASSWORD, log_in
from tests.security.provider import CLIENT, SECRET, Key, Provider, build_token, encode, run_provider, sign_by_public_key

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
MEANING = {VIEWER: ["shop-analysts"], OPERATOR: ["shop-engineers"], ADMINISTRATOR: ["shop-admins", "shop-owners"]}
UNVERIFIED = "could not be verified"


@pytest.fixture
def provider(settings: Any, transactional_db: None) -> Iterator[Provider]:
    with run_provider() as provider:
        use_provider(settings, provider)
        yield provider


def use_provider(settings: Any, provider: Provider) -> None:
    cache.clear()
    settings.OIDC_URL, settings.OIDC_NAME, settings.OIDC_GROUPS = provider.url, "Keycloak", MEANING
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT, SECRET


def begin(client: Client, address: str = "/admin/login/oidc/") -> str:
    """Return the provider's address that the button of the login page leads to."""
    answer = client.get(address)
    assert answer.status_code == 302, answer.content.decode()[-2_000:]
    return str(answer["Location"])


def sign_in(provider: Provider, client: Client | None = None, address: str = "/admin/login/oidc/") -> Any:
    client = client or Client()
    callback = urlsplit(provider.authorize(begin(client, address)))
    answer = client.get(f"{callback.path}?{callback.query}")
    answer.client = client
    return answer


def assert_refused(answer: Any, text: str, status: int = 403) -> None:
    assert answer.status_code == status and text in answer.content.decode(), answer.content.decode()[-3_000:]
    assert answer.client.get("/admin/").status_code == 302


def group_names(person: User) -> set[str]:
    return {group.name for group in person.groups.all()}


# --- Who gets in ---


def test_person_signs_in_with_the_groups_of_the_claims(provider: Provider) -> None:
    provider.claims |= {
        "groups": ["x", "shop-analysts", "shop-owners"],
        "given_name": "Олена",
        "family_name": "Коваль",
        "email": "o@shop.ua",
    }
    answer = sign_in(provider)
    assert answer.status_code == 302 and answer["Location"] == "/admin/" and answer.client.get("/admin/").status_code == 200
    person = User.objects.get()
    assert (person.get_full_name(), person.email, person.is_staff, person.is_superuser) == ("Олена Коваль", "o@shop.ua", True, False)
    assert group_names(person) == {VIEWER, ADMINISTRATOR} and not person.has_usable_password() and person.username.startswith("oidc-")


def test_nothing_of_the_provider_is_stored_but_who_somebody_is(provider: Provider) -> None:
    provider.claims |= {"email": "o@shop.ua", "email_verified": True, "phone_number": "+380"}
    sign_in(provider)
    account = SocialAccount.objects.get()
    assert account.extra_data == {} and "user-1" not in account.uid and len(account.uid) == 64
    assert not EmailAddress.objects.exists() and not SocialToken.objects.exists() and not SocialApp.objects.exists()


def test_sign_in_leaves_entries_of_the_person_by_reason_of_the_provider(provider: Provider) -> None:
    sign_in(provider, Client(REMOTE_ADDR="198.51.100.7"))
    name = User.objects.get().username
    entries = Entry.objects.filter(actor=name).order_by("number")
    assert [entry.deed for entry in entries] == [Deed.USER_ADDED, Deed.GROUPS_CHANGED, Deed.LOGIN]
    assert {(entry.reason, entry.address) for entry in entries} == {("OIDC", "198.51.100.7")}


def test_groups_change_with_the_claims_and_earlier_sessions_end(provider: Provider) -> None:
    first = sign_in(provider).client
    person = User.objects.get()
    person.user_permissions.add(Permission.objects.get(codename="view_run"))
    person.groups.add(Group.objects.create(name="night shift"))
    first = sign_in(provider).client
    assert first.get("/admin/").status_code == 200
    provider.claims |= {"groups": ["shop-engineers"], "sub": "user-1", "email": "new@shop.ua"}
    second = sign_in(provider).client
    person = User.objects.get()
    assert group_names(person) == {OPERATOR} and not person.user_permissions.exists() and person.email == "new@shop.ua"
    assert second.get("/admin/").status_code == 200 and first.get("/admin/").status_code == 302
    taken = Entry.objects.filter(deed=Deed.GROUPS_CHANGED, before={"names": [VIEWER]}).get()
    assert (taken.actor, taken.actor_id, taken.reason) == (person.username, person.pk, "OIDC")


def test_same_claims_end_no_session(provider: Provider) -> None:
    first, second = sign_in(provider).client, sign_in(provider).client
    assert first.get("/admin/").status_code == second.get("/admin/").status_code == 200


def test_person_of_the_provider_is_no_superuser(provider: Provider) -> None:
    sign_in(provider)
    User.objects.update(is_superuser=True)
    sign_in(provider)
    assert not User.objects.get().is_superuser


@pytest.mark.parametrize("groups", [[], ["others"], None, ["SHOP-ANALYSTS"], ["shop-analysts "]])
def test_person_in_no_mapped_group_is_refused(provider: Provider, groups: Any) -> None:
    provider.claims |= {"groups": groups}
    if groups is None:
        del provider.claims["groups"]
    assert_refused(sign_in(provider), "None of your groups at Keycloak may use TechMarket")
    entry = Entry.objects.get(deed=Deed.PROVIDER_LOGIN_REFUSED)
    assert entry.reason == "OIDC: no group of TechMarket" and entry.actor.startswith("oidc-") and not User.objects.exists()


def test_refusal_of_each_person_is_recorded(provider: Provider) -> None:
    for subject in ("user-1", "user-2", "user-2"):
        provider.claims = {"sub": subject}
        sign_in(provider)
    assert Entry.objects.filter(deed=Deed.PROVIDER_LOGIN_REFUSED).count() == 2


def test_rights_end_with_the_groups(provider: Provider) -> None:
    sign_in(provider)
    provider.claims |= {"groups": ["others"]}
    assert_refused(sign_in(provider), "None of your groups")


@pytest.mark.parametrize("groups", [{"shop-analysts": True}, [["shop-analysts"]], [1, "shop-analysts"], 7, True, {}])
def test_groups_of_another_type_are_refused(provider: Provider, groups: Any) -> None:
    provider.claims |= {"groups": groups}
    assert_refused(sign_in(provider), "sent your groups in a form that TechMarket cannot read")


def test_one_group_may_be_a_text_and_many_are_read(provider: Provider) -> None:
    provider.claims |= {"groups": "shop-analysts"}
    assert sign_in(provider).status_code == 302
    provider.claims |= {"groups": [f"group-{number}" for number in range(5_000)] + ["shop-admins"]}
    assert sign_in(provider).status_code == 302 and group_names(User.objects.get()) == {ADMINISTRATOR}


def test_another_claim_may_hold_the_groups(provider: Provider, settings: Any) -> None:
    settings.OIDC_GROUPS_CLAIM = "https://shop.ua/roles"
    provider.claims |= {"groups": ["shop-admins"], "https://shop.ua/roles": ["shop-analysts"]}
    sign_in(provider)
    assert group_names(User.objects.get()) == {VIEWER}


def test_groups_may_come_with_the_user_info_of_the_same_person(provider: Provider) -> None:
    del provider.claims["groups"]
    provider.user_info = {"sub": "user-1", "groups": ["shop-engineers"]}
    assert sign_in(provider).status_code == 302 and group_names(User.objects.get()) == {OPERATOR}
    provider.user_info = {"sub": "user-2", "groups": ["shop-admins"]}
    assert_refused(sign_in(provider), UNVERIFIED)


@pytest.mark.parametrize("value", [7, None, ["x"], {"x": 1}, "x" * 10_000, "a\x00b\n"])
def test_details_of_any_type_are_no_error(provider: Provider, value: Any) -> None:
    provider.claims |= {"given_name": value, "family_name": value, "email": value}
    assert sign_in(provider).status_code == 302 and len(User.objects.get().first_name) <= 150


# --- Whom a token means ---


@pytest.mark.parametrize("is_superuser", [True, False])
def test_email_or_name_of_a_local_account_does_not_take_it_over(provider: Provider, is_superuser: bool) -> None:
    local = User.objects.create_user("olena", "o@shop.ua", PASSWORD, is_staff=True, is_superuser=is_superuser)
    EmailAddress.objects.create(user=local, email="o@shop.ua", verified=True, primary=True)
    provider.claims |= {"email": "o@shop.ua", "email_verified": True, "preferred_username": "olena"}
    answer = sign_in(provider)
    signed_in = User.objects.get(pk=answer.client.session["_auth_user_id"])
    assert signed_in != local and not signed_in.is_superuser and signed_in.username != "olena"
    local.refresh_from_db()
    assert local.check_password(PASSWORD) and local.is_superuser == is_superuser and not local.groups.exists()


def test_name_that_somebody_has_taken_before_is_refused(provider: Provider) -> None:
    sign_in(provider)
    name = User.objects.get().username
    User.objects.all().delete()
    planted = User.objects.create_superuser(name, password=PASSWORD)
    assert_refused(sign_in(provider), "Your account name is taken")
    assert not SocialAccount.objects.exists() and User.objects.get() == planted


def test_same_subject_of_another_issuer_is_another_person(provider: Provider, settings: Any) -> None:
    sign_in(provider)
    with run_provider() as other:
        use_provider(settings, other)
        sign_in(other)
    assert User.objects.count() == 2


def test_deactivated_person_stays_out_and_unchanged(provider: Provider) -> None:
    client = sign_in(provider).client
    User.objects.update(is_active=False)
    provider.claims |= {"groups": ["shop-admins"]}
    assert client.get("/admin/").status_code == 302
    assert_refused(sign_in(provider), "Your account is deactivated")
    assert group_names(User.objects.get()) == {VIEWER} and not User.objects.get().is_active


def test_person_of_the_provider_has_no_other_way_in(provider: Provider) -> None:
    sign_in(provider)
    person = User.objects.get()
    person.set_password(PASSWORD)
    person.save()
    assert log_in(Client(), person.username, PASSWORD).status_code == 200


# --- Tokens ---


def after(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.update({name: value(claims) if callable(value) else value for name, value in changes.items()})


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.__delitem__(name)


WRONG_CLAIMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "audience": after(aud="another-client"),
    "one of two audiences without azp": after(aud=[CLIENT, "another-client"]),
    "azp": after(azp="another-client"),
    "issuer": after(iss="https://evil.example"),
    "issuer with a slash": after(iss=lambda claims: f"{claims['iss']}/"),
    "nonce": after(nonce="another login's"),
    "nonce of another type": after(nonce=["x"]),
    "no nonce": without("nonce"),
    "expired": after(exp=lambda claims: int(time.time()) - 120),
    "not yet valid": after(nbf=lambda claims: int(time.time()) + 600),
    "issued later": after(iat=lambda claims: int(time.time()) + 600),
    "no expiry": without("exp"),
    "expiry of another type": after(exp="soon"),
    "no subject": without("sub"),
    "empty subject": after(sub=""),
    "subject of another type": after(sub=7),
    "endless subject": after(sub="x" * 300),
    "no audience": without("aud"),
    "no issuer": without("iss"),
}


@pytest.mark.parametrize("what", list(WRONG_CLAIMS))
def test_token_with_a_wrong_claim_is_refused(provider: Provider, what: str) -> None:
    provider.change = WRONG_CLAIMS[what]
    assert_refused(sign_in(provider), UNVERIFIED)
    assert not User.objects.exists() and Entry.objects.filter(deed=Deed.PROVIDER_LOGIN_REFUSED).count() == 1


HEADER = {"alg": "RS256", "kid": "first", "typ": "JWT"}
WRONG_TOKENS: dict[str, Callable[[Provider, dict[str, Any]], Any]] = {
    "signed by another key of the same name": lambda provider, claims: build_token(claims, HEADER, Key("first").sign),
    "signed by a key that is not published": lambda provider, claims: build_token(claims, HEADER | {"kid": "x"}, Key("x").sign),
    "not signed": lambda provider, claims: build_token(claims, HEADER | {"alg": "none"}, lambda text: b""),
    "not signed, in capitals": lambda provider, claims: build_token(claims, HEADER | {"alg": "NONE"}, lambda text: b""),
    "signature cut off": lambda provider, claims: build_token(claims, HEADER, lambda text: b""),
    "signed by the public key": sign_by_public_key,
    "another algorithm than the key's": lambda provider, claims: build_token(claims, HEADER | {"alg": "RS512"}, provider.key.sign),
    "with a key in its header": lambda provider, claims: build_token(claims, HEADER | {"jwk": Key("y").describe()}, Key("y").sign),
    "its name is no text": lambda provider, claims: build_token(claims, HEADER | {"kid": 7}, provider.key.sign),
    "claims are a list": lambda provider, claims: build_token([claims], HEADER, provider.key.sign),  # type: ignore[arg-type]
    "no token": lambda provider, claims: None,
    "a number": lambda provider, claims: 7,
    "no dots": lambda provider, claims: "x",
    "letters beyond ASCII": lambda provider, claims: "é.é.é",
}


@pytest.mark.parametrize("what", list(WRONG_TOKENS))
def test_token_that_the_provider_has_not_signed_is_refused(provider: Provider, what: str) -> None:
    provider.token = WRONG_TOKENS[what]
    assert_refused(sign_in(provider), UNVERIFIED)
    assert not User.objects.exists()


def test_keys_rotate(provider: Provider) -> None:
    assert sign_in(provider).status_code == 302
    earlier = provider.key
    provider.key = Key("second")
    provider.published = [earlier, provider.key]
    assert sign_in(provider).status_code == 302
    provider.key, provider.published = earlier, [provider.key]
    assert_refused(sign_in(provider), UNVERIFIED)


# --- The flow ---


def test_code_is_good_once_and_in_the_browser_that_began(provider: Provider) -> None:
    client = Client()
    callback = urlsplit(provider.authorize(begin(client)))
    stranger = Client().get(f"{callback.path}?{callback.query}")
    stranger.client = Client()
    assert_refused(stranger, UNVERIFIED)
    assert client.get(f"{callback.path}?{callback.query}").status_code == 302
    again = client.get(f"{callback.path}?{callback.query}")
    assert again.status_code == 403 and client.get("/admin/").status_code == 200


def test_code_of_another_person_cannot_be_slipped_in(provider: Provider) -> None:
    """Login CSRF: the attacker's code, with the state of the victim's own login."""
    attacker, victim = Client(), Client()
    code = parse_qs(urlsplit(provider.authorize(begin(attacker))).query)["code"][0]
    state = parse_qs(urlsplit(begin(victim)).query)["state"][0]
    answer = victim.get(reverse("oidc_callback"), {"code": code, "state": state})
    answer.client = victim
    assert_refused(answer, UNVERIFIED)


@pytest.mark.parametrize(
    "query", ["", "state=x", "code=x", "code=x&state=x", "error=access_denied", "code=%00&state=%ff", "state=x&error=y"]
)
def test_answers_without_a_login_are_refused(provider: Provider, query: str) -> None:
    client = Client()
    answer = client.get(f"{reverse('oidc_callback')}?{query}")
    answer.client = client
    assert_refused(answer, UNVERIFIED)
    assert not provider.requests, "the provider is not asked"


def test_cancelled_login_says_so(provider: Provider) -> None:
    client = Client()
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    answer = client.get(reverse("oidc_callback"), {"error": "access_denied", "state": state})
    answer.client = client
    assert_refused(answer, "You have cancelled the login at Keycloak")


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:evil"])
def test_no_login_leads_outside(provider: Provider, address: str, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver", "other.example"]
    for target in (address, "http://other.example/"):
        answer = sign_in(provider, address=f"/admin/login/oidc/?next={target}")
        assert answer["Location"] == "/admin/"


def test_login_leads_to_where_the_person_was_going(provider: Provider) -> None:
    page = Client().get("/admin/orchestration/run/", follow=True).content.decode()
    assert "Sign in with Keycloak" in page and 'href="/admin/login/oidc/?next=%2Fadmin%2Forchestration%2Frun%2F"' in page
    assert sign_in(provider, address="/admin/login/oidc/?next=/admin/orchestration/run/")["Location"] == "/admin/orchestration/run/"


def test_request_changes_nothing_else_of_the_flow(provider: Provider) -> None:
    query = parse_qs(urlsplit(begin(Client(), "/admin/login/oidc/?process=connect&scope=offline_access&auth_params=nonce%3Dx")).query)
    assert set(query["scope"][0].split()) == {"openid", "profile", "email"} and query["nonce"] != ["x"]
    assert Client().post("/admin/login/oidc/").status_code == 405


def test_login_by_the_provider_connects_nothing_to_who_is_signed_in(provider: Provider) -> None:
    olena = User.objects.create_superuser("olena", password=PASSWORD)
    client = Client()
    client.force_login(olena)
    sign_in(provider, client, "/admin/login/oidc/?process=connect")
    assert not SocialAccount.objects.filter(user=olena).exists()
    assert client.session["_auth_user_id"] != str(olena.pk), "somebody else is signed in now"


def test_login_gives_the_session_another_key(provider: Provider) -> None:
    client = Client()
    begin(client)
    planted = client.session.session_key
    sign_in(provider, client)
    assert client.session.session_key != planted


# --- The provider's answers ---


def send(status: int, body: bytes) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drip(handler: Any) -> None:
    """Send a byte at a time, each in time for a timeout of the socket, for longer than anybody waits."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


GARBAGE: dict[str, Callable[[Any], None]] = {
    "an error": send(500, b"{}"),
    "no JSON": send(200, b"<html>"),
    "a list": send(200, b"[]"),
    "an empty object": send(200, b"{}"),
    "bytes that are no UTF-8": send(200, b"\xff\xfe\x00"),
    "endless": send(200, b'{"x": "' + b"x" * 2_000_000 + b'"}'),
    "deep": send(200, b"[" * 200_000),
    "nothing": lambda handler: handler.connection.close(),
    "slow": drip,
}


@pytest.mark.parametrize("what", list(GARBAGE))
def test_discovery_that_cannot_be_used_leaves_the_local_login(provider: Provider, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(documents, "TIMEOUT_S", 0.5)
    provider.answer["/.well-known/openid-configuration"] = GARBAGE[what]
    began, client = time.monotonic(), Client()
    answer = client.get("/admin/login/oidc/")
    answer.client = client  # type: ignore[attr-defined]
    assert_refused(answer, "Keycloak does not answer. Try again in a minute.", 503)
    assert time.monotonic() - began < 5
    User.objects.create_superuser("olena", password=PASSWORD)
    assert log_in(client, "olena", PASSWORD).status_code == 302


@pytest.mark.parametrize("path", ["/token", "/keys"])
@pytest.mark.parametrize("what", list(GARBAGE))
def test_garbage_during_a_login_is_no_error(provider: Provider, monkeypatch: pytest.MonkeyPatch, path: str, what: str) -> None:
    monkeypatch.setattr(documents, "TIMEOUT_S", 0.5)
    provider.answer[path] = GARBAGE[what]
    answer = sign_in(provider)
    assert answer.status_code in (403, 503) and answer.client.get("/admin/").status_code == 302


def test_key_that_is_no_public_one_is_refused(provider: Provider) -> None:
    """Whoever reads the provider's keys could sign by it."""
    secret = b"k" * 32
    published = {"keys": [{"kty": "oct", "kid": "first", "alg": "HS256", "k": encode(secret)}]}
    provider.answer["/keys"] = send(200, json.dumps(published).encode())
    provider.token = lambda provider, claims: build_token(
        claims, HEADER | {"alg": "HS256"}, lambda text: hmac.new(secret, text, hashlib.sha256).digest()
    )
    assert_refused(sign_in(provider), UNVERIFIED)


def test_provider_that_is_down_is_named(settings: Any, transactional_db: None) -> None:
    with run_provider() as provider:
        use_provider(settings, provider)
    answer = Client().get("/admin/login/oidc/")
    assert answer.status_code == 503 and "Keycloak does not answer" in answer.content.decode()
    assert Client().get("/admin/login/").status_code == 200


def test_discovery_of_another_issuer_is_refused(provider: Provider, settings: Any) -> None:
    settings.OIDC_URL = provider.url + "/"
    assert Client().get("/admin/login/oidc/").status_code == 503


def test_strangers_do_not_make_the_provider_work(provider: Provider) -> None:
    for _ in range(5):
        begin(Client())
    assert provider.requests == ["/.well-known/openid-configuration"]


def test_refusals_do_not_fill_the_log(provider: Provider) -> None:
    for _ in range(5):
        Client().get(reverse("oidc_callback"), {"code": "x", "state": "x"})
    assert Entry.objects.filter(deed=Deed.PROVIDER_LOGIN_REFUSED).count() == 1


# --- Without a provider, and without local accounts ---


def test_without_a_provider_there_is_no_way_to_one(transactional_db: None) -> None:
    assert Client().get("/admin/login/oidc/").status_code == Client().get(reverse("oidc_callback")).status_code == 404
    assert "Sign in with" not in Client().get("/admin/login/").content.decode()


def test_without_local_logins_only_the_provider_lets_in(provider: Provider, settings: Any) -> None:
    settings.LOCAL_LOGIN = False
    User.objects.create_superuser("olena", password=PASSWORD)
    page = Client().get("/admin/login/").content.decode()
    assert "Sign in with Keycloak" in page and "password" not in page.lower()
    assert log_in(Client(), "olena", PASSWORD).status_code == 403
    assert sign_in(provider).status_code == 302
