"""Transform only: rows that are written down here, through the rules of apps/etl/transform. No database is asked.

From the checkout: PYTHONPATH=. DJANGO_SETTINGS_MODULE=techmarket.settings .venv/bin/python docs/examples/transform_in_memory.py
"""

# ruff: noqa: E402  Django is set up before anything of ours is imported
import django

django.setup()

from apps.orchestration import api

ROWS = {
    "orders": [
        {"id": 1, "customer_id": 7, "region_id": 3, "order_date": "2026-03-01 22:30:00", "status": "paid"},
        {"id": 2, "customer_id": 7, "region_id": 3, "order_date": "2026-03-02 10:00:00", "status": "new"},
    ],
    "order_items": [
        {"id": 11, "order_id": 1, "product_id": 5, "quantity": 2, "unit_price": "1500.00", "discount": "300.00"},
        {"id": 12, "order_id": 1, "product_id": 6, "quantity": 0, "unit_price": "99.00", "discount": "0.00"},
        {"id": 13, "order_id": 2, "product_id": 5, "quantity": 1, "unit_price": "1500.00", "discount": "0.00"},
    ],
    "payments": [
        {"id": 21, "order_id": 1, "method": "card", "status": "captured", "amount": "2700.00", "paid_at": "2026-03-01 22:31:00"},
    ],
}

outcome = api.transform("fact_sales", ROWS)
print(outcome.clean.select(["order_item_id", "date", "net_amount", "paid_amount", "payment_method"]).to_pandas().to_string(index=False))
for reject in outcome.rejects:
    print(f"rejected: {reject.table} {reject.row_id}: {reject.reason}")
print(outcome.counts["fact_sales"])
