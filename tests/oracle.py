"""A second implementation of the warehouse from its specification: plain Python loops that share no code with the ETL.

A source row is a dict of the texts that its database holds, as bytes (None where empty); warehouse rows are identified by natural keys.
A reference is UNKNOWN (key -1) or NOT_APPLICABLE (key -2) where the source names no row.
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
    """Read every value as the bytes of its text in the server's spelling, without any conversion by the driver."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} WHERE 1 = 0")
        names = [column[0] for column in cursor.description]
        spelled = "CAST(CAST({} AS TEXT) AS BLOB)" if cursor.db.vendor == "sqlite" else "CAST({} AS BINARY)"
        cursor.execute(f"SELECT {', '.join(spelled.format(name) for name in names)} FROM {table} ORDER BY id")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


# --- Values ---


class InvalidRow(Exception):
    """The row breaks a rule."""


def parse_integer(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(rb"-?[0-9]+", value):
        raise InvalidRow("not whole")
    return int(value)


def parse_amount(value: bytes | None) -> Decimal | None:
    if value is None:
        return None
    if not re.fullmatch(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", value):
        raise InvalidRow("not an amount")
    read = Decimal(value.decode())
    if abs(read) > LARGEST or read != round(read, 2):
        raise InvalidRow("out of DECIMAL(12,2)")
    return round(read, 2)


def parse_instant(value: bytes | None) -> datetime | None:
    if value is None:
        return None
    found = re.fullmatch(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,6})?", value)
    try:
        parts = [int(part) for part in found.groups()[:6]] if found else [0, 0, 0, 0, 0, 0]
        micros = int((found[7] or b".").decode()[1:].ljust(6, "0")) if found else 0
        return datetime(*parts, micros, tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise InvalidRow("not an instant") from None


def parse_date(value: bytes | None) -> date | None:
    if value is None:
        return None
    if not re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?)?", value):
        raise InvalidRow("not a date")
    try:
        return date.fromisoformat(value[:10].decode())
    except ValueError:
        raise InvalidRow("not a date") from None


def parse_flag(value: bytes | None) -> bool | None:
    number = parse_integer(value)
    if number not in (None, 0, 1):
        raise InvalidRow("not a flag")
    return None if number is None else number == 1


def text_parser(length: int) -> Callable[[bytes | None], str | None]:
    def read(value: bytes | None) -> str | None:
        if value is None:
            return None
        try:
            words = value.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRow("not UTF-8") from None
        if len(words) > length or "\0" in words:
            raise InvalidRow("too long")
        return words

    return read


# --- Rules ---


def require(row: Row, *names: str) -> None:
    if any(row[name] is None for name in names):
        raise InvalidRow("missing")


def require_listed(row: Row, name: str, *words: str) -> None:
    if row[name] not in words:
        raise InvalidRow("unlisted")


def check_region(row: Row) -> None:
    require(row, "code", "name")


def check_category(row: Row) -> None:
    require(row, "name")


def check_product(row: Row) -> None:
    require(row, "name", "sku", "price", "cost")
    if row["price"] < 0 or row["cost"] < 0:
        raise InvalidRow("negative")
    require_listed(row, "status", "active", "inactive")


def check_customer(row: Row) -> None:
    require(row, "first_name", "last_name", "email")


def check_employee(row: Row) -> None:
    require(row, "first_name", "last_name", "email", "is_manager")


def check_customer_account(row: Row) -> None:
    require_listed(row, "status", "active", "disabled", "blocked")


def check_employee_account(row: Row) -> None:
    """Accept every row whose values can be parsed."""


def check_role(row: Row) -> None:
    require_listed(row, "name", "ADMIN", "SALES", "CUSTOMER", "BI_VIEWER")


def check_grant(row: Row) -> None:
    """Accept every row whose values can be parsed."""


def check_order(row: Row, now: datetime) -> None:
    require(row, "order_date", "customer_id")
    if row["order_date"] < datetime(2015, 1, 1, tzinfo=UTC):
        raise InvalidRow("too early")
    if row["order_date"] > now + timedelta(minutes=5):
        raise InvalidRow("in the future")
    require_listed(row, "status", "new", "paid", "shipped", "cancelled")


def check_line(row: Row) -> None:
    require(row, "order_id", "product_id", "quantity", "unit_price", "discount")
    if not 1 <= row["quantity"] <= 2**31 - 1:
        raise InvalidRow("quantity")
    if row["unit_price"] < 0 or row["discount"] < 0:
        raise InvalidRow("negative")
    if row["unit_price"] * row["quantity"] > LARGEST:
        raise InvalidRow("gross out of DECIMAL(12,2)")
    if row["discount"] > row["unit_price"] * row["quantity"]:
        raise InvalidRow("discount over gross")


def check_payment(row: Row) -> None:
    require(row, "order_id", "amount")
    require_listed(row, "method", "card", "paypal", "bank_transfer", "cash")
    require_listed(row, "status", "pending", "captured", "failed", "refunded")
    if row["amount"] <= 0:
        raise InvalidRow("not positive")


Parser = Callable[[bytes | None], Any]
REGION: dict[str, Parser] = {"id": parse_integer, "code": text_parser(10), "name": text_parser(120)}
CATEGORY: dict[str, Parser] = {"id": parse_integer, "name": text_parser(120), "parent_id": parse_integer}
PRODUCT: dict[str, Parser] = {
    "id": parse_integer,
    "name": text_parser(200),
    "sku": text_parser(40),
    "category_id": parse_integer,
    "price": parse_amount,
    "cost": parse_amount,
    "status": text_parser(20),
}
PERSON: dict[str, Parser] = {
    "id": parse_integer,
    "first_name": text_parser(80),
    "last_name": text_parser(80),
    "email": text_parser(254),
    "region_id": parse_integer,
}
CUSTOMER = PERSON | {"created_at": parse_instant}
EMPLOYEE = PERSON | {"is_manager": parse_flag, "hired_at": parse_date}
CUSTOMER_ACCOUNT: dict[str, Parser] = {"id": parse_integer, "customer_id": parse_integer, "status": text_parser(20)}
EMPLOYEE_ACCOUNT: dict[str, Parser] = {"id": parse_integer, "employee_id": parse_integer}
ROLE: dict[str, Parser] = {"id": parse_integer, "name": text_parser(20)}
GRANT: dict[str, Parser] = {"id": parse_integer, "user_id": parse_integer, "role_id": parse_integer}
ORDER: dict[str, Parser] = {
    "id": parse_integer,
    "customer_id": parse_integer,
    "employee_id": parse_integer,
    "region_id": parse_integer,
    "order_date": parse_instant,
    "status": text_parser(20),
}
LINE: dict[str, Parser] = {
    "id": parse_integer,
    "order_id": parse_integer,
    "product_id": parse_integer,
    "quantity": parse_integer,
    "unit_price": parse_amount,
    "discount": parse_amount,
}
PAYMENT: dict[str, Parser] = {
    "id": parse_integer,
    "order_id": parse_integer,
    "method": text_parser(20),
    "status": text_parser(20),
    "amount": parse_amount,
    "paid_at": parse_instant,
}


# --- The warehouse ---


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
class Warehouse:
    """`dimensions`: table -> natural key -> row; `facts`: order_item_id -> row; `rejects`: table and id, in order."""

    dimensions: dict[str, dict[int, Row]] = field(default_factory=dict)
    facts: dict[int, Row] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    rejects: list[tuple[str, str]] = field(default_factory=list)


def compute_warehouse(shop: Shop, now: datetime) -> Warehouse:
    warehouse = Warehouse()
    warehouse.dimensions["dim_region"] = compute_regions(shop, warehouse)
    warehouse.dimensions["dim_category"] = compute_categories(shop, warehouse)
    warehouse.dimensions["dim_product"] = compute_products(shop, warehouse)
    warehouse.dimensions["dim_customer"] = compute_customers(shop, warehouse)
    warehouse.dimensions["dim_employee"] = compute_employees(shop, warehouse)
    warehouse.facts = compute_facts(shop, warehouse, now)
    infer_members(warehouse)
    warehouse.rejects.sort()
    return warehouse


def validate_rows(
    raws: Iterable[Raw],
    parsers: Mapping[str, Parser],
    rule: Callable[[Row], None],
    warehouse: Warehouse,
    table: str,
    unique: str = "id",
    counted_as: str = "",
) -> list[Row]:
    """Return the rows that can be parsed and satisfy the rule, the last one of each natural key, and reject the others."""
    accepted: list[Row] = []
    rejected: list[Raw] = []
    last: dict[int, tuple[Row, Raw]] = {}
    for raw in raws:
        try:
            row = {name: read(raw[name]) for name, read in parsers.items()}
            rule(row)
        except InvalidRow:
            rejected.append(raw)
            continue
        if row[unique] in last:
            earlier, earlier_raw = last[row[unique]]
            accepted.remove(earlier)
            rejected.append(earlier_raw)
        last[row[unique]] = (row, raw)
        accepted.append(row)
    for raw in rejected:
        reject(warehouse, table, raw["id"])
    get_counts(warehouse, counted_as or table).add(loaded=len(accepted), rejected=len(rejected))
    return accepted


def get_counts(warehouse: Warehouse, table: str) -> Counts:
    return warehouse.counts.setdefault(table, Counts())


def reject(warehouse: Warehouse, table: str, row_id: bytes | int | None) -> None:
    warehouse.rejects.append((table, row_id.decode() if isinstance(row_id, bytes) else str(row_id)))


def compute_regions(shop: Shop, warehouse: Warehouse) -> dict[int, Row]:
    rows = validate_rows(shop["regions"], REGION, check_region, warehouse, "regions", counted_as="dim_region")
    return {row["id"]: make_member(code=row["code"], name=row["name"]) for row in rows}


def make_member(**attributes: Any) -> Row:
    return attributes | {"is_deleted": False, "is_inferred": False}


def get_reference(natural: int | None, empty: str = UNKNOWN) -> int | str:
    return empty if natural is None else natural


def compute_categories(shop: Shop, warehouse: Warehouse) -> dict[int, Row]:
    rows = validate_rows(shop["categories"], CATEGORY, check_category, warehouse, "categories", counted_as="dim_category")
    names = {row["id"]: row["name"] for row in rows}
    found = {}
    for row in rows:
        root = row["name"] if row["parent_id"] is None else names.get(row["parent_id"], "Unknown")
        found[row["id"]] = make_member(name=row["name"], root_name=root, parent=get_reference(row["parent_id"], NOT_APPLICABLE))
    return found


def compute_products(shop: Shop, warehouse: Warehouse) -> dict[int, Row]:
    known = warehouse.dimensions["dim_category"]
    found = {}
    for row in validate_rows(shop["products"], PRODUCT, check_product, warehouse, "products", counted_as="dim_product"):
        category = known.get(row["category_id"], {"name": "Unknown", "root_name": "Unknown"})
        found[row["id"]] = make_member(
            name=row["name"],
            sku=row["sku"],
            category=get_reference(row["category_id"]),
            category_name=category["name"],
            root_category_name=category["root_name"],
            price=row["price"],
            cost=row["cost"],
            status=row["status"],
        )
    return found


def compute_customers(shop: Shop, warehouse: Warehouse) -> dict[int, Row]:
    rows = validate_rows(shop["customers"], CUSTOMER, check_customer, warehouse, "customers", counted_as="dim_customer")
    with_customer = [raw for raw in shop["auth_users"] if raw["customer_id"] is not None]
    accounts = validate_rows(with_customer, CUSTOMER_ACCOUNT, check_customer_account, warehouse, "auth_users", unique="customer_id")
    states = {account["customer_id"]: account["status"] for account in accounts}
    found = {}
    for row in rows:
        found[row["id"]] = make_member(
            first_name=row["first_name"],
            last_name=row["last_name"],
            email=row["email"],
            region=get_reference(row["region_id"]),
            account_status=states.get(row["id"], "none"),
            registered_at=row["created_at"],
        )
    return found


def compute_employees(shop: Shop, warehouse: Warehouse) -> dict[int, Row]:
    rows = validate_rows(shop["employees"], EMPLOYEE, check_employee, warehouse, "employees", counted_as="dim_employee")
    roles = collect_roles(shop, warehouse)
    found = {}
    for row in rows:
        found[row["id"]] = make_member(
            first_name=row["first_name"],
            last_name=row["last_name"],
            email=row["email"],
            region=get_reference(row["region_id"]),
            is_manager=row["is_manager"],
            hired_at=row["hired_at"],
            roles=",".join(sorted(roles.get(row["id"], []))),
        )
    return found


def collect_roles(shop: Shop, warehouse: Warehouse) -> dict[int, list[str]]:
    with_employee = [raw for raw in shop["auth_users"] if raw["employee_id"] is not None]
    accounts = validate_rows(with_employee, EMPLOYEE_ACCOUNT, check_employee_account, warehouse, "auth_users", unique="employee_id")
    user_ids = {raw["id"] for raw in with_employee}
    grants = [raw for raw in shop["user_roles"] if raw["user_id"] in user_ids]
    granted = validate_rows(grants, GRANT, check_grant, warehouse, "user_roles")
    names = {role["id"]: role["name"] for role in validate_rows(shop["roles"], ROLE, check_role, warehouse, "roles")}
    employee_of = {account["id"]: account["employee_id"] for account in accounts}
    found: dict[int, list[str]] = {}
    for grant in granted:
        if grant["user_id"] in employee_of and grant["role_id"] in names:
            found.setdefault(employee_of[grant["user_id"]], []).append(names[grant["role_id"]])
    return found


def compute_facts(shop: Shop, warehouse: Warehouse, now: datetime) -> dict[int, Row]:
    orders = validate_orders(shop, warehouse, now)
    lines = group_sale_lines(shop, warehouse, orders)
    payments = group_payments(shop, warehouse, lines)
    found = {}
    for order_id, order_lines in lines.items():
        paid = payments.get(order_id, [])
        shares = allocate(sum_paid(paid), order_lines)
        for line in order_lines:
            row = make_fact(orders[order_id], line, warehouse.dimensions["dim_product"].get(line["product_id"]))
            row["paid_amount"] = shares[line["id"]]
            row["payment_method"] = get_payment_method(paid)
            row["paid_at"] = max((each["paid_at"] for each in select_captured(paid) if each["paid_at"]), default=None)
            found[line["id"]] = row
    return found


def validate_orders(shop: Shop, warehouse: Warehouse, now: datetime) -> dict[int, Row]:
    rows = validate_rows(shop["orders"], ORDER, lambda row: check_order(row, now), warehouse, "orders")
    order_counts = get_counts(warehouse, "orders")
    for row in rows:
        if row["status"] not in SALES:
            order_counts.loaded -= 1
            order_counts.filtered += 1
    return {row["id"]: row for row in rows}


def group_sale_lines(shop: Shop, warehouse: Warehouse, orders: Mapping[int, Row]) -> dict[int, list[Row]]:
    """Group the lines of sales by order, in ascending ids. Lines of rejected or missing orders are rejected, all others filtered."""
    rows = validate_rows(shop["order_items"], LINE, check_line, warehouse, "order_items", counted_as="fact_sales")
    line_counts = get_counts(warehouse, "fact_sales")
    found: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        order = orders.get(row["order_id"])
        if order is None:
            line_counts.loaded -= 1
            line_counts.rejected += 1
            reject(warehouse, "order_items", row["id"])
        elif order["status"] not in SALES:
            line_counts.loaded -= 1
            line_counts.filtered += 1
        else:
            found.setdefault(row["order_id"], []).append(row)
    return found


def group_payments(shop: Shop, warehouse: Warehouse, lines: Mapping[int, list[Row]]) -> dict[int, list[Row]]:
    """Group captured and refunded payments by order, where the order has a line in the fact. The other payments are filtered."""
    payment_counts = get_counts(warehouse, "payments")
    found: dict[int, list[Row]] = {}
    for row in validate_rows(shop["payments"], PAYMENT, check_payment, warehouse, "payments"):
        if row["status"] in ("captured", "refunded") and row["order_id"] in lines:
            found.setdefault(row["order_id"], []).append(row)
        else:
            payment_counts.loaded -= 1
            payment_counts.filtered += 1
    return found


def select_captured(payments: Iterable[Row]) -> list[Row]:
    return [payment for payment in payments if payment["status"] == "captured"]


def get_payment_method(payments: Iterable[Row]) -> str:
    used = {payment["method"] for payment in select_captured(payments)}
    if not used:
        return "none"
    return used.pop() if len(used) == 1 else "mixed"


def sum_paid(payments: Iterable[Row]) -> Decimal:
    total = Decimal("0.00")
    for payment in payments:
        total += payment["amount"] if payment["status"] == "captured" else -payment["amount"]
    return total


def allocate(paid: Decimal, lines: list[Row]) -> dict[int, Decimal]:
    """Allocate by largest remainder; of equal remainders the lower order_item_id gets the kopiyka. Negative amounts by their size."""
    weights = {line["id"]: to_kopiykas(get_net(line)) for line in lines}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    size, total = to_kopiykas(abs(paid)), sum(weights.values())
    shares = {line_id: size * weight // total for line_id, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda line_id: (-(size * weights[line_id] % total), line_id))
    for line_id in by_remainder[: size - sum(shares.values())]:
        shares[line_id] += 1
    sign = -1 if paid < 0 else 1
    return {line_id: Decimal(sign * share).scaleb(-2) for line_id, share in shares.items()}


def to_kopiykas(uah: Decimal) -> int:
    return int(uah * 100)


def get_net(line: Row) -> Decimal:
    return Decimal(line["unit_price"] * line["quantity"] - line["discount"])


def make_fact(order: Row, line: Row, product: Row | None) -> Row:
    """Return the fact row of a line that is loaded for the first time, with today's cost."""
    cost = product["cost"] * line["quantity"] if product else None
    return {
        "order_id": line["order_id"],
        "order_status": order["status"],
        "date": order["order_date"].astimezone(KYIV).date(),
        "product": line["product_id"],
        "category": product["category"] if product else UNKNOWN,
        "customer": order["customer_id"],
        "employee": get_reference(order["employee_id"], NOT_APPLICABLE),
        "region": get_reference(order["region_id"]),
        "quantity": line["quantity"],
        "gross_amount": line["unit_price"] * line["quantity"],
        "discount_amount": line["discount"],
        "net_amount": get_net(line),
        "unit_cost": product["cost"] if product else None,
        "cost_amount": cost,
        "margin_amount": None if cost is None else get_net(line) - cost,
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


def infer_members(warehouse: Warehouse) -> None:
    """Add an inferred row for every reference to a row that does not exist."""
    for table, references in REFERENCES.items():
        rows = warehouse.facts if table == "fact_sales" else dict(warehouse.dimensions[table])
        for row in rows.values():
            for column, dimension in references.items():
                natural = row[column]
                if isinstance(natural, int) and natural not in warehouse.dimensions[dimension]:
                    warehouse.dimensions[dimension][natural] = UNKNOWN_MEMBERS[dimension] | {"is_deleted": False, "is_inferred": True}


# --- Comparing ---


def find_differences(expected: Mapping[Any, Row], found: Mapping[Any, Row], limit: int = 5) -> list[str]:
    """Describe the first differences between two sets of rows by natural key, one sentence each."""
    found_differences = []
    for key in sorted({*expected, *found}, key=str):
        if key not in found:
            found_differences.append(f"{key} is missing: {expected[key]}")
        elif key not in expected:
            found_differences.append(f"{key} should not be there: {found[key]}")
        elif expected[key] != found[key]:
            columns = [name for name in {**expected[key], **found[key]} if expected[key].get(name) != found[key].get(name)]
            found_differences += [f"{key}.{name}: expected {expected[key].get(name)!r}, found {found[key].get(name)!r}" for name in columns]
    return found_differences[:limit] + ([f"... {len(found_differences) - limit} more"] if len(found_differences) > limit else [])
