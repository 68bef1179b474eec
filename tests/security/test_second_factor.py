"""A second factor is asked for, limited like a password, usable once, stored encrypted, and reset only by those who may."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from apps.audit import guesses
from apps.audit.models import Deed, Entry
from apps.console.groups import ADMINISTRATOR, GROUPS, OPERATOR, VIEWER
from tests.console.conftest import SignIn
from tests.security.deeds import PASSWORD, log_in
from tests.security.totp import compute_code

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
INDEX, CODE_PAGE = "/admin/security/", "/admin/login/code/"
SHOWN_CODE = re.compile(r"<code>(\d{10})</code>")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock of codes that a test moves by 30 seconds, so that it need not wait for the next code."""
    now = [time.time()]
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time.time", lambda: now[0])
    yield now


@pytest.fixture
def petro(transactional_db: None) -> User:
    return User.objects.create_user("petro", password=PASSWORD, is_staff=True)


def confirm(client: Client, next_page: str) -> Any:
    return client.post(f"{reverse('account_reauthenticate')}?next={next_page}", {"password": PASSWORD, "next": next_page})


def add_app(client: Client, clock: list[float]) -> str:
    """Add an authenticator app as a person does, and return its secret."""
    page = reverse("mfa_activate_totp")
    confirm(client, page)
    secret = str(client.get(page).context["form"].secret)
    assert client.post(page, {"code": compute_code(secret, clock[0])}).status_code == 302
    clock[0] += 30
    return secret


@pytest.fixture
def with_app(petro: User, clock: list[float]) -> str:
    """Return the secret of the app that petro has added."""
    client = Client()
    log_in(client, "petro", PASSWORD)
    return add_app(client, clock)


def give_code(client: Client, code: str) -> Any:
    log_in(client, "petro", PASSWORD)
    return client.post(CODE_PAGE, {"code": code})


def is_signed_in(client: Client) -> bool:
    return bool(client.get(reverse("admin:index")).status_code == 200)


# --- A login asks for it ---


def test_password_alone_no_longer_lets_in(with_app: str, clock: list[float]) -> None:
    client = Client()
    answer = log_in(client, "petro", PASSWORD)
    assert answer.status_code == 302 and answer["Location"] == CODE_PAGE and not is_signed_in(client)
    assert Entry.objects.filter(deed=Deed.LOGIN).count() == 1, "the one before there was an app"
    answer = client.post(CODE_PAGE, {"code": compute_code(with_app, clock[0])})
    assert answer["Location"] == "/admin/" and is_signed_in(client)
    assert Entry.objects.filter(deed=Deed.LOGIN).count() == 2


def test_login_leads_to_where_the_person_was_going_and_not_outside(with_app: str, clock: list[float]) -> None:
    for target, expected in (("/admin/auth/", "/admin/auth/"), ("https://evil.example/", "/admin/")):
        client = Client()
        client.post(f"/admin/login/?next={target}", {"username": "petro", "password": PASSWORD})
        assert client.post(CODE_PAGE, {"code": compute_code(with_app, clock[0])})["Location"] == expected
        clock[0] += 30


def test_code_page_needs_the_password_first(with_app: str, clock: list[float]) -> None:
    client = Client()
    assert client.get(CODE_PAGE).status_code == 302
    client.post(CODE_PAGE, {"code": compute_code(with_app, clock[0])})
    assert not is_signed_in(client)


def test_code_is_good_once_in_whichever_process(with_app: str, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.cache.add", lambda *args, **options: True)  # as in another process
    code = compute_code(with_app, clock[0])
    assert give_code(Client(), code).status_code == 302
    again = give_code(Client(), code)
    assert again.status_code == 200 and "This code has been used" in again.content.decode()
    earlier = give_code(Client(), compute_code(with_app, clock[0] - 30))
    assert earlier.status_code == 200, "nor one from before it"
    clock[0] += 30
    assert give_code(Client(), compute_code(with_app, clock[0])).status_code == 302


def test_code_that_set_the_app_up_does_not_log_in(with_app: str, clock: list[float]) -> None:
    assert give_code(Client(), compute_code(with_app, clock[0] - 30)).status_code == 200


def test_codes_of_other_times_are_refused(with_app: str, clock: list[float]) -> None:
    for offset in (-90, 90, 3_600):
        assert give_code(Client(), compute_code(with_app, clock[0] + offset)).status_code == 200
    assert give_code(Client(), compute_code(with_app, clock[0] + 30)).status_code == 302, "a clock may be 30 seconds ahead"


def test_code_may_be_typed_as_the_app_shows_it(with_app: str, clock: list[float]) -> None:
    code = compute_code(with_app, clock[0])
    assert give_code(Client(), f" {code[:3]} {code[3:]} ").status_code == 302


@pytest.mark.parametrize("code", ["", "000000", "abc", "١٢٣٤٥٦", "0" * 20, "\x00", "12345\n"])
def test_wrong_codes_are_no_error(with_app: str, code: str) -> None:
    client = Client()
    assert give_code(client, code).status_code == 200 and not is_signed_in(client)


@pytest.mark.parametrize(
    "credential", ["", "{}", "[]", "null", "x", '{"id": 1}', '{"response": null, "rawId": "x", "id": "x", "type": "x"}', "[" * 40_000]
)
def test_wrong_passkeys_are_no_error(with_app: str, credential: str) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    assert client.post(CODE_PAGE, {"credential": credential}).status_code == 200 and not is_signed_in(client)


# --- Guesses ---


def test_wrong_codes_count_as_failed_logins(with_app: str, clock: list[float]) -> None:
    client = Client(REMOTE_ADDR="203.0.113.9")
    log_in(client, "petro", PASSWORD)
    for _ in range(guesses.MAX_OF_BOTH):
        assert "Too many" not in client.post(CODE_PAGE, {"code": "000000"}).content.decode()
    answer = client.post(CODE_PAGE, {"code": compute_code(with_app, clock[0])})
    assert "Too many logins have failed. Wait 15 minutes" in answer.content.decode() and not is_signed_in(client)
    assert log_in(client, "petro", PASSWORD).status_code == 200, "nor does the password get as far as the code"
    assert {entry.reason for entry in Entry.objects.filter(deed=Deed.LOGIN_FAILED)} == {"second factor"}


def test_right_password_between_wrong_codes_forgets_none(with_app: str, clock: list[float]) -> None:
    for _ in range(guesses.MAX_OF_BOTH):
        give_code(Client(REMOTE_ADDR="203.0.113.9"), "000000")
    refused = Client(REMOTE_ADDR="203.0.113.9")
    give_code(refused, compute_code(with_app, clock[0]))
    assert not is_signed_in(refused)


def test_wrong_passwords_and_codes_of_who_is_signed_in_count(petro: User, clock: list[float]) -> None:
    client = Client(REMOTE_ADDR="203.0.113.9")
    log_in(client, "petro", PASSWORD)
    for _ in range(guesses.MAX_OF_BOTH):
        client.post(reverse("account_reauthenticate"), {"password": "wrong"})
    answer = confirm(client, INDEX)
    assert answer.status_code == 200 and "Too many logins have failed" in answer.content.decode()


# --- Recovery codes ---


def read_codes(client: Client) -> list[str]:
    return SHOWN_CODE.findall(client.get(reverse("mfa_view_recovery_codes")).content.decode())


@pytest.fixture
def codes(petro: User, clock: list[float]) -> list[str]:
    client = Client()
    log_in(client, "petro", PASSWORD)
    add_app(client, clock)
    return read_codes(client)


def test_recovery_codes_are_shown_once_and_each_is_good_once(codes: list[str], clock: list[float]) -> None:
    assert len(codes) == len(set(codes)) == 10
    client = Client()
    assert give_code(client, codes[3]).status_code == 302 and is_signed_in(client)
    assert Entry.objects.get(deed=Deed.RECOVERY_CODE_USED).actor == "petro"
    assert give_code(Client(), codes[3]).status_code == 200
    assert give_code(Client(), codes[4]).status_code == 302
    page = reverse("mfa_view_recovery_codes")
    confirm(client, page)
    assert not read_codes(client) and "have been shown before" in client.get(page).content.decode()
    assert "8 codes are left" in client.get(INDEX).content.decode()


def test_new_recovery_codes_replace_the_earlier(codes: list[str]) -> None:
    client = Client()
    give_code(client, codes[0])
    page = reverse("mfa_generate_recovery_codes")
    confirm(client, page)
    assert client.post(page).status_code == 302
    fresh = read_codes(client)
    assert len(fresh) == 10 and not set(fresh) & set(codes)
    assert give_code(Client(), codes[1]).status_code == 200 and give_code(Client(), fresh[1]).status_code == 302


# --- Storage ---


def test_secrets_are_stored_encrypted_and_appear_nowhere(codes: list[str], caplog: Any) -> None:
    stored = {factor.type: factor.data for factor in Authenticator.objects.all()}
    assert stored["totp"]["secret"].startswith("gAAAA") and stored["recovery_codes"]["seed"].startswith("gAAAA")
    give_code(Client(), codes[0])
    written = [str(vars(entry)) for entry in Entry.objects.all()] + [caplog.text] + [str(stored)]
    assert not [code for code in codes for text in written if code in text]
    assert [entry.after for entry in Entry.objects.filter(deed=Deed.FACTOR_ADDED)] == [{"kind": "recovery_codes"}, {"kind": "totp"}]


def test_secret_leaves_the_session_with_the_set_up(with_app: str) -> None:
    assert not [session for session in Session.objects.all() if with_app in str(session.get_decoded())]


def test_rotated_key_reads_and_renews(with_app: str, clock: list[float], settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
    assert give_code(Client(), compute_code(with_app, clock[0])).status_code == 302
    settings.SECRET_KEY_FALLBACKS = []
    clock[0] += 30
    assert give_code(Client(), compute_code(with_app, clock[0])).status_code == 302


def test_lost_key_says_so(with_app: str, clock: list[float], settings: Any) -> None:
    settings.SECRET_KEY = "k8Jq2Zr7Wn4Xv1Tb6Yc9Md3Lf5Hg0PsQeRtUiOaSdFgHjKlZxCvB"
    answer = give_code(Client(), compute_code(with_app, clock[0]))
    assert answer.status_code == 200 and "because SECRET_KEY has changed" in answer.content.decode()


# --- The page Security ---

CHANGES = ("mfa_activate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes")


@pytest.mark.parametrize("name", [*CHANGES, "mfa_deactivate_totp", "mfa_view_recovery_codes"])
def test_each_change_asks_for_the_password_again(petro: User, clock: list[float], name: str) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    if name not in CHANGES:
        add_app(client, clock)
        pass_ten_minutes(client)
    requests = [client.get] if name == "mfa_view_recovery_codes" else [client.get, client.post]
    for request in requests:
        answer = request(reverse(name), {"code": "1"})
        assert answer.status_code == 302 and answer["Location"].startswith(reverse("account_reauthenticate")), name


def pass_ten_minutes(client: Client) -> None:
    session = client.session
    session["account_authentication_methods"] = [
        {**record, "at": record["at"] - 600} for record in session["account_authentication_methods"]
    ]
    session.save()


def test_app_is_removed_with_the_recovery_codes(codes: list[str]) -> None:
    client = Client()
    give_code(client, codes[0])
    page = reverse("mfa_deactivate_totp")
    confirm(client, page)
    assert client.post(page).status_code == 302 and not Authenticator.objects.exists()
    assert Entry.objects.filter(deed=Deed.FACTOR_REMOVED).count() == 2
    assert log_in(Client(), "petro", PASSWORD)["Location"] == "/admin/"


def test_others_factors_are_out_of_reach(with_app: str, sign_in: SignIn) -> None:
    client, other = sign_in(ADMINISTRATOR), User.objects.get(username=ADMINISTRATOR)
    other.set_password(PASSWORD)
    other.save()
    client = Client()
    log_in(client, ADMINISTRATOR, PASSWORD)
    passkey = Authenticator.objects.create(
        user=User.objects.get(username="petro"), type="webauthn", data={"name": "phone", "credential": {}}
    )
    page = reverse("mfa_remove_webauthn", args=[passkey.pk])
    confirm(client, page)
    assert client.post(page).status_code == 404 and Authenticator.objects.filter(pk=passkey.pk).exists()


def test_pages_are_not_stored_by_browsers(petro: User, clock: list[float]) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    add_app(client, clock)
    assert "no-store" in client.get(reverse("mfa_view_recovery_codes"))["Cache-Control"]


@pytest.mark.parametrize(
    "name", ["account_signup", "account_email", "account_reset_password", "socialaccount_connections", "account_logout"]
)
def test_pages_of_allauth_that_nobody_needs_are_not_there(name: str) -> None:
    with pytest.raises(Exception, match="not found"):
        reverse(name)


# --- MFA_REQUIRED ---


@pytest.mark.parametrize(("required", "led"), [("none", set()), ("operators", {OPERATOR, ADMINISTRATOR}), ("everyone", set(GROUPS))])
def test_whoever_needs_a_factor_reaches_nothing_before(sign_in: SignIn, settings: Any, required: str, led: set[str]) -> None:
    settings.MFA_REQUIRED = required
    for group in GROUPS:
        client = sign_in(group)
        for page in ("/admin/", "/admin/orchestration/run/", "/admin/password_change/", "/"):
            answer = client.get(page)
            assert (answer.status_code == 302 and answer["Location"] == INDEX) == (group in led), (group, page)
        assert client.post("/admin/orchestration/run/start/", {"mode": "full"}).status_code in ((302,) if group in led else (302, 403))
        assert ("Your account needs a second factor" in client.get(INDEX).content.decode()) == (group in led)


def test_superuser_and_own_group_with_more_rights_need_a_factor(sign_in: SignIn, settings: Any, client: Client) -> None:
    settings.MFA_REQUIRED = "operators"
    client.force_login(User.objects.create_superuser("root"))
    assert client.get("/admin/")["Location"] == INDEX
    nightly = Group.objects.create(name="night shift")
    nightly.permissions.set(Group.objects.get(name=OPERATOR).permissions.all())
    person = User.objects.create_user("iryna", is_staff=True)
    person.groups.set([nightly])
    client.force_login(person)
    assert client.get("/admin/")["Location"] == INDEX


def test_factor_opens_the_pages_and_its_removal_closes_them(petro: User, clock: list[float], settings: Any) -> None:
    settings.MFA_REQUIRED = "everyone"
    client = Client()
    log_in(client, "petro", PASSWORD)
    assert not is_signed_in(client)
    add_app(client, clock)
    assert is_signed_in(client)
    page = reverse("mfa_deactivate_totp")
    confirm(client, page)
    client.post(page)
    assert not is_signed_in(client)


def test_who_may_only_set_up_can_log_out(petro: User, settings: Any) -> None:
    settings.MFA_REQUIRED = "everyone"
    client = Client()
    log_in(client, "petro", PASSWORD)
    assert client.post(reverse("admin:logout")).status_code == 200 and client.get(INDEX)["Location"].startswith("/admin/login/")


# --- Resets ---


def reset(client: Client, person: User) -> int:
    return client.post(reverse("admin:auth_user_reset_second_factor", args=[person.pk])).status_code


def test_administrator_resets_within_their_rights(with_app: str, petro: User, sign_in: SignIn) -> None:
    client = sign_in(ADMINISTRATOR)
    assert "Reset second factor" in client.get(reverse("admin:auth_user_change", args=[petro.pk])).content.decode()
    assert "Remove the authenticator app" in client.get(reverse("admin:auth_user_reset_second_factor", args=[petro.pk])).content.decode()
    assert reset(client, petro) == 302 and not Authenticator.objects.exists()
    entry = Entry.objects.get(deed=Deed.FACTORS_RESET)
    assert (entry.actor, entry.object_name) == (ADMINISTRATOR, "petro")


@pytest.mark.parametrize("group", [VIEWER, OPERATOR])
def test_others_reset_nobody(with_app: str, petro: User, sign_in: SignIn, group: str) -> None:
    assert reset(sign_in(group), petro) == 403 and Authenticator.objects.exists()


def test_nobody_resets_a_superuser_or_themself(with_app: str, petro: User, sign_in: SignIn) -> None:
    client = sign_in(ADMINISTRATOR)
    User.objects.filter(pk=petro.pk).update(is_superuser=True)
    assert reset(client, petro) == 403
    assert reset(client, User.objects.get(username=ADMINISTRATOR)) == 403, "without a password"
    assert Authenticator.objects.exists()


def test_command_resets(with_app: str, capsys: Any) -> None:
    call_command("reset_second_factor", "petro")
    assert capsys.readouterr().out == "petro: 2 removed.\n" and not Authenticator.objects.exists()
    assert Entry.objects.get(deed=Deed.FACTORS_RESET).actor_kind == "os"
