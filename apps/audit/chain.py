"""The chain: each entry's hash covers the entry before it, and the head is sealed by a key that is in no database."""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac
from django.utils.translation import override

from apps.audit.actor import Actor, find_actor
from apps.audit.models import MAX_ADDRESS, MAX_NAME, MAX_OBJECT, MAX_REASON, Deed, Entry, Head
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError, NotMigrated
from techmarket.printable import escape_unprintable

log = structlog.get_logger()
HEAD_ID = 1
NO_HASH = "0" * 64  # before the first entry
SALT = "techmarket.audit.head"
HASHED = (
    "number",
    "actor",
    "actor_id",
    "actor_kind",
    "deed",
    "object_type",
    "object_id",
    "object_name",
    "before",
    "after",
    "reason",
    "address",
    "request_id",
)
Values = Mapping[str, Any]


def record(
    deed: Deed,
    row: Model | None = None,
    before: Values | None = None,
    after: Values | None = None,
    reason: str = "",
    actor: Actor | None = None,
) -> Entry:
    """Append a deed to the log. Called inside the transaction of the deed, so that there is neither without the other.

    `row`: what it was done to. `before`, `after`: JSON's values that it changed, without secrets.
    """
    with transaction.atomic(), override("en"):
        return append(lock_head(), deed, row, before or {}, after or {}, reason, actor or find_actor())


def record_command(deed: Deed, after: Values, reason: str = "") -> None:
    """Record what a command has done elsewhere, such as in a source.

    No error: a control database without tables has no log yet, and one that does not answer is reported.
    """
    try:
        with diagnosed("default"):
            record(deed, after=after, reason=reason)
    except NotMigrated:
        pass
    except EtlError as error:
        log.warning("not recorded in the audit log", deed=deed.value, cause=str(error))


def append(head: Any, deed: Deed, row: Model | None, before: Values, after: Values, reason: str, actor: Actor) -> Entry:
    entry = Entry(
        number=head.number + 1,
        at=head.now,
        actor=clean(actor.name)[:MAX_NAME],
        actor_id=actor.user_id,
        actor_kind=actor.kind,
        deed=deed,
        object_type=row._meta.label_lower if row else "",
        object_id=str(row.pk)[:64] if row else "",
        object_name=clean(str(row))[:MAX_OBJECT] if row else "",
        before=clean(before),
        after=clean(after),
        reason=clean(reason or actor.reason)[:MAX_REASON],
        address=clean(actor.address)[:MAX_ADDRESS],
        request_id=clean(actor.request_id)[:64],
        previous_hash=head.hash,
    )
    entry.hash = compute_hash(entry)
    entry.save(force_insert=True)
    head.number, head.hash = entry.number, entry.hash
    save_head(head)
    transaction.on_commit(partial(report, entry))
    return entry


def report(entry: Entry) -> None:
    """Log the entry: a second witness, with which whoever collects the log can compare the database."""
    log.info("audit", number=entry.number, deed=entry.deed, actor=entry.actor, object=entry.object_name, hash=entry.hash)


def lock_head() -> Any:
    """Return the head with the database's time as `now`, locked until the transaction ends.

    What somebody has done to it is recorded before it is sealed again: otherwise the next deed would make it good.
    """
    heads = Head.objects.select_for_update().annotate(now=Now())
    head = heads.filter(pk=HEAD_ID).first() or replace_head(heads)
    is_whole, slipped_in = is_sealed(head), Entry.objects.filter(number__gt=head.number).first()
    if slipped_in:
        head.number, head.hash = slipped_in.number, slipped_in.hash
    if slipped_in or not is_whole:
        append(head, Deed.SEAL_BROKEN, None, {}, {"head": str(head)}, "", find_actor())
    return head


def replace_head(heads: "QuerySet[Head]") -> Head:
    """Make a head without a seal from the entries: the migration makes the first one, so somebody has deleted it."""
    last, first = Entry.objects.first(), Entry.objects.last()
    with suppress(IntegrityError), transaction.atomic():  # another process may just have made it
        Head.objects.create(
            pk=HEAD_ID,
            number=last.number if last else 0,
            hash=last.hash if last else NO_HASH,
            first_number=first.number if first else 1,
            first_previous_hash=first.previous_hash if first else NO_HASH,
        )
    return heads.get(pk=HEAD_ID)


def make_first_head(model: type[Head] = Head) -> None:
    """Begin a chain. Only the migration that creates the tables does."""
    head = model(pk=HEAD_ID, hash=NO_HASH, first_previous_hash=NO_HASH)
    save_head(head)


def save_head(head: Head) -> None:
    head.seal = compute_seals(head)[0]
    head.save()


def clean(value: Any) -> Any:
    """Return the value with texts that every database can hold and every log line can show."""
    if isinstance(value, str):
        return escape_unprintable(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): clean(each) for name, each in value.items()}
    if isinstance(value, Sequence | set):
        return [clean(each) for each in value]
    return value if value is None or isinstance(value, int) else clean(str(value))


def compute_hash(entry: Entry) -> str:
    content = {name: getattr(entry, name) for name in HASHED} | {"at": entry.at.isoformat()}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{entry.previous_hash}{text}".encode()).hexdigest()


def compute_seals(head: Head) -> list[str]:
    """Return the head's seal by SECRET_KEY, and by each of SECRET_KEY_FALLBACKS."""
    text = f"{head.number}:{head.hash}:{head.first_number}:{head.first_previous_hash}"
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [salted_hmac(SALT, text, secret=key, algorithm="sha256").hexdigest() for key in keys]


def is_sealed(head: Head) -> bool:
    return any(hmac.compare_digest(head.seal, seal) for seal in compute_seals(head))


# --- Verification ---


def verify() -> Iterator[str]:
    """Yield what is wrong with the chain, oldest first; nothing where it is whole."""
    head = Head.objects.filter(pk=HEAD_ID).first()
    if head is None:
        last = Entry.objects.first()
        yield f"The head is missing: nobody knows whether entries after {last.number if last else 0} were deleted."
        return
    if not is_sealed(head):
        yield (
            "The head's seal does not fit SECRET_KEY: somebody has written to the log's tables, "
            "or the key was replaced without SECRET_KEY_FALLBACKS."
        )
    number, previous = head.first_number, head.first_previous_hash
    for entry in Entry.objects.order_by("number").iterator():
        yield from verify_entry(entry, number, previous)
        number, previous = entry.number + 1, entry.hash
    if number <= head.number:
        yield describe_gap(number, head.number)
    elif number > head.number + 1:
        yield f"Entry {number - 1} was slipped in: the head names {head.number} as the last."
    elif previous != head.hash:
        yield f"Entry {head.number} is not the one that the head names: it has been replaced."


def verify_entry(entry: Entry, number: int, previous: str) -> Iterator[str]:
    """Yield what is wrong with an entry that should have this number and follow the entry with this hash."""
    if entry.number > number:
        yield describe_gap(number, entry.number - 1)
    elif entry.number < number:
        yield f"Entry {entry.number} is older than the first that should be stored, {number}."
    elif entry.previous_hash != previous:
        yield f"Entry {entry.number} does not follow the entry before it: one of the two has been replaced."
    if entry.hash != compute_hash(entry):
        yield f"Entry {entry.number} has been changed: its content does not fit its hash."
    if entry.deed == Deed.SEAL_BROKEN:
        yield f"Entry {entry.number}: the seal was broken before {entry.at:%Y-%m-%d %H:%M} UTC; what is older cannot be trusted."


def describe_gap(first: int, last: int) -> str:
    return f"Entry {first} is missing." if first == last else f"Entries {first} to {last} are missing."
