"""Guesses are limited by account and address, passwords are long, and sessions end with their time or with the rights they began with."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit import guesses, sessions
from apps.audit.models import Deed, Entry
from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.orchestration.worker import tasks
from tests.console.conftest import SignIn
from tests.security.deeds import PASSWORD, log_in

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
WRONG = "not the pass phrase"


@pytest.fixture
def petro(transactional_db: None) -> User:
    return User.objects.create_user("petro", password=PASSWORD, is_staff=True)


def come_from(address: str) -> Client:
    return Client(REMOTE_ADDR=address)


def may_log_in(client: Client, name: str = "petro") -> bool:
    return bool(log_in(client, name, PASSWORD).status_code == 302)


def guess(client: Client, times: int, name: str = "petro") -> Any:
    for _ in range(times):
        answer = log_in(client, name, WRONG)
    return answer


# --- Guesses ---


def test_five_failures_from_an_address_lock_the_account_there_alone(petro: User) -> None:
    attacker = come_from("203.0.113.9")
    assert "Too many" not in guess(attacker, 5).content.decode()
    refused = log_in(attacker, "petro", PASSWORD)
    assert refused.status_code == 200 and "Too many logins have failed. Wait 15 minutes" in refused.content.decode()
    assert may_log_in(come_from("198.51.100.7")), "its owner is elsewhere"
    assert not may_log_in(attacker)


def test_refusals_do_not_depend_on_the_account_and_fill_no_log(transactional_db: None) -> None:
    attacker = come_from("203.0.113.9")
    guess(attacker, 5, "nobody")
    before = Entry.objects.count()
    for _ in range(10):
        assert "Too many logins" in log_in(attacker, "nobody", WRONG).content.decode()
    assert Entry.objects.count() == before + 1 and Entry.objects.first().deed == Deed.LOGIN_REFUSED  # type: ignore[union-attr]


def test_one_address_cannot_try_many_accounts(petro: User) -> None:
    attacker = come_from("203.0.113.9")
    for number in range(guesses.MAX_OF_ADDRESS):
        guess(attacker, 1, f"user{number}")
    assert not may_log_in(attacker) and may_log_in(come_from("203.0.113.10"))


def test_many_addresses_cannot_try_one_account(petro: User) -> None:
    for number in range(guesses.MAX_OF_ACCOUNT):
        guess(come_from(f"203.0.113.{number}"), 1)
    assert not may_log_in(come_from("198.51.100.7"))


def test_forged_address_does_not_lift_the_limit(petro: User) -> None:
    for number in range(5):
        guess(Client(REMOTE_ADDR="203.0.113.9", headers={"X-Forwarded-For": f"198.51.100.{number}"}), 1)
    assert not may_log_in(Client(REMOTE_ADDR="203.0.113.9", headers={"X-Forwarded-For": "198.51.100.77"}))


def test_limit_ends_with_its_window_and_with_a_success(petro: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = come_from("203.0.113.9")
    guess(client, 4)
    assert may_log_in(client)
    guess(client, 4)
    assert may_log_in(client), "a success forgets what failed before"
    guess(client, 5)
    assert not may_log_in(client)
    monkeypatch.setattr(guesses, "WINDOW", timedelta(seconds=0))
    assert may_log_in(client)


def test_clients_of_an_unnamed_proxy_do_not_lock_out_each_other(petro: User) -> None:
    for number in range(guesses.MAX_OF_ADDRESS + 1):
        guess(come_from(""), 1, f"user{number}")
    assert may_log_in(come_from(""))


# --- Passwords ---


@pytest.mark.parametrize("password", ["elevenchars", "password1234", "123456789012"])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        validate_password(password)


def test_passwords_are_hashed_by_argon2_and_earlier_ones_anew_at_a_login(petro: User) -> None:
    assert petro.password.startswith("argon2$argon2id$")
    User.objects.filter(pk=petro.pk).update(password=PBKDF2PasswordHasher().encode(PASSWORD, "salt"))
    assert may_log_in(Client())
    petro.refresh_from_db()
    assert petro.password.startswith("argon2$") and not Entry.objects.filter(deed=Deed.PASSWORD_CHANGED).exists()


# --- Sessions ---


def is_signed_in(client: Client) -> bool:
    return bool(client.get(reverse("admin:index")).status_code == 200)


def pass_time(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    now = time.time()
    monkeypatch.setattr(sessions.time, "time", lambda: now + hours * 3600)


def test_session_ends_after_its_hours_however_it_is_used(petro: User, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    for hours in [0.5] * 15:
        pass_time(monkeypatch, hours)
        assert is_signed_in(client)
    pass_time(monkeypatch, 0.6)
    answer = client.get(reverse("admin:index"), follow=True)
    assert answer.request["PATH_INFO"] == reverse("admin:login") and "Your session has ended" in answer.content.decode()
    assert Entry.objects.get(deed=Deed.SESSION_ENDED).object_name == "petro" and not Session.objects.filter(pk=client.session.session_key)


def test_unused_session_ends_and_a_page_that_refreshes_itself_is_no_use(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, schedules: None
) -> None:
    client = sign_in(VIEWER)
    for _ in range(3):
        pass_time(monkeypatch, 0.4)
        assert client.get(reverse("console:now"), headers={"HX-Request": "true"}).status_code in (200, 403)
    assert not is_signed_in(client)


def test_session_ends_where_rights_change(sign_in: SignIn) -> None:
    operator, administrator = sign_in(OPERATOR), sign_in(ADMINISTRATOR)
    person = User.objects.get(username=OPERATOR)
    assert is_signed_in(operator)
    form = {"username": OPERATOR, "is_active": "on", "is_staff": "on", "groups": [Group.objects.get(name=VIEWER).pk]}
    assert administrator.post(reverse("admin:auth_user_change", args=[person.pk]), form).status_code == 302
    assert not is_signed_in(operator) and is_signed_in(administrator)


def test_other_sessions_end_where_the_password_changes(petro: User) -> None:
    here, elsewhere = Client(), Client()
    for client in (here, elsewhere):
        log_in(client, "petro", PASSWORD)
    form = {"old_password": PASSWORD, "new_password1": "another long pass phrase", "new_password2": "another long pass phrase"}
    assert here.post(reverse("admin:password_change"), form).status_code == 302
    assert is_signed_in(here) and not is_signed_in(elsewhere)


def test_login_gives_the_session_another_key(petro: User) -> None:
    """Against fixation: a key that somebody has planted before the login is worth nothing after it."""
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["sessionid"] = planted = session.session_key
    log_in(client, "petro", PASSWORD)
    assert client.session.session_key != planted and not Session.objects.filter(pk=planted).exists()


def test_expired_sessions_are_deleted_every_day(petro: User) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    Session.objects.update(expire_date=timezone.now() - timedelta(days=1))
    tasks.forget()
    assert not Session.objects.exists()
