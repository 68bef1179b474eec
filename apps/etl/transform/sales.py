"""Payments, orders and lines to fact_sales. Grain: one order line of a recognised sale."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from apps.etl.counts import Counts
from apps.etl.metadata import note, noted
from apps.etl.tables import ORDER_ITEMS, ORDERS, PAYMENTS
from apps.etl.transform.allocation import allocate
from apps.etl.transform.parse import LARGEST
from apps.etl.transform.rows import Outcome, Rows, decimals, numbers, spell_amount

ORDER_STATUSES = ("new", "paid", "shipped", "cancelled")
SALES = ("paid", "shipped")
PAYMENT_STATUSES = ("pending", "captured", "failed", "refunded")
METHODS = ("card", "paypal", "bank_transfer", "cash")
EARLIEST = np.datetime64("2015-01-01")
NEVER = np.datetime64("0001-01-01", "us")  # before any instant that a source holds
LARGEST_QUANTITY = 2**31 - 1
# The clocks of two servers may differ by this much before an order counts as one from the future.
TOLERANCE = timedelta(minutes=5)


def transform(batches: dict[str, pa.Table], zone: str) -> Outcome:
    """`batches`: payments, orders, order_items of one slice, raw; `zone`: the shop's time zone, which gives the business date."""
    orders = orders_held_to_the_rules(batches["orders"])
    items = lines_held_to_the_rules(batches["order_items"])
    payments = payments_held_to_the_rules(batches["payments"])
    lines = with_orders(items, orders)
    sold = lines[items.accepted & lines["status"].isin(SALES).to_numpy(dtype=bool)]
    sold = sold.iloc[np.lexsort((numbers(sold["id"]), numbers(sold["order_id"])))].reset_index(drop=True)
    sold = looked_up(sold, paid_by_order(payments, pd.unique(numbers(sold["order_id"]))))
    clean = note(
        fact(sold, zone),
        net=str((numbers(sold["quantity"]) * numbers(sold["unit_price"])).sum() - numbers(sold["discount"]).sum()),
        paid=str(numbers(sold["paid"])[first_of_order(sold)].sum()),
    )
    return Outcome(
        "fact_sales",
        clean,
        counts={
            "fact_sales": items.counts(filtered=int(items.accepted.sum()) - len(sold)),
            "orders": orders.counts(filtered=int((orders.accepted & ~orders.frame["status"].isin(SALES).to_numpy(dtype=bool)).sum())),
            "payments": payment_counts(payments, sold),
        },
        rejects=orders.rejects() + items.rejects() + payments.rejects(),
    )


def orders_held_to_the_rules(raw: pa.Table) -> Rows:
    orders = Rows(ORDERS, raw)
    latest = np.datetime64((datetime.fromisoformat(noted(raw, "clock")) + TOLERANCE).replace(tzinfo=None))
    orders.reject_missing("order_date", "missing_date")
    dates = orders.frame["order_date"].to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT", "us"))
    orders.reject((dates < EARLIEST) | (dates > latest), "date_out_of_range", column="order_date", earliest=str(EARLIEST))
    orders.reject_missing("customer_id", "missing_customer")
    orders.reject_unlisted("status", ORDER_STATUSES, "unknown_status")
    orders.reject_duplicates("id")
    return orders


def lines_held_to_the_rules(raw: pa.Table) -> Rows:
    items = Rows(ORDER_ITEMS, raw)
    for column in ("id", "order_id", "product_id", "quantity", "unit_price", "discount"):
        items.reject_missing(column)
    quantity, price, discount = (items.numbers(name) for name in ("quantity", "unit_price", "discount"))
    items.reject((quantity < 1) | (quantity > LARGEST_QUANTITY), "bad_quantity", least="1", greatest=str(LARGEST_QUANTITY))
    items.reject(price < 0, "negative_price")
    items.reject(discount < 0, "negative_discount")
    # Compared as a quotient: the product of the two could pass 2**63.
    too_large = price > LARGEST // np.maximum(quantity, 1)
    items.reject(too_large, "bad_money", column="unit_price × quantity", least="0.00", greatest=spell_amount(LARGEST))
    gross = np.where(items.accepted, price * quantity, 0)
    items.reject(discount > gross, "discount_over_gross")
    items.reject_duplicates("id")
    return items


def payments_held_to_the_rules(raw: pa.Table) -> Rows:
    payments = Rows(PAYMENTS, raw)
    payments.reject_missing("order_id", "missing_order")
    payments.reject_unlisted("method", METHODS, "unknown_method")
    payments.reject_unlisted("status", PAYMENT_STATUSES, "unknown_status")
    not_positive = payments.numbers("amount") <= 0
    payments.reject(not_positive, "bad_money", column="amount", least="0.01", greatest=spell_amount(LARGEST))
    payments.reject_duplicates("id")
    return payments


def with_orders(items: Rows, orders: Rows) -> pd.DataFrame:
    """The lines with their order's columns; `status` stays empty where a line is rejected here, for its order's sake."""
    lines = looked_up(items.frame, orders.clean().rename(columns={"id": "order_id"}))
    orphan = lines["status"].isna().to_numpy()
    if orphan.any():
        there = items.frame["order_id"].isin(orders.frame["id"].dropna()).to_numpy(dtype=bool)
        items.reject(orphan & there, "order_rejected")
        items.reject(orphan & ~there, "missing_order", column="order_id")
    return lines


def looked_up(lines: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """`lines` with the columns of `orders` (one row for each order_id) beside them, empty where there is no such order.

    A left merge, in a third of its time: 3 instead of 9 ms for 50 000 lines.
    """
    at = pd.Index(numbers(orders["order_id"])).get_indexer(numbers(lines["order_id"]))
    return lines.assign(**{name: orders[name].array.take(at, allow_fill=True) for name in orders.columns.drop("order_id")})


def first_of_order(lines: pd.DataFrame) -> Any:
    """Which lines are the first of their order, where those of one order are adjacent."""
    orders = numbers(lines["order_id"])
    return np.flatnonzero(np.r_[True, orders[1:] != orders[:-1]]) if len(orders) else orders


def paid_by_order(payments: Rows, sold: Any) -> pd.DataFrame:
    """One row for each order of `sold` that has captured or refunded payments: `paid` in kopiykas, `payment_method`, `paid_at`.

    Summed before it meets the lines: a join must not multiply money.
    """
    money = payments.clean()
    money = money[money["status"].isin(("captured", "refunded")).to_numpy(dtype=bool) & np.isin(numbers(money["order_id"]), sold)]
    money = money.iloc[np.argsort(numbers(money["order_id"]), kind="stable")]
    starts = first_of_order(money)
    captured = (money["status"] == "captured").to_numpy(dtype=bool)
    amount = numbers(money["amount"])
    method, methods = pd.factorize(money["method"].to_numpy(dtype=object))
    lowest, highest = np.where(captured, method, len(METHODS)), np.where(captured, method, -1)
    paid_at = money["paid_at"].where(captured).to_numpy(dtype="datetime64[us]", na_value=NEVER).astype(np.int64)
    paid, lowest, highest, latest = (
        reduce.reduceat(values, starts) if len(starts) else values
        for reduce, values in (
            (np.add, np.where(captured, amount, -amount)),
            (np.minimum, lowest),
            (np.maximum, highest),
            (np.maximum, paid_at),
        )
    )
    named = np.append(methods, ["mixed", "none"])
    which = np.where(highest < 0, len(methods) + 1, np.where(lowest < highest, len(methods), highest))
    table = pa.table(
        {
            "order_id": numbers(money["order_id"])[starts],
            "paid": paid,
            "payment_method": pa.array(named[which], pa.string()),
            "paid_at": pa.array(latest, mask=latest == NEVER.astype(np.int64)).cast(pa.timestamp("us")),
        }
    )
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def payment_counts(payments: Rows, sold: pd.DataFrame) -> Counts:
    """Loaded: captured or refunded, and some line of its order carries it."""
    used = payments.frame["status"].isin(("captured", "refunded")) & payments.frame["order_id"].isin(sold["order_id"])
    return payments.counts(filtered=int((payments.accepted & ~used.to_numpy(dtype=bool)).sum()))


def fact(sold: pd.DataFrame, zone: str) -> pa.Table:
    """The clean batch: natural keys beside the measures, money as DECIMAL(24,2), instants UTC."""
    quantity, price, discount = (numbers(sold[name]) for name in ("quantity", "unit_price", "discount"))
    gross = price * quantity
    net = gross - discount
    share = allocate(numbers(sold["order_id"]), net, numbers(sold["paid"]))
    ordered_at = sold["order_date"].to_numpy(dtype="datetime64[us]")
    return pa.table(
        {
            "order_item_id": arrow(sold["id"], pa.int64()),
            "order_id": arrow(sold["order_id"], pa.int64()),
            "order_status": arrow(sold["status"], pa.string()),
            "payment_method": arrow(sold["payment_method"].fillna("none"), pa.string()),
            "quantity": pa.array(quantity, pa.int64()),
            "gross_amount": decimals(gross),
            "discount_amount": decimals(discount),
            "net_amount": decimals(net),
            "paid_amount": decimals(share),
            "paid_at": arrow(sold["paid_at"], pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "ordered_at": pa.array(ordered_at, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "date": pa.array(business_dates(ordered_at, zone), pa.date32()),
            "product_id": arrow(sold["product_id"], pa.int64()),
            "customer_id": arrow(sold["customer_id"], pa.int64()),
            "employee_id": arrow(sold["employee_id"], pa.int64()),
            "region_id": arrow(sold["region_id"], pa.int64()),
        }
    )


def business_dates(instants: Any, zone: str) -> Any:
    """The calendar day in the shop's time zone, for naive UTC instants; right on both daylight-saving days."""
    return pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(zone).tz_localize(None).to_numpy().astype("datetime64[D]")


def arrow(values: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, from_pandas=True)
