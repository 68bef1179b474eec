"""What is loaded from where to where: the product on one screen. Plain declarations; they know no database and no Django."""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a source column may hold, which decides how it travels and how it is read."""

    INTEGER = "integer"
    FLAG = "flag"
    MONEY = "money"  # DECIMAL(12,2) UAH
    INSTANT = "instant"  # UTC
    DATE = "date"
    TEXT = "text"


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    length: int = 0  # TEXT: the longest that the warehouse holds


@dataclass(frozen=True)
class Source:
    """A table of a source and the columns that are read.

    `where` narrows it to the rows that concern one dimension; `sliced_by` is the column by whose ranges it may be read in slices.
    """

    alias: str
    table: str
    columns: tuple[Column, ...]
    where: str = ""
    sliced_by: str = ""

    def kind(self, column: str) -> Kind:
        return next(each.kind for each in self.columns if each.name == column)


@dataclass(frozen=True)
class Reference:
    """`key` of the target is looked up in `dimension` by the clean batch's column `natural`; an empty one gives `empty`."""

    key: str
    natural: str
    dimension: str
    empty: int = -1


@dataclass(frozen=True)
class Target:
    """A table of the warehouse. Its rows come one for one from the first of `sources`; the others only add columns."""

    table: str
    key: str
    natural: str
    attributes: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    references: tuple[Reference, ...] = field(default=())

    @property
    def source(self) -> Source:
        return self.sources[0]

    @property
    def is_sliced(self) -> bool:
        """Read and transformed in slices of its natural key, so that nobody holds it whole."""
        return bool(self.sources) and all(source.sliced_by for source in self.sources)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a load compares and writes, besides key and natural key."""
        return self.attributes + tuple(reference.key for reference in self.references)


def integer(name: str) -> Column:
    return Column(name, Kind.INTEGER)


def flag(name: str) -> Column:
    return Column(name, Kind.FLAG)


def money(name: str) -> Column:
    return Column(name, Kind.MONEY)


def instant(name: str) -> Column:
    return Column(name, Kind.INSTANT)


def date(name: str) -> Column:
    return Column(name, Kind.DATE)


def text(name: str, length: int) -> Column:
    return Column(name, Kind.TEXT, length)


# --- Sources ---------------------------------------------------------------------------------------------------------
PAYMENTS = Source(
    "payments_db",
    "payments",
    (integer("id"), integer("order_id"), text("method", 20), text("status", 20), money("amount"), instant("paid_at")),
)
ORDERS = Source(
    "orders_db",
    "orders",
    (integer("id"), integer("customer_id"), integer("employee_id"), integer("region_id"), instant("order_date"), text("status", 20)),
)
ORDER_ITEMS = Source(
    "orders_db",
    "order_items",
    (integer("id"), integer("order_id"), integer("product_id"), integer("quantity"), money("unit_price"), money("discount")),
)
REGIONS = Source("orders_db", "regions", (integer("id"), text("code", 10), text("name", 120)))
CATEGORIES = Source("catalog_db", "categories", (integer("id"), text("name", 120), integer("parent_id")))
PRODUCTS = Source(
    "catalog_db",
    "products",
    (integer("id"), text("name", 200), text("sku", 40), integer("category_id"), money("price"), money("cost"), text("status", 20)),
)
CUSTOMERS = Source(
    "orders_db",
    "customers",
    (integer("id"), text("first_name", 80), text("last_name", 80), text("email", 254), integer("region_id"), instant("created_at")),
    sliced_by="id",
)
EMPLOYEES = Source(
    "orders_db",
    "employees",
    (
        integer("id"),
        text("first_name", 80),
        text("last_name", 80),
        text("email", 254),
        integer("region_id"),
        flag("is_manager"),
        date("hired_at"),
    ),
)
CUSTOMER_ACCOUNTS = Source(
    "auth_db",
    "auth_users",
    (integer("id"), integer("customer_id"), text("status", 20)),
    where="customer_id IS NOT NULL",
    sliced_by="customer_id",
)
EMPLOYEE_ACCOUNTS = Source("auth_db", "auth_users", (integer("id"), integer("employee_id")), where="employee_id IS NOT NULL")
ROLES = Source("auth_db", "roles", (integer("id"), text("name", 20)))
EMPLOYEE_ROLES = Source(
    "auth_db",
    "user_roles",
    (integer("id"), integer("user_id"), integer("role_id")),
    where="user_id IN (SELECT id FROM auth_users WHERE employee_id IS NOT NULL)",
)

# --- The star, in the order of loading -------------------------------------------------------------------------------
DIM_DATE = Target(
    "dim_date",
    key="date_key",
    natural="date",
    attributes=("year", "quarter", "month", "month_name", "iso_week", "day", "day_of_week", "is_weekend", "is_holiday"),
)
DIM_REGION = Target("dim_region", key="region_key", natural="region_id", attributes=("code", "name"), sources=(REGIONS,))
DIM_CATEGORY = Target(
    "dim_category",
    key="category_key",
    natural="category_id",
    attributes=("name", "root_name"),
    references=(Reference("parent_category_key", "parent_id", "dim_category", empty=-2),),
    sources=(CATEGORIES,),
)
DIM_PRODUCT = Target(
    "dim_product",
    key="product_key",
    natural="product_id",
    attributes=("name", "sku", "category_name", "root_category_name", "price", "cost", "status"),
    references=(Reference("category_key", "category_id", "dim_category"),),
    sources=(PRODUCTS, CATEGORIES),
)
DIM_CUSTOMER = Target(
    "dim_customer",
    key="customer_key",
    natural="customer_id",
    attributes=("first_name", "last_name", "email", "account_status", "registered_at"),
    references=(Reference("region_key", "region_id", "dim_region"),),
    sources=(CUSTOMERS, CUSTOMER_ACCOUNTS),
)
DIM_EMPLOYEE = Target(
    "dim_employee",
    key="employee_key",
    natural="employee_id",
    attributes=("first_name", "last_name", "email", "is_manager", "hired_at", "roles"),
    references=(Reference("region_key", "region_id", "dim_region"),),
    sources=(EMPLOYEES, EMPLOYEE_ACCOUNTS, ROLES, EMPLOYEE_ROLES),
)
FACT_SALES = Target(
    "fact_sales",
    key="order_item_id",
    natural="order_item_id",
    attributes=(
        "order_id",
        "order_status",
        "payment_method",
        "quantity",
        "gross_amount",
        "discount_amount",
        "net_amount",
        "paid_amount",
        "paid_at",
        "ordered_at",
    ),
    references=(
        Reference("date_key", "date", "dim_date"),
        Reference("product_key", "product_id", "dim_product"),
        Reference("customer_key", "customer_id", "dim_customer"),
        Reference("employee_key", "employee_id", "dim_employee", empty=-2),
        Reference("region_key", "region_id", "dim_region"),
    ),
    sources=(ORDER_ITEMS, ORDERS, PAYMENTS),
)

DIMENSIONS = (DIM_DATE, DIM_REGION, DIM_CATEGORY, DIM_PRODUCT, DIM_CUSTOMER, DIM_EMPLOYEE)
TARGETS = {target.table: target for target in (*DIMENSIONS, FACT_SALES)}
SOURCES = {(source.alias, source.table, source.where): source for target in TARGETS.values() for source in target.sources}

# Extraction goes from children to parents: a payment read before its order may only be early, never an orphan.
EXTRACTION = (FACT_SALES, DIM_PRODUCT, DIM_CATEGORY, DIM_CUSTOMER, DIM_EMPLOYEE, DIM_REGION, DIM_DATE)
