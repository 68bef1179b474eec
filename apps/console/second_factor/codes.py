"""Codes of an authenticator app, each of which is good once, in whichever web process it is entered."""

from collections.abc import Iterator
from typing import Any

from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.db import transaction

from apps.console.second_factor.secrets import decrypt, renew

LAST = "last_counter"  # of the authenticator's data: the time step of the last code that was accepted
SECRETS = ("secret", "seed")


@transaction.atomic
def claim_code(authenticator: Authenticator, code: str) -> bool:
    """Remember the code's time step as used. Return False where it, or a later one, was used before.

    allauth remembers used codes in the cache, and each web process has one of its own.
    """
    stored = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
    step = next(find_steps(decrypt(stored.data["secret"]), code), None)
    if step is None or step <= stored.data.get(LAST, -1):
        return False
    stored.data[LAST] = step
    stored.save(update_fields=["data"])
    return True


def find_steps(secret: str, code: str) -> Iterator[int]:
    """Yield the time steps, of those that are accepted now, that the code belongs to."""
    for step in yield_hotp_counters_from_time():
        if compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, step))):
            yield step


@transaction.atomic
def renew_secrets(user: Any) -> None:
    """Encrypt the user's secrets by SECRET_KEY, where an earlier key has."""
    for stored in Authenticator.objects.select_for_update().filter(user=user):
        renewed = {name: renew(stored.data[name]) for name in SECRETS if name in stored.data}
        if renewed:
            stored.data |= renewed
            stored.save(update_fields=["data"])
