"""fact_sales from payments, orders and lines. Grain: one order line of a recognised sale."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from apps.etl.counts import Counts
from apps.etl.metadata import get_metadata, set_metadata
from apps.etl.money import MAX_KOPIYKAS, uah
from apps.etl.tables import FACT_SALES, ORDER_ITEMS, ORDERS, PAYMENT_METHODS, PAYMENTS, RAW_FINGERPRINTS, SALE_STATUSES
from apps.etl.transform.allocation import allocate
from apps.etl.transform.dates import shop_dates
from apps.etl.transform.rows import Outcome, Rows, WarnedRows, decimals, no_amount, numbers

ORDER_STATUSES = ("new", "paid", "shipped", "cancelled")
PAYMENT_STATUSES = ("pending", "captured", "failed", "refunded")
EARLIEST = np.datetime64("2015-01-01")
NEVER = np.datetime64("0001-01-01", "us")  # before any instant that a source holds
LARGEST_QUANTITY = 2**31 - 1  # of the fact's column
# An order is in the future if it is later than the source's clock by more than this: the clocks of two servers differ.
CLOCK_TOLERANCE = timedelta(minutes=5)


def transform(batches: dict[str, pa.Table], zone: str) -> Outcome:
    """Transform the raw payments, orders and order_items of one slice. `zone`: the shop's time zone, which gives the date of a sale."""
    latest = latest_order_date(batches["orders"])
    orders = validate_orders(batches["orders"], latest)
    items = validate_lines(batches["order_items"])
    payments = validate_payments(batches["payments"])
    lines = join_orders(items, orders)
    sold = lines[items.accepted & lines["status"].isin(SALE_STATUSES).to_numpy(dtype=bool)]
    sold = sold.iloc[np.lexsort((numbers(sold["id"]), numbers(sold["order_id"])))].reset_index(drop=True)
    sold = join_by_order(sold, sum_payments_by_order(payments, pd.unique(numbers(sold["order_id"]))))
    of_sale = payments.frame["order_id"].isin(sold["order_id"]).to_numpy(dtype=bool)
    clean = set_metadata(
        to_fact(sold, zone),
        net_amount=str((numbers(sold["quantity"]) * numbers(sold["unit_price"])).sum() - numbers(sold["discount"]).sum()),
        paid_amount=str(numbers(sold["paid"])[first_of_order(sold)].sum()),
    )
    return Outcome(
        FACT_SALES.table,
        clean,
        counts={
            FACT_SALES.table: items.counts(filtered=int(items.accepted.sum()) - len(sold)),
            "orders": orders.counts(filtered=int((orders.accepted & ~is_sale(orders)).sum())),
            "payments": count_payments(payments, of_sale),
        },
        warnings=find_unsold_captures(payments, of_sale, orders, items),
        rejects=orders.rejects() + items.rejects(net_amount_of(items, orders)) + payments.rejects(amount_of(payments)),
        fingerprints=describe_orders(batches[RAW_FINGERPRINTS], orders, latest) if RAW_FINGERPRINTS in batches else None,
    )


def net_amount_of(items: Rows, orders: Rows) -> Callable[[int], int | None]:
    """Return a function from a line's position to its net amount, None where its order is no sale or the amount cannot be right."""
    if items.accepted.all():
        return no_amount
    sales = set(orders.frame["id"][is_sale(orders)].dropna())
    columns = [items.frame[name] for name in ("order_id", "unit_price", "quantity", "discount")]

    def net_amount(at: int) -> int | None:
        order, price, quantity, discount = (column.iat[at] for column in columns)
        if any(pd.isna(value) for value in (order, price, quantity, discount)) or order not in sales:
            return None
        gross = int(price) * int(quantity)
        return gross - int(discount) if quantity > 0 and 0 <= discount <= gross <= MAX_KOPIYKAS else None

    return net_amount


def amount_of(payments: Rows) -> Callable[[int], int | None]:
    amounts = payments.frame["amount"]
    return lambda at: None if pd.isna(amounts.iat[at]) or amounts.iat[at] < 1 else int(amounts.iat[at])


def latest_order_date(raw: pa.Table) -> Any:
    return np.datetime64((datetime.fromisoformat(get_metadata(raw, "clock")) + CLOCK_TOLERANCE).replace(tzinfo=None), "us")


def order_dates(orders: Rows) -> Any:
    return orders.frame["order_date"].to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT", "us"))


def describe_orders(fingerprints: pa.Table, orders: Rows, latest: Any) -> pa.Table:
    """Return the fingerprints with `look_again_at`, when an order that is dated in the future will be accepted; and with `is_unsold`."""
    at = np.searchsorted(fingerprints["order_id"].to_numpy(), orders.numbers("id"))
    dates = order_dates(orders)
    future = (dates > latest) & orders.frame["id"].notna().to_numpy(dtype=bool)
    look_again = np.full(fingerprints.num_rows, np.datetime64("NaT", "us"))
    look_again[at[future]] = dates[future] - np.timedelta64(CLOCK_TOLERANCE, "us")
    column = pa.array(look_again, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    unsold = np.zeros(fingerprints.num_rows, dtype=bool)
    unsold[at[orders.accepted & ~is_sale(orders)]] = True
    return fingerprints.append_column("look_again_at", column).append_column("is_unsold", pa.array(unsold))


def is_sale(orders: Rows) -> Any:
    return orders.frame["status"].isin(SALE_STATUSES).to_numpy(dtype=bool)


def validate_orders(raw: pa.Table, latest: Any) -> Rows:
    orders = Rows(ORDERS, raw)
    orders.reject_missing("order_date", "missing_date")
    dates = order_dates(orders)
    orders.reject((dates < EARLIEST) | (dates > latest), "date_out_of_range", column="order_date", earliest=str(EARLIEST))
    orders.reject_missing("customer_id", "missing_customer")
    orders.reject_unlisted("status", ORDER_STATUSES, "unknown_status")
    orders.reject_duplicates("id")
    return orders


def validate_lines(raw: pa.Table) -> Rows:
    items = Rows(ORDER_ITEMS, raw)
    for column in ("id", "order_id", "product_id", "quantity", "unit_price", "discount"):
        items.reject_missing(column)
    quantity, price, discount = (items.numbers(name) for name in ("quantity", "unit_price", "discount"))
    items.reject((quantity < 1) | (quantity > LARGEST_QUANTITY), "bad_quantity", least="1", greatest=str(LARGEST_QUANTITY))
    items.reject(price < 0, "negative_price")
    items.reject(discount < 0, "negative_discount")
    # Compared as a quotient, since the product of the two may exceed 2**63.
    too_large = price > MAX_KOPIYKAS // np.maximum(quantity, 1)
    items.reject(too_large, "bad_money", column="unit_price × quantity", least="0.00", greatest=str(uah(MAX_KOPIYKAS)))
    gross = np.where(items.accepted, price * quantity, 0)
    items.reject(discount > gross, "discount_over_gross")
    items.reject_duplicates("id")
    return items


def validate_payments(raw: pa.Table) -> Rows:
    payments = Rows(PAYMENTS, raw)
    payments.reject_missing("order_id", "missing_order")
    payments.reject_unlisted("method", PAYMENT_METHODS, "unknown_method")
    payments.reject_unlisted("status", PAYMENT_STATUSES, "unknown_status")
    payments.reject_amounts_below("amount", 1)
    payments.reject_duplicates("id")
    return payments


def join_orders(items: Rows, orders: Rows) -> pd.DataFrame:
    """Return the lines with the columns of their orders, and reject those without an accepted order; of these `status` is empty."""
    lines = join_by_order(items.frame, orders.clean().rename(columns={"id": "order_id"}))
    orphan = lines["status"].isna().to_numpy()
    if orphan.any():
        exists = items.frame["order_id"].isin(orders.frame["id"].dropna()).to_numpy(dtype=bool)
        items.reject(orphan & exists, "order_rejected")
        items.reject(orphan & ~exists, "missing_order", column="order_id")
    return lines


def join_by_order(lines: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """Return `lines` with the columns of `orders` (one row per order_id), empty where there is no such order.

    Does a left merge in a third of its time: 3 instead of 9 ms for 50 000 lines.
    """
    at = pd.Index(numbers(orders["order_id"])).get_indexer(numbers(lines["order_id"]))
    return lines.assign(**{name: orders[name].array.take(at, allow_fill=True) for name in orders.columns.drop("order_id")})


def first_of_order(lines: pd.DataFrame) -> Any:
    """Return the positions of the first line of each order, where the lines of one order are adjacent."""
    orders = numbers(lines["order_id"])
    return np.flatnonzero(np.r_[True, orders[1:] != orders[:-1]]) if len(orders) else orders


def sum_payments_by_order(payments: Rows, sold: Any) -> pd.DataFrame:
    """Return one row per order of `sold` that has captured or refunded payments: `paid` in kopiykas, `payment_method`, `paid_at`.

    Payments are summed before they are joined to lines: a join must not multiply money.
    """
    money = payments.clean()
    money = money[money["status"].isin(("captured", "refunded")).to_numpy(dtype=bool) & np.isin(numbers(money["order_id"]), sold)]
    money = money.iloc[np.argsort(numbers(money["order_id"]), kind="stable")]
    starts = first_of_order(money)
    captured = (money["status"] == "captured").to_numpy(dtype=bool)
    amount = numbers(money["amount"])
    method, methods = pd.factorize(money["method"].to_numpy(dtype=object))
    lowest, highest = np.where(captured, method, len(PAYMENT_METHODS)), np.where(captured, method, -1)
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
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def count_payments(payments: Rows, of_sale: Any) -> Counts:
    """Count payments. Loaded are those captured or refunded whose order has a line in the fact."""
    used = of_sale & payments.frame["status"].isin(("captured", "refunded")).to_numpy(dtype=bool)
    return payments.counts(filtered=int((payments.accepted & ~used).sum()))


def find_unsold_captures(payments: Rows, of_sale: Any, orders: Rows, items: Rows) -> dict[str, WarnedRows]:
    """Return the accepted captured payments whose order does not exist, or has no lines, by check; a check without any is left out."""
    unsold = payments.frame[payments.accepted & ~of_sale & payments.frame["status"].isin(("captured",)).to_numpy(dtype=bool)]
    if unsold.empty:
        return {}
    exists = unsold["order_id"].isin(orders.frame["id"].dropna())
    has_lines = unsold["order_id"].isin(items.frame["order_id"].dropna())
    found = {"check.captured_without_order": unsold[~exists], "check.captured_without_lines": unsold[exists & ~has_lines]}
    return {check: warned_payments(rows) for check, rows in found.items() if not rows.empty}


def warned_payments(rows: pd.DataFrame) -> WarnedRows:
    return WarnedRows(PAYMENTS.table, [str(each) for each in rows["id"]], uah(int(rows["amount"].sum())))


def to_fact(sold: pd.DataFrame, zone: str) -> pa.Table:
    """Return the clean batch: natural keys and measures, money as DECIMAL(24,2), instants in UTC."""
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
            "date": pa.array(shop_dates(ordered_at, zone), pa.date32()),
            "product_id": arrow(sold["product_id"], pa.int64()),
            "customer_id": arrow(sold["customer_id"], pa.int64()),
            "employee_id": arrow(sold["employee_id"], pa.int64()),
            "region_id": arrow(sold["region_id"], pa.int64()),
        }
    )


def arrow(values: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, from_pandas=True)
