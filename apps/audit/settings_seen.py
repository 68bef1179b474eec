"""Which settings a process started with: their names, and hashes that tell whether a value is another one than before."""

from contextlib import suppress

from django.conf import settings

from apps.audit.actor import Actor, os_user
from apps.audit.chain import record
from apps.audit.models import ActorKind, Deed, Entry
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError

seen: set[str] = set()  # the roles whose settings this process has recorded


def record_settings_once(role: str) -> None:
    """Record the settings of a process of this role, if one of them is another than when the role started last."""
    if role in seen:
        return
    seen.add(role)
    with suppress(EtlError), diagnosed("default"):  # what does not answer is reported by whatever needs it next
        record_settings(role)


def record_settings(role: str) -> None:
    now, before = settings.ENVIRONMENT_HASHES, read_last(role)
    changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    if changed:
        record(
            Deed.SETTINGS_SEEN,
            before={name: before[name] for name in changed if name in before},
            after={"role": role, "changed": changed, "all": now},
            actor=Actor(os_user(), ActorKind.OPERATING_SYSTEM),  # the process's own, not of the request that came first
        )


def read_last(role: str) -> dict[str, str]:
    last = Entry.objects.filter(deed=Deed.SETTINGS_SEEN, after__role=role).first()
    found: dict[str, str] = last.after.get("all", {}) if last else {}
    return found
