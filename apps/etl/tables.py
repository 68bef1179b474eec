"""Every source table, dimension and fact: what is loaded from where to where. Plain declarations without a database or Django.

To add a source table, declare a Source and read it in a Target. To add a fact, see docs/ETL.md, "Adding a fact".
"""

from apps.etl.declarations import (
    AcceptedValues,
    Equality,
    Fact,
    Reconciliation,
    Reference,
    Source,
    Target,
    date,
    flag,
    instant,
    integer,
    money,
    text,
)

# --- Sources ---------------------------------------------------------------------------------------------------------
PAYMENTS = Source(
    "payments_db",
    "payments",
    (integer("id"), integer("order_id"), text("method", 20), text("status", 20), money("amount"), instant("paid_at")),
    sliced_by="order_id",
)
ORDERS = Source(
    "orders_db",
    "orders",
    (integer("id"), integer("customer_id"), integer("employee_id"), integer("region_id"), instant("order_date"), text("status", 20)),
    sliced_by="id",
)
ORDER_ITEMS = Source(
    "orders_db",
    "order_items",
    (integer("id"), integer("order_id"), integer("product_id"), integer("quantity"), money("unit_price"), money("discount")),
    sliced_by="order_id",
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

# --- Dimensions and facts, in the order of loading -------------------------------------------------------------------
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
SALE_STATUSES = ("paid", "shipped")  # of the orders whose lines are sales
PAYMENT_METHODS = ("card", "paypal", "bank_transfer", "cash")
FACT_SALES = Fact(
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
    sliced_by="order_id",
    has_product_columns=True,
    holds_revenue=True,
    accepted_values=(AcceptedValues("order_status", SALE_STATUSES), AcceptedValues("payment_method", (*PAYMENT_METHODS, "mixed", "none"))),
    equalities=(
        Equality("check.net", "net_amount", "gross_amount - discount_amount"),
        Equality("check.margin", "margin_amount", "net_amount - cost_amount"),
    ),
    reconciliations=(Reconciliation("check.reconciliation_net", "net_amount"), Reconciliation("check.reconciliation_paid", "paid_amount")),
)

DIMENSIONS = (DIM_DATE, DIM_REGION, DIM_CATEGORY, DIM_PRODUCT, DIM_CUSTOMER, DIM_EMPLOYEE)
FACTS = (FACT_SALES,)
FACT_TABLES = tuple(fact.table for fact in FACTS)
TARGETS: dict[str, Target] = {target.table: target for target in (*DIMENSIONS, *FACTS)}
# What is read of one order, by the column of etl_order that keeps its fingerprint: one for each database, whose rows are read together.
ORDER_SOURCES = {"sales": (ORDERS, ORDER_ITEMS), "payments": (PAYMENTS,)}
FINGERPRINTED = tuple(source for sources in ORDER_SOURCES.values() for source in sources)
# Batches that are of no source table and no target: ids of the orders that a run touches; their fingerprints as read; the same with dates.
TOUCHED_ORDERS, RAW_FINGERPRINTS, ORDER_FINGERPRINTS = "touched_orders", "fingerprints", "etl_order"
SOURCES = {(source.alias, source.table, source.where): source for target in TARGETS.values() for source in target.sources}

# Children before parents: with the orders' snapshot 10 ms before the payments' there were payments without an order in 48 of 60 runs.
SNAPSHOT_ORDER = ("payments_db", "orders_db", "catalog_db", "auth_db")
EXTRACTION = (*FACTS, DIM_PRODUCT, DIM_CATEGORY, DIM_CUSTOMER, DIM_EMPLOYEE, DIM_REGION, DIM_DATE)
