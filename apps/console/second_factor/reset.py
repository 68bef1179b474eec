"""Takes all second factors from somebody who has lost theirs."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.db import transaction

from apps.audit.chain import record
from apps.audit.models import Deed


@transaction.atomic
def reset_factors(person: Any) -> int:
    """Remove the person's factors and recovery codes, and record that. Return how many there were."""
    count = 0
    for factor in Authenticator.objects.select_for_update().filter(user=person):
        factor.delete()
        count += 1
    if count:
        record(Deed.FACTORS_RESET, person)
    return count
