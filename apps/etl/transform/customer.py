"""dim_customer. Grain: one customer, with the status of their account in auth_db."""

import pyarrow as pa

from apps.etl.tables import CUSTOMER_ACCOUNTS, CUSTOMERS, DIM_CUSTOMER
from apps.etl.transform.person import find_unparsable_emails, reject_incomplete
from apps.etl.transform.rows import Outcome, Rows, WarnedRows, to_batch

STATUSES = ("active", "disabled", "blocked")
NO_ACCOUNT = "none"


def transform(batches: dict[str, pa.Table]) -> Outcome:
    customers = Rows(CUSTOMERS, batches["customers"])
    reject_incomplete(customers)
    accounts = Rows(CUSTOMER_ACCOUNTS, batches["auth_users"])
    accounts.reject_unlisted("status", STATUSES, "unknown_status")
    accounts.reject_duplicates("customer_id")
    states = accounts.clean()[["customer_id", "status"]].rename(columns={"status": "account_status"})
    clean = customers.clean().rename(columns={"id": "customer_id"})
    clean = clean.merge(states, "left", "customer_id", validate="one_to_one").fillna({"account_status": NO_ACCOUNT})
    return Outcome(
        DIM_CUSTOMER.table,
        to_batch(clean, CUSTOMERS).rename_columns({"created_at": "registered_at"}),
        {DIM_CUSTOMER.table: customers.counts(), "auth_users": accounts.counts()},
        customers.rejects() + accounts.rejects(),
        warnings={"check.email": WarnedRows(DIM_CUSTOMER.table, find_unparsable_emails(customers))},
    )
