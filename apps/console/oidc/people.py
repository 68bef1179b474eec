"""Whom the provider's claims let in, and with which rights: exactly those that the claims name, at each login."""

import hashlib
from collections.abc import Mapping
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils.translation import gettext as _

PROVIDER_ID = "oidc"
REASON = "OIDC"  # of the audit log
# Of the user, and the claim that it has its value from.
DETAILS = {"first_name": "given_name", "last_name": "family_name", "email": "email"}


class NotAdmitted(Exception):
    """The person is who they are, but may not log in. Its text is for them, `cause` for the audit log."""

    def __init__(self, text: str, cause: str):
        super().__init__(text)
        self.cause = cause


def compute_uid(issuer: str, subject: str) -> str:
    """Return what identifies a person for ever: a subject is unique at its issuer alone, and an e-mail address may be given to another."""
    return hashlib.sha256(f"{issuer}\n{subject}".encode("utf-8", "surrogatepass")).hexdigest()


def name_user(uid: str) -> str:
    return f"{PROVIDER_ID}-{uid[:20]}"


def find_groups(claims: Mapping[str, Any]) -> set[str]:
    """Return the names of the groups that the claims mean. Raises NotAdmitted where they mean none."""
    listed = claims.get(settings.OIDC_GROUPS_CLAIM, [])
    values = [listed] if isinstance(listed, str) else listed
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        text = _("%(name)s sent your groups in a form that TechMarket cannot read. Ask an administrator to check its configuration.")
        raise NotAdmitted(text % {"name": settings.OIDC_NAME}, "the groups are no list of texts")
    groups = {name for name, meaning in settings.OIDC_GROUPS.items() if not set(meaning).isdisjoint(values)}
    if not groups:
        text = _("None of your groups at %(name)s may use TechMarket. Ask an administrator to add you to one.")
        raise NotAdmitted(text % {"name": settings.OIDC_NAME}, "no group of TechMarket")
    return groups


@transaction.atomic
def admit(uid: str, claims: Mapping[str, Any]) -> User:
    """Return the person as the claims have them: created at the first login, and with these groups and no others."""
    groups = find_groups(claims)
    details = {name: read_text(claims.get(claim), name) for name, claim in DETAILS.items()}
    account = SocialAccount.objects.select_for_update().filter(provider=PROVIDER_ID, uid=uid).first()
    person = update_person(account.user, details) if account else add_person(uid, details)
    person.user_permissions.clear()
    person.groups.set(Group.objects.filter(name__in=groups))
    return person


def add_person(uid: str, details: Mapping[str, str]) -> User:
    """Create the account. Nobody is found by name or e-mail address: whoever has those of another account must not take it over."""
    if User.objects.filter(username=name_user(uid)).exists():
        raise NotAdmitted(_("Your account name is taken. Ask an administrator."), "the name is that of another account")
    person = User.objects.create_user(name_user(uid), is_staff=True, **details)
    SocialAccount.objects.create(user=person, provider=PROVIDER_ID, uid=uid)
    return person


def update_person(person: User, details: Mapping[str, str]) -> User:
    if not person.is_active:
        raise NotAdmitted(_("Your account is deactivated. Ask an administrator."), "deactivated")
    wanted = {**details, "is_staff": True, "is_superuser": False}
    if any(getattr(person, name) != value for name, value in wanted.items()):
        for name, value in wanted.items():
            setattr(person, name, value)
        person.save()
    return person


def read_text(value: Any, name: str) -> str:
    """Return the claim as the user's column can hold it; of another type than a text, nothing."""
    if not isinstance(value, str):
        return ""
    column: Any = User._meta.get_field(name)
    return "".join(letter for letter in value if letter.isprintable())[: column.max_length]


def is_from_provider(person: Any) -> bool:
    return bool(person.is_authenticated) and SocialAccount.objects.filter(user_id=person.pk).exists()
