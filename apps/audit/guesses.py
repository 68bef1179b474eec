"""How many logins may fail before more are refused. The audit log has every failure already, so it is what is counted.

For every client that tries, whether the account exists or not. A wrong second factor counts like a wrong password. A success makes an
account's failures from its address be forgotten.
"""

from datetime import timedelta

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from apps.audit.actor import find_actor
from apps.audit.chain import clean, record
from apps.audit.models import MAX_ADDRESS, MAX_NAME, ActorKind, Deed, Entry

WINDOW = timedelta(minutes=15)
# Within the window: of an account from one address; of an account from anywhere; of an address, whatever the account.
MAX_OF_BOTH, MAX_OF_ACCOUNT, MAX_OF_ADDRESS = 5, 30, 30


class GuessLimitBackend:
    """Stands before the backends that know passwords, and refuses a login before they check one. It knows no users itself."""

    def authenticate(self, request: HttpRequest | None, username: str | None = None, **credentials: object) -> None:
        """Raise PermissionDenied where too many logins have failed; a command, which has no request, has no limit."""
        if request is None or username is None:
            return
        if is_refused(username, getattr(request, "client_address", "")):
            request.is_login_refused = True  # type: ignore[attr-defined]
            raise PermissionDenied


def is_refused(name: str, address: str) -> bool:
    name, address = clean(name)[:MAX_NAME], clean(address)[:MAX_ADDRESS]  # as the log has them
    failures = recent(Deed.LOGIN_FAILED)
    of_account = failures.filter(actor=name)
    if of_account.count() >= MAX_OF_ACCOUNT:
        return True
    if not address:  # a proxy on a socket that says nothing of its clients: they must not lock out each other
        return False
    if failures.filter(address=address).count() >= MAX_OF_ADDRESS:
        return True
    success = Entry.objects.filter(deed=Deed.LOGIN, actor=name, address=address).first()
    since = of_account.filter(address=address, number__gt=success.number if success else 0)
    return since.count() >= MAX_OF_BOTH


def record_failure(user: User) -> None:
    """Count a wrong second factor like a wrong password. Its owner has given the password, or is signed in."""
    record(Deed.LOGIN_FAILED, actor=find_actor(user), reason="second factor")


def record_refusal(name: str, address: str) -> None:
    """Record a refused login once in a window for each address: whoever goes on must not fill the log."""
    if not recent(Deed.LOGIN_REFUSED).filter(address=address).exists():
        record(Deed.LOGIN_REFUSED, actor=find_actor(name))


def record_provider_refusal(name: str, address: str, reason: str) -> None:
    """Record the refusal of somebody whom the provider has named, or of nobody, once in a window for each address."""
    if not recent(Deed.PROVIDER_LOGIN_REFUSED).filter(actor=name, address=address).exists():
        record(Deed.PROVIDER_LOGIN_REFUSED, actor=find_actor(name), reason=reason)


def recent(deed: Deed) -> "QuerySet[Entry]":
    return Entry.objects.filter(deed=deed, actor_kind=ActorKind.USER, at__gte=Now() - WINDOW)
