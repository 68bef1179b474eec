"""Forgetting a customer: asked for by a person, done by a worker while no run is active, and proven by a certificate.

The request comes first: an extract that begins after it writes pseudonyms, so the next run does not bring the person back. A run that was
active then may still hold the names, and is waited for. What is left elsewhere is found by looking for the address in every text of ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.db.models.functions import Cast, Now
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from apps.audit.chain import record
from apps.audit.models import Deed, Entry
from apps.etl.batch_store import batch_store
from apps.etl.pseudonyms import NAMED_IN, pseudonymize, pseudonyms_of
from apps.orchestration.batches import open_batch, replace_batch
from apps.orchestration.mentions import any_of, find_mentions, find_texts, find_typed, replace_typed
from apps.orchestration.models import Batch, Erasure, Reject, RejectedContent, Run, StandingReject
from apps.orchestration.requests import find_active_run
from apps.sources.orders.models import Customer
from apps.warehouse.models import DimCustomer
from techmarket.celery import app
from techmarket.diagnosis import diagnosed
from techmarket.errors import EtlError, Usage
from techmarket.roles import CONTROL

if TYPE_CHECKING:
    import pyarrow as pa

log = structlog.get_logger()
SOURCE_TABLE = Customer._meta.db_table


def request_erasure(customer_id: int, requested_by: str, reason: str) -> Erasure:
    """Record the request, or return the one that there is: from now on nothing is extracted of this customer but pseudonyms.

    Raises Usage where neither the warehouse nor the source has such a customer.
    """
    require_customer(customer_id)
    try:
        with transaction.atomic():
            erasure = Erasure.objects.create(customer_id=customer_id, requested_by=requested_by, reason=reason)
            record(Deed.ERASURE_REQUESTED, erasure, reason=reason)
    except IntegrityError:
        return Erasure.objects.get(customer_id=customer_id)
    return erasure


def find_customer(customer_id: int) -> bool:
    """Return True if the warehouse or the source has the customer."""
    return DimCustomer.objects.filter(customer_id=customer_id).exists() or read_source(customer_id) is not None


def require_customer(customer_id: int) -> None:
    if not find_customer(customer_id):
        raise Usage(f"There is no customer {customer_id}, neither in the warehouse nor in the source. Look the id up there.")


def send_erasures(run: Run | None = None, **kwargs: object) -> None:
    """Let a worker do what is asked for, once the transaction is committed. After each run, too: some may have waited for it."""
    if Erasure.objects.filter(done_at=None).exists():
        transaction.on_commit(send_message)


def send_message() -> None:
    try:
        app.send_task("techmarket.erase")
    except (OperationalError, OSError) as error:
        log.warning("broker unavailable, customers are forgotten by the daily task", error=str(error))


def find_forgotten() -> set[int]:
    return set(Erasure.objects.values_list("customer_id", flat=True))


def erase_pending() -> Run | None:
    """Forget every customer that was asked for. Return the active run for which it has to wait, if there is one."""
    for erasure in Erasure.objects.filter(done_at=None).order_by("pk"):
        if active := find_active_run():
            return active
        erase(erasure)
    return None


def erase(erasure: Erasure) -> None:
    """Forget the customer, in the warehouse and then in the ledger, and store the certificate. Done again, it changes nothing more."""
    customer_id = erasure.customer_id
    addresses = find_addresses(customer_id)
    with diagnosed("dwh"):
        changed = {DimCustomer._meta.db_table: find_dimension(customer_id).update(**pseudonyms_of(customer_id))}
    with diagnosed(CONTROL), transaction.atomic():
        obsolete = [replace_batch(batch, erased) for batch, erased in find_batches(customer_id)]
        changed[Batch._meta.db_table] = len(obsolete)
        for model in (Reject, StandingReject):
            changed[model._meta.db_table] = sum(
                erase_in_reject(reject, customer_id) for reject in find_rejects(model, customer_id, addresses)
            )
        changed["texts"] = replace_typed(addresses, pseudonyms_of(customer_id)["email"])
        erasure.certificate = {"changed": changed} | describe_rest(customer_id, addresses)
        Erasure.objects.filter(pk=erasure.pk).update(done_at=Now(), certificate=erasure.certificate)
        record(Deed.CUSTOMER_FORGOTTEN, erasure, after=erasure.certificate, reason=erasure.reason)
    delete_objects(name for name in obsolete if name)
    erasure.refresh_from_db()


def preview_erasure(customer_id: int) -> dict[str, Any]:
    """Return the certificate that an erasure would give now; nothing is changed. Raises Usage as `request_erasure` does."""
    require_customer(customer_id)
    addresses = find_addresses(customer_id)
    changed = {DimCustomer._meta.db_table: find_dimension(customer_id).count()}
    changed[Batch._meta.db_table] = sum(1 for _ in find_batches(customer_id))
    for model in (Reject, StandingReject):
        changed[model._meta.db_table] = len(find_rejects(model, customer_id, addresses))
    typed = dict(find_mentions(addresses, find_typed))
    changed["texts"] = sum(map(len, typed.values()))
    rest = describe_rest(customer_id, addresses)
    rest["mentions"] = {name: keys for name, keys in rest["mentions"].items() if not (name in typed or name.partition(".")[0] in changed)}
    return {"changed": changed} | rest


def describe_certificate(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a certificate says, as sentences in the reader's language."""
    for table, count in certificate["changed"].items():
        yield _("Rows changed in %(table)s: %(count)s") % {"table": table, "count": count}
    yield _("The shop still has the person: erase it there, too.") if certificate["in_source"] else _("The shop has no such row.")
    for column, keys in certificate["mentions"].items():
        yield _("Still named in %(column)s: %(keys)s") % {"column": column, "keys": ", ".join(keys)}
    if day := certificate["audit_entries_until"]:
        yield _("These entries of the audit log can be deleted from %(day)s on.") % {"day": day}
    if backups := certificate["backups"]:
        yield _("Backups that still have the person, each until %(count)s newer ones are made: %(names)s") % {
            "count": certificate["backups_kept"],
            "names": ", ".join(backups),
        }


# --- What is erased ---


def find_addresses(customer_id: int) -> set[str]:
    """Return the addresses by which the customer is known to the warehouse, the source and the rejects, also as a URL spells them."""
    rows: list[Any] = list(DimCustomer.objects.filter(customer_id=customer_id).values_list("email", flat=True))
    rows += [source.email] if (source := read_source(customer_id)) else []
    for model in (Reject, StandingReject):
        raws = model._base_manager.filter(table=SOURCE_TABLE, row_id=str(customer_id)).values_list("raw", flat=True)
        rows += [raw.get("email") for raw in raws if isinstance(raw, dict)]
    addresses = {str(each) for each in rows if each} - {pseudonyms_of(customer_id)["email"]}
    return addresses | {quote(each) for each in addresses}


def read_source(customer_id: int) -> Customer | None:
    """Return the shop's own row; None where it is gone, or where the source does not answer."""
    try:
        with diagnosed("orders_db"):
            return Customer.objects.filter(pk=customer_id).first()
    except EtlError as error:
        log.warning("the source was not asked for the customer", cause=str(error))
        return None


def find_dimension(customer_id: int) -> "models.QuerySet[DimCustomer]":
    return DimCustomer.objects.filter(customer_id=customer_id).exclude(**pseudonyms_of(customer_id))


def find_batches(customer_id: int) -> "Iterator[tuple[Batch, pa.Table]]":
    """Yield the batches that name the customer, one at a time and without their bodies, each with the rows to put in its place."""
    for number in list(Batch.objects.filter(name__in=NAMED_IN).values_list("pk", flat=True)):
        batch = Batch.objects.defer("body").get(pk=number)
        table = open_batch(batch)
        if not (erased := pseudonymize(batch.name, table, [customer_id])).equals(table):
            yield batch, erased


def find_rejects(model: type[RejectedContent], customer_id: int, addresses: set[str]) -> list[RejectedContent]:
    """Return the customer's own rejected rows, and others with one of the addresses: of a row whose id cannot be read."""
    rows = model._base_manager.filter(table=SOURCE_TABLE).annotate(raw_text=Cast("raw", models.TextField()))
    return list(rows.filter(Q(row_id=str(customer_id)) | any_of("raw_text", addresses)))


def erase_in_reject(reject: RejectedContent, customer_id: int) -> int:
    pseudonyms = pseudonyms_of(customer_id)
    erased = {name: pseudonyms.get(name, value) for name, value in reject.raw.items()}
    if erased == reject.raw:
        return 0
    return type(reject)._base_manager.filter(pk=reject.pk).update(raw=erased)


def delete_objects(names: Iterable[str]) -> None:
    if store := batch_store():
        for name in names:
            store.delete(name)


# --- What is left, for the certificate ---


def describe_rest(customer_id: int, addresses: set[str]) -> dict[str, Any]:
    """Return where the person is still named, as JSON: in the source, in texts that people wrote, and in backups."""
    return {
        "in_source": read_source(customer_id) is not None,
        "mentions": dict(find_mentions(addresses, find_texts)),
        "audit_entries_until": describe_audit_end(addresses),
        "backups": list_backups(),
        "backups_kept": settings.BACKUP_KEEP,
    }


def describe_audit_end(addresses: set[str]) -> str:
    """Return when the last entry of the audit log that names the person may be deleted; empty where none does."""
    named = Entry.objects.annotate(texts=Cast("after", models.TextField()))
    latest = named.filter(any_of("texts", addresses) | any_of("reason", addresses)).aggregate(models.Max("at"))["at__max"]
    return f"{latest + timedelta(days=settings.AUDIT_KEEP_DAYS):%Y-%m-%d}" if latest else ""


def list_backups() -> list[str]:
    """Return the names of the backups that were made before and may still be there, newest first, as the audit log has them."""
    made = Entry.objects.filter(deed=Deed.BACKUP_MADE).order_by("-number")[: settings.BACKUP_KEEP]
    return [entry.after["backup"] for entry in made]
