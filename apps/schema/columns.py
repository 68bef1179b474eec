"""Facts about columns that the models do not hold: unit, source and example.

Keys are `table.column`, or a column's name for every table that has it.
"""

from apps.etl.tables import TARGETS
from apps.schema.tables import Column, Database, Table

UNITS = {"DecimalField": "UAH", "DateTimeField": "UTC", "DateField": "day"}
COUNT_COLUMNS = ("quantity",)
FILLED_BY_DATABASE = ("id", "created_at", "updated_at")

# Columns of the warehouse that the transform computes; the others are declared in apps/etl/tables.py.
SOURCES = {
    "dim_date.date_key": "date",
    "dim_date.date": "the calendar, from 2020 to two years ahead",
    "dim_category.root_name": "catalog_db.categories.name of the root",
    "dim_product.category_name": "catalog_db.categories.name",
    "dim_product.root_category_name": "catalog_db.categories.name of the root",
    "dim_customer.account_status": "auth_db.auth_users.status",
    "dim_customer.registered_at": "orders_db.customers.created_at",
    "dim_employee.roles": "auth_db.roles.name by auth_db.user_roles",
    "fact_sales.order_item_id": "orders_db.order_items.id",
    "fact_sales.order_status": "orders_db.orders.status",
    "fact_sales.payment_method": "payments_db.payments.method",
    "fact_sales.date_key": "orders_db.orders.order_date",
    "fact_sales.category_key": "dim_product.category_key",
    "fact_sales.customer_key": "orders_db.orders.customer_id",
    "fact_sales.employee_key": "orders_db.orders.employee_id",
    "fact_sales.region_key": "orders_db.orders.region_id",
    "fact_sales.gross_amount": "orders_db.order_items.unit_price, quantity",
    "fact_sales.discount_amount": "orders_db.order_items.discount",
    "fact_sales.net_amount": "gross_amount, discount_amount",
    "fact_sales.unit_cost": "dim_product.cost",
    "fact_sales.cost_amount": "unit_cost, quantity",
    "fact_sales.margin_amount": "net_amount, cost_amount",
    "fact_sales.paid_amount": "payments_db.payments.amount, status; net_amount",
    "fact_sales.paid_at": "payments_db.payments.paid_at",
    "fact_sales.ordered_at": "orders_db.orders.order_date",
}

EXAMPLES = {
    "id": "42",
    "created_at": "2026-02-28 09:15:00.000000",
    "updated_at": "2026-03-01 12:30:45.123456",
    "user_id": "7",
    "customer_id": "23",
    "employee_id": "4",
    "region_id": "3",
    "order_id": "10482",
    "product_id": "17",
    "category_id": "8",
    "parent_id": "1",
    "role_id": "3",
    "first_name": "Олена",
    "last_name": "Шевченко",
    "email": "olena.shevchenko@shop.example",
    "phone": "+380 44 123 45 67",
    "status": "active",
    "is_manager": "true",
    "hired_at": "2019-04-01",
    "price": "45999.00",
    "cost": "35879.22",
    "sku": "NB-0017",
    "password_hash": "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",  # nosec B105 # of no password
    "algo": "argon2id",
    "password_updated_at": "2026-01-15 08:00:00.000000",  # nosec B105 # a time
    "token_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",  # nosec B105 # of no token
    "issued_at": "2026-03-01 10:00:00.000000",
    "expires_at": "2026-03-31 10:00:00.000000",
    "revoked": "false",
    "last_used_at": "2026-03-02 18:20:11.000000",
    "user_agent": "Mozilla/5.0 (Android 14)",
    "ip": "203.0.113.9",
    "scopes": "shop",
    "comment": "sells and sees own customers",
    "code": "KV",
    "categories.name": "Ноутбуки",
    "products.name": "Ноутбук 15.6, 16 ГБ",
    "roles.name": "SALES",
    "regions.name": "Київська",
    "order_date": "2026-02-28 22:15:00.000000",
    "orders.status": "paid",
    "total_amount": "87398.10",
    "quantity": "2",
    "unit_price": "45999.00",
    "discount": "4599.90",
    "method": "card",
    "payments.status": "captured",
    "amount": "87398.10",
    "paid_at": "2026-02-28 22:20:31.000000",
    "run_id": "41",
    "is_deleted": "false",
    "is_inferred": "false",
    "date_key": "20260301",
    "date": "2026-03-01",
    "year": "2026",
    "quarter": "1",
    "month": "3",
    "month_name": "March",
    "iso_week": "9",
    "day": "1",
    "day_of_week": "7",
    "is_weekend": "true",
    "is_holiday": "false",
    "region_key": "3",
    "category_key": "8",
    "parent_category_key": "1",
    "product_key": "17",
    "customer_key": "23",
    "employee_key": "4",
    "dim_region.name": "Київська",
    "dim_category.name": "Ноутбуки",
    "dim_product.name": "Ноутбук 15.6, 16 ГБ",
    "root_name": "Ноутбуки та комп'ютери",
    "category_name": "Ноутбуки",
    "root_category_name": "Ноутбуки та комп'ютери",
    "account_status": "active",
    "registered_at": "2025-11-03 07:41:20.000000",
    "roles": "ADMIN,SALES",
    "order_item_id": "31877",
    "order_status": "paid",
    "payment_method": "card",
    "gross_amount": "91998.00",
    "discount_amount": "4599.90",
    "net_amount": "87398.10",
    "unit_cost": "35879.22",
    "cost_amount": "71758.44",
    "margin_amount": "15639.66",
    "paid_amount": "87398.10",
    "ordered_at": "2026-02-28 22:15:00.000000",
    "run_uuid": "6f1c9f0e-6c0f-4e5b-9d5e-2f6f7d3b1a90",
    "mode": "incremental",
    "window_start": "2026-03-01 00:00:00.000000",
    "window_end": "2026-03-02 00:00:00.000000",
    "high_water_mark": "2026-03-02 00:00:04.512345",
    "counts": '{"dim_region": {"inserted": 0, "updated": 1}}',
    "fingerprints": '{"dim_region": [[null, null, "regions 5 9120483; columns 1183", 2748839]]}',
    "rules": "cd288315397790cc",
    "sequence": "214",
    "published_at": "2026-03-02 00:00:09.104233",
    "sales": "15085027621",
    "payments": "6958860265",
    "look_again_at": "2026-03-05 08:00:00.000000",
    "segment": "30",
    "proven_at": "2026-03-02 00:00:04.512345",
    "star": "5318238404491",
    "fact": "fact_sales",
    "line_id": "31877",
    "dimension": "dim_customer",
    "member_id": "23",
    "member_key": "24",
    "low": "140001",
    "high": "280001",
    "relation": "fact_sales_212_140001",
    "is_partition": "true",
    "findings": '{"rows": 331204, "kopiykas": {"net_amount": 1250080000}}',
}


def get_unit(column: Column) -> str:
    return "pieces" if column.name in COUNT_COLUMNS else UNITS.get(column.field_type, "")


def get_source(database: Database, table: Table, column: Column) -> str:
    """Return the columns that the value is copied or computed from, or who writes it."""
    if not database.is_warehouse:
        return "the database" if column.name in FILLED_BY_DATABASE else "the shop"
    name = f"{table.name}.{column.name}"
    return SOURCES.get(name) or find_declared_source(table.name, column.name) or ("date" if table.name == "dim_date" else "the ETL")


def find_declared_source(table: str, column: str) -> str:
    """Return the source column that apps/etl/tables.py declares: of the natural key, of a reference, or of the same name; else ""."""
    target = TARGETS.get(table)
    if not target or not target.sources:
        return ""
    source = target.source
    references = {reference.key: reference.natural for reference in target.references}
    source_column = "id" if column == target.natural else references.get(column, column)
    return f"{source.alias}.{source.table}.{source_column}" if source_column in {each.name for each in source.columns} else ""


def get_example(table: Table, column: Column) -> str:
    """Return the example, or "" where there is none; a test requires one for every column."""
    return EXAMPLES.get(f"{table.name}.{column.name}") or EXAMPLES.get(column.name, "")
