"""What is recorded of users, groups, logins and second factors, whoever changes them: a page, a command or a shell."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_used
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.dispatch import receiver

from apps.audit.actor import find_actor
from apps.audit.chain import record
from apps.audit.guesses import record_refusal
from apps.audit.models import Deed
from apps.audit.sessions import start_session

DETAILS = ("username", "first_name", "last_name", "email")
# By column: the deed where it becomes true, and where it becomes false.
FLAGS = {
    "is_active": (Deed.USER_REACTIVATED, Deed.USER_DEACTIVATED),
    "is_staff": (Deed.STAFF_CHANGED, Deed.STAFF_CHANGED),
    "is_superuser": (Deed.SUPERUSER_GRANTED, Deed.SUPERUSER_REVOKED),
}
RELATIONS = {
    User.groups.through: Deed.GROUPS_CHANGED,
    User.user_permissions.through: Deed.PERMISSIONS_CHANGED,
    Group.permissions.through: Deed.GROUP_PERMISSIONS_CHANGED,
}


@receiver(user_logged_in)
def record_login(user: User, request: Any = None, **kwargs: Any) -> None:
    entry = record(Deed.LOGIN, user, actor=find_actor(user), reason=getattr(request, "login_reason", ""))
    if request is not None:
        start_session(request.session, entry)


@receiver(user_logged_out)
def record_logout(user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record(Deed.LOGOUT, user, actor=find_actor(user))


@receiver(user_login_failed)
def record_failed_login(credentials: dict[str, Any], request: Any = None, **kwargs: Any) -> None:
    """Record the name that was tried; it may be anybody's, or a password in the wrong field, so at most as long as a name."""
    name = str(credentials.get("username") or "")
    if getattr(request, "is_login_refused", False):
        record_refusal(name, getattr(request, "client_address", ""))
    else:
        record(Deed.LOGIN_FAILED, actor=find_actor(name))


# --- Second factors: of which kind, and never what they hold ---


@receiver(post_save, sender=Authenticator)
def record_added_factor(instance: Authenticator, created: bool, **kwargs: Any) -> None:
    if created:
        record(Deed.FACTOR_ADDED, instance.user, after={"kind": instance.type})


@receiver(post_delete, sender=Authenticator)
def record_removed_factor(instance: Authenticator, **kwargs: Any) -> None:
    record(Deed.FACTOR_REMOVED, instance.user, before={"kind": instance.type})


@receiver(authenticator_used)
def record_recovery(user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        record(Deed.RECOVERY_CODE_USED, user, actor=find_actor(user))


# --- Users and groups. What was stored is read again before each save, since a form has changed the instance already. ---


@receiver(pre_save, sender=User)
@receiver(pre_save, sender=Group)
def remember_stored(instance: Model, **kwargs: Any) -> None:
    model = type(instance)
    instance._stored = model._default_manager.filter(pk=instance.pk).first() if instance.pk else None  # type: ignore[attr-defined]


@receiver(post_save, sender=User)
def record_user(instance: User, update_fields: Any = None, **kwargs: Any) -> None:
    if update_fields and set(update_fields) <= {"last_login"}:
        return
    stored: User | None = getattr(instance, "_stored", None)
    with transaction.atomic():
        if stored is None:
            record(Deed.USER_ADDED, instance, after=read(instance, (*DETAILS, *FLAGS)))
            return
        record_change(Deed.USER_CHANGED, stored, instance, DETAILS)
        for name, (granted, revoked) in FLAGS.items():
            record_change(granted if getattr(instance, name) else revoked, stored, instance, (name,))
        # At a login Django may store the same password by a newer hasher, and then saves this column alone.
        if stored.password != instance.password and (not update_fields or getattr(instance, "_password", None) is not None):
            record(Deed.PASSWORD_CHANGED, instance, after={"usable": instance.has_usable_password()})


@receiver(post_save, sender=Group)
def record_group(instance: Group, **kwargs: Any) -> None:
    stored: Group | None = getattr(instance, "_stored", None)
    if stored is None:
        record(Deed.GROUP_ADDED, instance)
    else:
        record_change(Deed.GROUP_CHANGED, stored, instance, ("name",))


@receiver(post_delete, sender=User)
def record_deleted_user(instance: User, **kwargs: Any) -> None:
    record(Deed.USER_DELETED, instance, before=read(instance, (*DETAILS, *FLAGS)))


@receiver(post_delete, sender=Group)
def record_deleted_group(instance: Group, **kwargs: Any) -> None:
    record(Deed.GROUP_DELETED, instance)


@receiver(m2m_changed)
def record_relation(sender: Any, instance: Model, action: str, reverse: bool, model: type[Model], pk_set: Any, **kwargs: Any) -> None:
    """Record what a user or a group has been given or has lost, also where the other side was edited."""
    if sender not in RELATIONS or action not in ("post_add", "post_remove", "pre_clear"):
        return
    changed = model._default_manager.filter(pk__in=pk_set) if pk_set is not None else find_related(sender, instance, reverse, model)
    pairs = [(row, [name_of(instance)]) for row in changed] if reverse else [(instance, sorted(map(name_of, changed)))]
    for row, names in pairs:
        if names:
            given = action == "post_add"
            record(RELATIONS[sender], row, before={} if given else {"names": names}, after={"names": names} if given else {})


def find_related(through: Any, instance: Model, reverse: bool, model: type[Model]) -> Any:
    """Return the rows that a clear is about to take from the instance."""
    source, target = (type(instance)._meta.model_name, model._meta.model_name)
    keys = through._default_manager.filter(**{f"{source}_id": instance.pk}).values_list(f"{target}_id", flat=True)
    return model._default_manager.filter(pk__in=list(keys))


def name_of(row: Model) -> str:
    return f"{row.content_type.app_label}.{row.codename}" if isinstance(row, Permission) else str(row)


def record_change(deed: Deed, stored: Model, instance: Model, names: tuple[str, ...]) -> None:
    changed = tuple(name for name in names if getattr(stored, name) != getattr(instance, name))
    if changed:
        record(deed, instance, before=read(stored, changed), after=read(instance, changed))


def read(row: Model, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
