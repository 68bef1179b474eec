"""Forgetting a customer: a canary in every text of the person is found nowhere afterwards, and sums and counts have not moved."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django.fixtures import Settings

from apps.audit.chain import record
from apps.audit.models import Deed, Entry
from apps.etl.batch import decode
from apps.etl.batch_store import batch_store
from apps.orchestration.erasures import erase_pending, request_erasure
from apps.orchestration.models import Batch, Erasure, Mode, Reject, StandingReject, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.worker import tasks
from apps.orchestration.worker.local import execute_run
from apps.sources.orders.models import Customer
from apps.warehouse.models import DimCustomer
from techmarket.batch_address import BatchAddress
from techmarket.errors import Usage
from tests.emptying import tables as tables_of
from tests.etl.warehouse_rows import run_etl
from tests.orchestration.test_stored_batches import failed_run

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__"), pytest.mark.usefixtures("small_shop")]
CANARIES = ("Канаренко", "Zoryana-canary", "zoryana@canary.example")


@pytest.fixture
def customer() -> int:
    person = Customer.objects.earliest("pk")
    Customer.objects.filter(pk=person.pk).update(first_name=CANARIES[1], last_name=CANARIES[0], email=CANARIES[2])
    return int(person.pk)


def forget(customer_id: int, *options: str) -> dict[str, Any]:
    printed = io.StringIO()
    call_command("forget_customer", str(customer_id), "--reason", "R-12", "--json", *options, stdout=printed)
    return dict(json.loads(printed.getvalue()))


def find_canaries() -> set[str]:
    """Return the tables of the control database and the warehouse that hold a canary, read by SQL, with batches decompressed."""
    found = set()
    for alias in ("default", "dwh"):
        with connections[alias].cursor() as cursor:
            for table in tables_of[alias]:
                cursor.execute(f"SELECT * FROM {connections[alias].ops.quote_name(table)}")
                if any(names_person(row) for row in cursor.fetchall()):
                    found.add(table)
    return found | {f"batch {batch.name}" for batch in Batch.objects.all() if names_person(read_batch(batch))}


def read_batch(batch: Batch) -> list[Any]:
    store = batch_store()
    body = store.read(batch.object_name) if store else bytes(batch.body)
    return [value for column in decode(body, batch.checksum, batch.rows).columns for value in column.to_pylist()]


def names_person(values: Any) -> bool:
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return any(canary in text or json.dumps(canary)[1:-1] in text for text in texts for canary in CANARIES)


def read_kpis() -> str:
    printed = io.StringIO()
    call_command("kpis", stdout=printed)
    return printed.getvalue()


def test_nothing_of_ours_names_a_forgotten_customer(customer: int) -> None:
    run_etl()
    assert find_canaries() == {"dim_customer", "batch customers", "batch dim_customer"}
    before = read_kpis(), DimCustomer.objects.count()
    assert forget(customer)["changed"] == {
        "dim_customer": 1,
        "orchestration_batch": 2,
        "orchestration_reject": 0,
        "orchestration_standingreject": 0,
        "texts": 0,
    }
    assert find_canaries() == set()
    assert (read_kpis(), DimCustomer.objects.count()) == before
    assert DimCustomer.objects.get(customer_id=customer).email == f"customer-{customer}@erased.invalid"


@pytest.mark.parametrize("reread", [False, True])
def test_no_run_brings_the_person_back(customer: int, reread: bool) -> None:
    """Though the shop still has the person, and even changes the row."""
    run_etl()
    forget(customer)
    Customer.objects.filter(pk=customer).update(last_name=f"{CANARIES[0]}-2", phone="+380000000000")
    run_etl(reread=reread)
    run_etl("incremental")
    assert find_canaries() == set()


def test_customer_may_be_forgotten_before_the_first_load(customer: int) -> None:
    forget(customer)
    run_etl()
    assert find_canaries() == set()
    assert DimCustomer.objects.get(customer_id=customer).last_name == str(customer)


def test_rejected_rows_of_the_person_are_erased(customer: int) -> None:
    """A rejected row is stored with its raw content; the id of one cannot be read, but it has the same address."""
    run = run_etl()
    raw = {"id": str(customer), "first_name": CANARIES[1], "last_name": CANARIES[0], "email": CANARIES[2], "region_id": "1"}
    row = {"table": "customers", "rule": "missing_value", "raw": raw}
    for row_id in (str(customer), "?"):
        Reject.objects.create(run=run, task=run.tasks.earliest("pk"), row_id=row_id, **row)
    seen = {"first_seen": run.created_at, "last_seen": run.created_at, "first_run": run.pk, "last_run": run.pk}
    StandingReject.objects.create(subject="dim_customer", row_id=str(customer), **row, **seen)
    assert {"orchestration_reject", "orchestration_standingreject"} <= find_canaries()
    certificate = forget(customer)
    assert certificate["changed"]["orchestration_reject"] == 2 and certificate["changed"]["orchestration_standingreject"] == 1
    assert find_canaries() == set()
    assert StandingReject.objects.get(row_id=str(customer)).raw["region_id"] == "1"


def test_batches_in_a_store_are_replaced_and_the_former_deleted(customer: int, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    settings.BATCH_STORE = BatchAddress("file", str(tmp_path / "store"))
    run_etl()
    forget(customer)
    assert find_canaries() == set()
    objects = {str(file.relative_to(tmp_path / "store")) for file in (tmp_path / "store").rglob("*") if file.is_file()}
    assert objects == set(Batch.objects.values_list("object_name", flat=True))


def test_failed_run_resumes_with_pseudonyms(customer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = failed_run(monkeypatch)
    assert "batch dim_customer" in find_canaries()
    forget(customer)
    call_command("run_etl", "--resume", str(run.pk), "--quiet")
    assert find_canaries() == set()
    assert DimCustomer.objects.get(customer_id=customer).first_name == "Customer"


def test_waits_for_the_active_run(customer: int) -> None:
    run_etl()
    active = start_run(Mode.FULL, Trigger.CLI, "test", reread=True)
    with pytest.raises(SystemExit) as stopped:
        forget(customer)
    assert stopped.value.code == 3
    assert Erasure.objects.get().done_at is None and "dim_customer" in find_canaries()
    execute_run(active)
    tasks.erase()
    assert Erasure.objects.get().done_at and find_canaries() == set()


def test_daily_task_does_what_was_left(customer: int) -> None:
    run_etl()
    request_erasure(customer, "olena", "R-12")
    tasks.forget()
    assert find_canaries() == set()


def test_dry_run_changes_nothing(customer: int) -> None:
    run_etl()
    before = find_canaries()
    certificate = forget(customer, "--dry-run")
    assert certificate["changed"]["dim_customer"] == 1 and certificate["changed"]["orchestration_batch"] == 2
    assert certificate["mentions"] == {} and certificate["in_source"]
    assert find_canaries() == before and not Erasure.objects.exists()


def test_certificate_names_what_is_left(customer: int) -> None:
    """An entry of the audit log, and a backup: neither can be rewritten unnoticed."""
    run_etl()
    export = record(Deed.DATA_EXPORTED, after={"filters": "q=zoryana%40canary.example"})
    record(Deed.BACKUP_MADE, after={"backup": "2026-11-28T02-00-00"})
    certificate = forget(customer)
    assert certificate["mentions"] == {"audit_entry.after": [str(export.pk)]}
    assert certificate["audit_entries_until"] > f"{export.at:%Y-%m-%d}"
    assert (certificate["backups"], certificate["backups_kept"], certificate["in_source"]) == (["2026-11-28T02-00-00"], 14, True)


def test_reasons_that_name_the_person_are_rewritten(customer: int) -> None:
    run = run_etl()
    type(run).objects.filter(pk=run.pk).update(reason=f"Wrote {CANARIES[2].upper()} again")
    certificate = forget(customer)
    run.refresh_from_db()
    assert (certificate["changed"]["texts"], run.reason) == (1, f"Wrote customer-{customer}@erased.invalid again")
    assert certificate["mentions"] == {}


def test_act_is_recorded_with_its_certificate(customer: int) -> None:
    run_etl()
    certificate = forget(customer)
    done, requested = Entry.objects.filter(deed__in=(Deed.ERASURE_REQUESTED, Deed.CUSTOMER_FORGOTTEN))
    assert (done.deed, requested.deed, done.object_name, requested.reason) == (
        "customer_forgotten",
        "erasure_requested",
        str(customer),
        "R-12",
    )
    assert done.after.items() <= certificate.items() and Erasure.objects.get().certificate == done.after
    call_command("audit", "--verify")


def test_second_request_gives_the_same_certificate(customer: int) -> None:
    run_etl()
    assert forget(customer) == forget(customer)
    assert Entry.objects.filter(deed=Deed.CUSTOMER_FORGOTTEN).count() == 1


def test_unknown_customer_is_refused() -> None:
    with pytest.raises(Usage, match="no customer 999999"):
        request_erasure(999_999, "olena", "R-12")
    assert not Erasure.objects.exists() and erase_pending() is None
