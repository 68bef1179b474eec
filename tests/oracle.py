"""The star a second time, from the contract alone: plain Python, one loop after the other, nothing of the ETL's in it.

A source row is a dict of the texts that its database holds, as bytes (None where empty); rows of the star go by natural keys.
A reference says UNKNOWN (key -1) or NOT_APPLICABLE (key -2) where it names nobody.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connections

Raw = Mapping[str, bytes | None]
Row = dict[str, Any]
Shop = Mapping[str, list[Raw]]

UNKNOWN, NOT_APPLICABLE = "unknown", "not applicable"
KYIV = ZoneInfo("Europe/Kyiv")
LARGEST = Decimal("9999999999.99")
SALES = ("paid", "shipped")
TABLES = {
    "orders_db": ("regions", "customers", "employees", "orders", "order_items"),
    "catalog_db": ("categories", "products"),
    "payments_db": ("payments",),
    "auth_db": ("auth_users", "roles", "user_roles"),
}


# --- The sources ---


def read_shop() -> dict[str, list[Raw]]:
    return {table: read_table(alias, table) for alias, tables in TABLES.items() for table in tables}


def read_table(alias: str, table: str) -> list[Raw]:
    """Every value as the bytes of its text: as the server spells it, before any driver has an opinion."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} WHERE 1 = 0")
        names = [column[0] for column in cursor.description]
        spelled = "CAST(CAST({} AS TEXT) AS BLOB)" if cursor.db.vendor == "sqlite" else "CAST({} AS BINARY)"
        cursor.execute(f"SELECT {', '.join(spelled.format(name) for name in names)} FROM {table} ORDER BY id")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


# --- Values ---


class Bad(Exception):
    """The row breaks a rule."""


def whole(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(rb"-?[0-9]+", value):
        raise Bad("not whole")
    return int(value)


def amount(value: bytes | None) -> Decimal | None:
    if value is None:
        return None
    if not re.fullmatch(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", value):
        raise Bad("not an amount")
    read = Decimal(value.decode())
    if abs(read) > LARGEST or read != round(read, 2):
        raise Bad("out of DECIMAL(12,2)")
    return round(read, 2)


def instant(value: bytes | None) -> datetime | None:
    if value is None:
        return None
    found = re.fullmatch(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,6})?", value)
    try:
        parts = [int(part) for part in found.groups()[:6]] if found else [0, 0, 0, 0, 0, 0]
        micros = int((found[7] or b".").decode()[1:].ljust(6, "0")) if found else 0
        return datetime(*parts, micros, tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise Bad("not an instant") from None


def day(value: bytes | None) -> date | None:
    if value is None:
        return None
    if not re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?)?", value):
        raise Bad("not a date")
    try:
        return date.fromisoformat(value[:10].decode())
    except ValueError:
        raise Bad("not a date") from None


def flag(value: bytes | None) -> bool | None:
    number = whole(value)
    if number not in (None, 0, 1):
        raise Bad("not a flag")
    return None if number is None else number == 1


def text(length: int) -> Callable[[bytes | None], str | None]:
    def read(value: bytes | None) -> str | None:
        if value is None:
            return None
        try:
            words = value.decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("not UTF-8") from None
        if len(words) > length or "\0" in words:
            raise Bad("too long")
        return words

    return read


# --- What each row is held to ---


def required(row: Row, *names: str) -> None:
    if any(row[name] is None for name in names):
        raise Bad("missing")


def listed(row: Row, name: str, *words: str) -> None:
    if row[name] not in words:
        raise Bad("unlisted")


def is_region(row: Row) -> None:
    """Nothing but readable values."""


def is_category(row: Row) -> None:
    """Nothing but readable values."""


def is_product(row: Row) -> None:
    required(row, "price", "cost")
    if row["price"] < 0 or row["cost"] < 0:
        raise Bad("negative")
    listed(row, "status", "active", "inactive")


def is_customer(row: Row) -> None:
    required(row, "first_name", "last_name", "email")


def is_employee(row: Row) -> None:
    required(row, "first_name", "last_name", "email", "is_manager")


def is_customer_account(row: Row) -> None:
    listed(row, "status", "active", "disabled", "blocked")


def is_employee_account(row: Row) -> None:
    """Nothing but readable values."""


def is_role(row: Row) -> None:
    listed(row, "name", "ADMIN", "SALES", "CUSTOMER", "BI_VIEWER")


def is_grant(row: Row) -> None:
    """Nothing but readable values."""


def is_order(row: Row, now: datetime) -> None:
    required(row, "order_date", "customer_id")
    if row["order_date"] < datetime(2015, 1, 1, tzinfo=UTC):
        raise Bad("too early")
    if row["order_date"] > now + timedelta(minutes=5):
        raise Bad("in the future")
    listed(row, "status", "new", "paid", "shipped", "cancelled")


def is_line(row: Row) -> None:
    required(row, "order_id", "product_id", "quantity", "unit_price", "discount")
    if not 1 <= row["quantity"] <= 2**31 - 1:
        raise Bad("quantity")
    if row["unit_price"] < 0 or row["discount"] < 0:
        raise Bad("negative")
    if row["unit_price"] * row["quantity"] > LARGEST:
        raise Bad("gross out of DECIMAL(12,2)")
    if row["discount"] > row["unit_price"] * row["quantity"]:
        raise Bad("discount over gross")


def is_payment(row: Row) -> None:
    required(row, "order_id", "amount")
    listed(row, "method", "card", "paypal", "bank_transfer", "cash")
    listed(row, "status", "pending", "captured", "failed", "refunded")
    if row["amount"] <= 0:
        raise Bad("not positive")


Reader = Callable[[bytes | None], Any]
REGION: dict[str, Reader] = {"id": whole, "code": text(10), "name": text(120)}
CATEGORY: dict[str, Reader] = {"id": whole, "name": text(120), "parent_id": whole}
PRODUCT: dict[str, Reader] = {
    "id": whole,
    "name": text(200),
    "sku": text(40),
    "category_id": whole,
    "price": amount,
    "cost": amount,
    "status": text(20),
}
PERSON: dict[str, Reader] = {"id": whole, "first_name": text(80), "last_name": text(80), "email": text(254), "region_id": whole}
CUSTOMER = PERSON | {"created_at": instant}
EMPLOYEE = PERSON | {"is_manager": flag, "hired_at": day}
CUSTOMER_ACCOUNT: dict[str, Reader] = {"id": whole, "customer_id": whole, "status": text(20)}
EMPLOYEE_ACCOUNT: dict[str, Reader] = {"id": whole, "employee_id": whole}
ROLE: dict[str, Reader] = {"id": whole, "name": text(20)}
GRANT: dict[str, Reader] = {"id": whole, "user_id": whole, "role_id": whole}
ORDER: dict[str, Reader] = {
    "id": whole,
    "customer_id": whole,
    "employee_id": whole,
    "region_id": whole,
    "order_date": instant,
    "status": text(20),
}
LINE: dict[str, Reader] = {
    "id": whole,
    "order_id": whole,
    "product_id": whole,
    "quantity": whole,
    "unit_price": amount,
    "discount": amount,
}
PAYMENT: dict[str, Reader] = {
    "id": whole,
    "order_id": whole,
    "method": text(20),
    "status": text(20),
    "amount": amount,
    "paid_at": instant,
}


# --- The star ---


@dataclass
class Counts:
    read: int = 0
    loaded: int = 0
    filtered: int = 0
    rejected: int = 0

    def add(self, loaded: int = 0, filtered: int = 0, rejected: int = 0) -> None:
        self.read += loaded + filtered + rejected
        self.loaded += loaded
        self.filtered += filtered
        self.rejected += rejected


@dataclass
class Star:
    """`dimensions`: table -> natural key -> row; `facts`: order_item_id -> row; `rejects`: table and id, in order."""

    dimensions: dict[str, dict[int, Row]] = field(default_factory=dict)
    facts: dict[int, Row] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    rejects: list[tuple[str, str]] = field(default_factory=list)


def star(shop: Shop, now: datetime) -> Star:
    made = Star()
    made.dimensions["dim_region"] = regions(shop, made)
    made.dimensions["dim_category"] = categories(shop, made)
    made.dimensions["dim_product"] = products(shop, made)
    made.dimensions["dim_customer"] = customers(shop, made)
    made.dimensions["dim_employee"] = employees(shop, made)
    made.facts = facts(shop, made, now)
    infer_members(made)
    made.rejects.sort()
    return made


def held_to_the_rules(
    raws: Iterable[Raw],
    readers: Mapping[str, Reader],
    rule: Callable[[Row], None],
    made: Star,
    table: str,
    unique: str = "id",
    counted_as: str = "",
) -> list[Row]:
    """The readable rows that keep to the rule; of those with one natural key the last. The others are rejected."""
    accepted: list[Row] = []
    rejected: list[Raw] = []
    last: dict[int, tuple[Row, Raw]] = {}
    for raw in raws:
        try:
            row = {name: read(raw[name]) for name, read in readers.items()}
            rule(row)
        except Bad:
            rejected.append(raw)
            continue
        if row[unique] in last:
            earlier, earlier_raw = last[row[unique]]
            accepted.remove(earlier)
            rejected.append(earlier_raw)
        last[row[unique]] = (row, raw)
        accepted.append(row)
    for raw in rejected:
        reject(made, table, raw["id"])
    counts(made, counted_as or table).add(loaded=len(accepted), rejected=len(rejected))
    return accepted


def counts(made: Star, table: str) -> Counts:
    return made.counts.setdefault(table, Counts())


def reject(made: Star, table: str, row_id: bytes | int | None) -> None:
    made.rejects.append((table, row_id.decode() if isinstance(row_id, bytes) else str(row_id)))


def regions(shop: Shop, made: Star) -> dict[int, Row]:
    rows = held_to_the_rules(shop["regions"], REGION, is_region, made, "regions", counted_as="dim_region")
    return {row["id"]: member(code=row["code"], name=row["name"]) for row in rows}


def member(**attributes: Any) -> Row:
    return attributes | {"is_deleted": False, "is_inferred": False}


def reference(natural: int | None, empty: str = UNKNOWN) -> int | str:
    return empty if natural is None else natural


def categories(shop: Shop, made: Star) -> dict[int, Row]:
    rows = held_to_the_rules(shop["categories"], CATEGORY, is_category, made, "categories", counted_as="dim_category")
    names = {row["id"]: row["name"] for row in rows}
    found = {}
    for row in rows:
        root = row["name"] if row["parent_id"] is None else names.get(row["parent_id"], "Unknown")
        found[row["id"]] = member(name=row["name"], root_name=root, parent=reference(row["parent_id"], NOT_APPLICABLE))
    return found


def products(shop: Shop, made: Star) -> dict[int, Row]:
    known = made.dimensions["dim_category"]
    found = {}
    for row in held_to_the_rules(shop["products"], PRODUCT, is_product, made, "products", counted_as="dim_product"):
        category = known.get(row["category_id"], {"name": "Unknown", "root_name": "Unknown"})
        found[row["id"]] = member(
            name=row["name"],
            sku=row["sku"],
            category=reference(row["category_id"]),
            category_name=category["name"],
            root_category_name=category["root_name"],
            price=row["price"],
            cost=row["cost"],
            status=row["status"],
        )
    return found


def customers(shop: Shop, made: Star) -> dict[int, Row]:
    rows = held_to_the_rules(shop["customers"], CUSTOMER, is_customer, made, "customers", counted_as="dim_customer")
    with_customer = [raw for raw in shop["auth_users"] if raw["customer_id"] is not None]
    accounts = held_to_the_rules(with_customer, CUSTOMER_ACCOUNT, is_customer_account, made, "auth_users", unique="customer_id")
    states = {account["customer_id"]: account["status"] for account in accounts}
    found = {}
    for row in rows:
        found[row["id"]] = member(
            first_name=row["first_name"],
            last_name=row["last_name"],
            email=row["email"],
            region=reference(row["region_id"]),
            account_status=states.get(row["id"], "none"),
            registered_at=row["created_at"],
        )
    return found


def employees(shop: Shop, made: Star) -> dict[int, Row]:
    rows = held_to_the_rules(shop["employees"], EMPLOYEE, is_employee, made, "employees", counted_as="dim_employee")
    roles = roles_of_employees(shop, made)
    found = {}
    for row in rows:
        found[row["id"]] = member(
            first_name=row["first_name"],
            last_name=row["last_name"],
            email=row["email"],
            region=reference(row["region_id"]),
            is_manager=row["is_manager"],
            hired_at=row["hired_at"],
            roles=",".join(sorted(roles.get(row["id"], []))),
        )
    return found


def roles_of_employees(shop: Shop, made: Star) -> dict[int, list[str]]:
    with_employee = [raw for raw in shop["auth_users"] if raw["employee_id"] is not None]
    accounts = held_to_the_rules(with_employee, EMPLOYEE_ACCOUNT, is_employee_account, made, "auth_users", unique="employee_id")
    theirs = {raw["id"] for raw in with_employee}
    grants = [raw for raw in shop["user_roles"] if raw["user_id"] in theirs]
    granted = held_to_the_rules(grants, GRANT, is_grant, made, "user_roles")
    names = {role["id"]: role["name"] for role in held_to_the_rules(shop["roles"], ROLE, is_role, made, "roles")}
    employee_of = {account["id"]: account["employee_id"] for account in accounts}
    found: dict[int, list[str]] = {}
    for grant in granted:
        if grant["user_id"] in employee_of and grant["role_id"] in names:
            found.setdefault(employee_of[grant["user_id"]], []).append(names[grant["role_id"]])
    return found


def facts(shop: Shop, made: Star, now: datetime) -> dict[int, Row]:
    orders = accepted_orders(shop, made, now)
    lines = lines_of_sales(shop, made, orders)
    payments = payments_of_orders(shop, made, lines)
    found = {}
    for order_id, theirs in lines.items():
        paid = payments.get(order_id, [])
        shares = allocated(sum_paid(paid), theirs)
        for line in theirs:
            row = fact(orders[order_id], line, made.dimensions["dim_product"].get(line["product_id"]))
            row["paid_amount"] = shares[line["id"]]
            row["payment_method"] = method(paid)
            row["paid_at"] = max((each["paid_at"] for each in captured(paid) if each["paid_at"]), default=None)
            found[line["id"]] = row
    return found


def accepted_orders(shop: Shop, made: Star, now: datetime) -> dict[int, Row]:
    rows = held_to_the_rules(shop["orders"], ORDER, lambda row: is_order(row, now), made, "orders")
    of_orders = counts(made, "orders")
    for row in rows:
        if row["status"] not in SALES:
            of_orders.loaded -= 1
            of_orders.filtered += 1
    return {row["id"]: row for row in rows}


def lines_of_sales(shop: Shop, made: Star, orders: Mapping[int, Row]) -> dict[int, list[Row]]:
    """By order, ascending ids. Lines of orders that are rejected or nowhere are rejected; those of no sale are filtered."""
    rows = held_to_the_rules(shop["order_items"], LINE, is_line, made, "order_items", counted_as="fact_sales")
    of_lines = counts(made, "fact_sales")
    found: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        order = orders.get(row["order_id"])
        if order is None:
            of_lines.loaded -= 1
            of_lines.rejected += 1
            reject(made, "order_items", row["id"])
        elif order["status"] not in SALES:
            of_lines.loaded -= 1
            of_lines.filtered += 1
        else:
            found.setdefault(row["order_id"], []).append(row)
    return found


def payments_of_orders(shop: Shop, made: Star, lines: Mapping[int, list[Row]]) -> dict[int, list[Row]]:
    """Captured and refunded payments of orders that have a line in the fact; the other payments are filtered."""
    of_payments = counts(made, "payments")
    found: dict[int, list[Row]] = {}
    for row in held_to_the_rules(shop["payments"], PAYMENT, is_payment, made, "payments"):
        if row["status"] in ("captured", "refunded") and row["order_id"] in lines:
            found.setdefault(row["order_id"], []).append(row)
        else:
            of_payments.loaded -= 1
            of_payments.filtered += 1
    return found


def captured(payments: Iterable[Row]) -> list[Row]:
    return [payment for payment in payments if payment["status"] == "captured"]


def method(payments: Iterable[Row]) -> str:
    used = {payment["method"] for payment in captured(payments)}
    if not used:
        return "none"
    return used.pop() if len(used) == 1 else "mixed"


def sum_paid(payments: Iterable[Row]) -> Decimal:
    total = Decimal("0.00")
    for payment in payments:
        total += payment["amount"] if payment["status"] == "captured" else -payment["amount"]
    return total


def allocated(paid: Decimal, lines: list[Row]) -> dict[int, Decimal]:
    """Largest remainder; of equal remainders the lower order_item_id takes the kopiyka. What is negative is shared like its size."""
    weights = {line["id"]: kopiykas(net(line)) for line in lines}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    size, total = kopiykas(abs(paid)), sum(weights.values())
    shares = {line_id: size * weight // total for line_id, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda line_id: (-(size * weights[line_id] % total), line_id))
    for line_id in by_remainder[: size - sum(shares.values())]:
        shares[line_id] += 1
    sign = -1 if paid < 0 else 1
    return {line_id: Decimal(sign * share).scaleb(-2) for line_id, share in shares.items()}


def kopiykas(uah: Decimal) -> int:
    return int(uah * 100)


def net(line: Row) -> Decimal:
    return Decimal(line["unit_price"] * line["quantity"] - line["discount"])


def fact(order: Row, line: Row, product: Row | None) -> Row:
    """A line that is loaded for the first time: its cost is today's."""
    cost = product["cost"] * line["quantity"] if product else None
    return {
        "order_id": line["order_id"],
        "order_status": order["status"],
        "date": order["order_date"].astimezone(KYIV).date(),
        "product": line["product_id"],
        "category": product["category"] if product else UNKNOWN,
        "customer": order["customer_id"],
        "employee": reference(order["employee_id"], NOT_APPLICABLE),
        "region": reference(order["region_id"]),
        "quantity": line["quantity"],
        "gross_amount": line["unit_price"] * line["quantity"],
        "discount_amount": line["discount"],
        "net_amount": net(line),
        "cost_amount": cost,
        "margin_amount": None if cost is None else net(line) - cost,
        "ordered_at": order["order_date"],
    }


# --- Inferred members ---

REFERENCES = {  # table -> column -> dimension
    "dim_category": {"parent": "dim_category"},
    "dim_product": {"category": "dim_category"},
    "dim_customer": {"region": "dim_region"},
    "dim_employee": {"region": "dim_region"},
    "fact_sales": {"product": "dim_product", "customer": "dim_customer", "employee": "dim_employee", "region": "dim_region"},
}
UNKNOWN_MEMBERS: dict[str, Row] = {
    "dim_region": {"code": "Unknown", "name": "Unknown"},
    "dim_category": {"name": "Unknown", "root_name": "Unknown", "parent": UNKNOWN},
    "dim_product": {
        "name": "Unknown",
        "sku": "Unknown",
        "category": UNKNOWN,
        "category_name": "Unknown",
        "root_category_name": "Unknown",
        "price": None,
        "cost": None,
        "status": "Unknown",
    },
    "dim_customer": {
        "first_name": "Unknown",
        "last_name": "Unknown",
        "email": "Unknown",
        "region": UNKNOWN,
        "account_status": "Unknown",
        "registered_at": None,
    },
    "dim_employee": {
        "first_name": "Unknown",
        "last_name": "Unknown",
        "email": "Unknown",
        "region": UNKNOWN,
        "is_manager": False,
        "hired_at": None,
        "roles": "Unknown",
    },
}


def infer_members(made: Star) -> None:
    """A row for everybody who is referred to and not there."""
    for table, references in REFERENCES.items():
        rows = made.facts if table == "fact_sales" else dict(made.dimensions[table])
        for row in rows.values():
            for column, dimension in references.items():
                natural = row[column]
                if isinstance(natural, int) and natural not in made.dimensions[dimension]:
                    made.dimensions[dimension][natural] = UNKNOWN_MEMBERS[dimension] | {"is_deleted": False, "is_inferred": True}


# --- Comparing ---


def differences(expected: Mapping[Any, Row], found: Mapping[Any, Row], most: int = 5) -> list[str]:
    """The first differences between two sets of rows by natural key, as a person would say them."""
    said = []
    for key in sorted({*expected, *found}, key=str):
        if key not in found:
            said.append(f"{key} is missing: {expected[key]}")
        elif key not in expected:
            said.append(f"{key} should not be there: {found[key]}")
        elif expected[key] != found[key]:
            columns = [name for name in {**expected[key], **found[key]} if expected[key].get(name) != found[key].get(name)]
            said += [f"{key}.{name}: expected {expected[key].get(name)!r}, found {found[key].get(name)!r}" for name in columns]
    return said[:most] + ([f"... {len(said) - most} more"] if len(said) > most else [])
