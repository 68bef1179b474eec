"""dim_employee. Grain: one employee, with the roles of its account in auth_db."""

import pandas as pd
import pyarrow as pa

from apps.etl.tables import DIM_EMPLOYEE, EMPLOYEE_ACCOUNTS, EMPLOYEE_ROLES, EMPLOYEES, ROLES
from apps.etl.transform.person import reject_nameless, unparsable_emails
from apps.etl.transform.rows import Outcome, Rows

NAMES = ("ADMIN", "SALES", "CUSTOMER", "BI_VIEWER")


def transform(batches: dict[str, pa.Table]) -> Outcome:
    employees = Rows(EMPLOYEES, batches["employees"])
    reject_nameless(employees)
    employees.reject_missing("is_manager")
    accounts = Rows(EMPLOYEE_ACCOUNTS, batches["auth_users"])
    accounts.reject_duplicates("employee_id")
    roles = Rows(ROLES, batches["roles"])
    roles.reject_unlisted("name", NAMES, "unknown_role")
    granted = Rows(EMPLOYEE_ROLES, batches["user_roles"])
    clean = employees.clean().rename(columns={"id": "employee_id"})
    clean = clean.merge(roles_by_employee(accounts, roles, granted), "left", "employee_id", validate="one_to_one").fillna({"roles": ""})
    return Outcome(
        DIM_EMPLOYEE.table,
        pa.Table.from_pandas(clean),
        {
            DIM_EMPLOYEE.table: employees.counts(),
            "auth_users": accounts.counts(),
            "roles": roles.counts(),
            "user_roles": granted.counts(),
        },
        employees.rejects() + accounts.rejects() + roles.rejects() + granted.rejects(),
        warnings={"check.email": unparsable_emails(employees)},
    )


def roles_by_employee(accounts: Rows, roles: Rows, granted: Rows) -> pd.DataFrame:
    """employee_id and `roles`: the names, sorted, joined with commas."""
    users = accounts.clean().rename(columns={"id": "user_id"})[["user_id", "employee_id"]]
    names = roles.clean().rename(columns={"id": "role_id"})
    held = granted.clean()[["user_id", "role_id"]].merge(users, "inner", "user_id", validate="many_to_one")
    held = held.merge(names, "inner", "role_id", validate="many_to_one").sort_values("name")
    return held.groupby("employee_id", as_index=False).agg(roles=("name", ",".join))
