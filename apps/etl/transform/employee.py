"""dim_employee. Grain: one employee, with the roles of their account in auth_db."""

import pandas as pd
import pyarrow as pa

from apps.etl.tables import DIM_EMPLOYEE, EMPLOYEE_ACCOUNTS, EMPLOYEE_ROLES, EMPLOYEES, ROLES
from apps.etl.transform.person import find_unparsable_emails, reject_incomplete
from apps.etl.transform.rows import Outcome, Rows, WarnedRows

ROLE_NAMES = ("ADMIN", "SALES", "CUSTOMER", "BI_VIEWER")


def transform(batches: dict[str, pa.Table]) -> Outcome:
    employees = Rows(EMPLOYEES, batches["employees"])
    reject_incomplete(employees)
    employees.reject_missing("is_manager")
    accounts = Rows(EMPLOYEE_ACCOUNTS, batches["auth_users"])
    accounts.reject_duplicates("employee_id")
    roles = Rows(ROLES, batches["roles"])
    roles.reject_unlisted("name", ROLE_NAMES, "unknown_role")
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
        warnings={"check.email": WarnedRows(DIM_EMPLOYEE.table, find_unparsable_emails(employees))},
    )


def roles_by_employee(accounts: Rows, roles: Rows, granted: Rows) -> pd.DataFrame:
    """Return employee_id and `roles`, the names sorted and joined with commas."""
    users = accounts.clean().rename(columns={"id": "user_id"})[["user_id", "employee_id"]]
    names = roles.clean().rename(columns={"id": "role_id"})
    names_by_user = granted.clean()[["user_id", "role_id"]].merge(users, "inner", "user_id", validate="many_to_one")
    names_by_user = names_by_user.merge(names, "inner", "role_id", validate="many_to_one").sort_values("name")
    return names_by_user.groupby("employee_id", as_index=False).agg(roles=("name", ",".join))
