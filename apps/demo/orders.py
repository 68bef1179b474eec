"""Orders and their lines, made a chunk at a time as columns of integers and formatted when they are written."""

from dataclasses import dataclass

import numpy as np

from apps.demo.bulk import Columns, insert_rows, with_timestamps
from apps.demo.catalog import Catalog
from apps.demo.money import format_money
from apps.demo.people import REGIONS, count_registered
from apps.demo.randomness import Ints, Texts, draw_flags, draw_weighted, make_rng
from apps.demo.timestamps import DAY, HOUR, MINUTE, SECOND, Timestamps, add_microseconds, assign_days, draw_order_times, format_timestamps
from apps.sources.orders.models import Order, OrderItem, OrderStatus

STATUSES = [OrderStatus.NEW.value, OrderStatus.PAID.value, OrderStatus.SHIPPED.value, OrderStatus.CANCELLED.value]
NEW, PAID, SHIPPED, CANCELLED = range(4)
LINES_PERCENTS = [25, 30, 23, 14, 8]  # 1 to 5 lines, 2.5 on average
QUANTITY_PERCENTS = [70, 22, 8]
DISCOUNTS = np.array([0, 5, 10])
DISCOUNT_PERCENTS = [60, 25, 15]
WEB_PERCENT = 35


@dataclass(frozen=True)
class ShopPlan:
    """What every chunk of orders is made from. Arrays are by position, id - 1; `statuses` takes a byte per order."""

    seed: int
    catalog: Catalog
    regions: Ints
    employees: int
    statuses: Ints


@dataclass(frozen=True)
class Orders:
    """One chunk of orders with their lines; money is in kopiykas.

    `counts` is the number of lines of each order; `product`, `quantity` and `discount` have an element for each line, in order.
    """

    first: int
    ordered_at: Timestamps
    paid_at: Timestamps
    changed_at: Timestamps
    status: Ints
    customer: Ints
    employee: Ints
    region: Ints
    counts: Ints
    product: Ints
    quantity: Ints
    discount: Ints
    total: Ints


def shuffle_statuses(seed: int, orders: int) -> Ints:
    """Return the orders' statuses, shuffled: exactly 5 % new, 20 % shipped and 5 % cancelled (rounded down), the others paid."""
    counts = {NEW: orders // 20, SHIPPED: orders // 5, CANCELLED: orders // 20}
    statuses = np.full(orders, PAID, dtype=np.int8)
    end = 0
    for status, count in counts.items():
        statuses[end : end + count] = status
        end += count
    make_rng(seed, "statuses").shuffle(statuses)
    return statuses  # type: ignore[return-value]  # int8, to stay small


def make_orders(plan: ShopPlan, first: int, last: int) -> Orders:
    """Make the orders at positions `first` to `last`, exclusive."""
    rng = make_rng(plan.seed, "orders", first)
    days = assign_days(np.arange(first, last), len(plan.statuses))
    ordered_at = draw_order_times(rng, days)
    status = plan.statuses[first:last].astype(np.int64)
    paid_at = add_microseconds(ordered_at, rng.integers(MINUTE, 90 * MINUTE, len(days)))
    customer = rng.integers(0, count_registered(days, len(plan.regions)))
    region = plan.regions[customer]
    counts = draw_weighted(rng, LINES_PERCENTS, len(days)) + 1
    product = draw_distinct_products(rng, counts, len(plan.catalog.prices))
    quantity = draw_weighted(rng, QUANTITY_PERCENTS, len(product)) + 1
    gross = plan.catalog.prices[product] * quantity
    # Exact: every price is a multiple of 20 kopiykas.
    discount = gross * DISCOUNTS[draw_weighted(rng, DISCOUNT_PERCENTS, len(product))] // 100
    return Orders(
        first=first,
        ordered_at=ordered_at,
        paid_at=paid_at,
        changed_at=draw_changed_at(rng, status, ordered_at, paid_at),
        status=status,
        customer=customer,
        employee=draw_sellers(rng, region, plan.employees),
        region=region,
        counts=counts,
        product=product,
        quantity=quantity,
        discount=discount,
        total=np.add.reduceat(gross - discount, np.cumsum(counts) - counts),
    )


def draw_changed_at(rng: np.random.Generator, status: Ints, ordered_at: Timestamps, paid_at: Timestamps) -> Timestamps:
    """Draw when each order took its present status."""
    shipping = add_microseconds(paid_at, rng.integers(2 * HOUR, 3 * DAY, len(status)))
    cancelling = add_microseconds(ordered_at, rng.integers(HOUR, 2 * DAY, len(status)))
    return np.select([status == PAID, status == SHIPPED, status == CANCELLED], [paid_at, shipping, cancelling], ordered_at)


def draw_distinct_products(rng: np.random.Generator, counts: Ints, products: int) -> Ints:
    """Draw positions of products for each line: different and ascending within an order; the first products sell best."""
    picks = draw_popular_products(rng, len(counts), products)
    while (repeated := (np.diff(np.sort(picks, axis=1), axis=1) == 0).any(axis=1)).any():
        picks[repeated] = draw_popular_products(rng, int(repeated.sum()), products)
    used = np.arange(picks.shape[1]) < counts[:, None]
    return np.sort(np.where(used, picks, products), axis=1)[used]


def draw_popular_products(rng: np.random.Generator, orders: int, products: int) -> Ints:
    return (products * rng.random((orders, len(LINES_PERCENTS))) ** 1.3).astype(np.int64)


def draw_sellers(rng: np.random.Generator, region: Ints, employees: int) -> Ints:
    """Draw ids of employees of each order's region; 0 for a web order."""
    regions = len(REGIONS)
    seller = region + regions * rng.integers(0, employees // regions, len(region))
    return np.where(draw_flags(rng, WEB_PERCENT, len(region)), 0, seller)


def write_orders(orders: Orders, catalog: Catalog, first_line: int) -> dict[str, int]:
    """Insert orders, then their lines with ids from `first_line`; return the rows by table."""
    size = len(orders.status)
    rows: Columns = {
        "id": list(range(orders.first + 1, orders.first + size + 1)),
        "customer_id": (orders.customer + 1).tolist(),
        "employee_id": [seller or None for seller in orders.employee.tolist()],
        "region_id": orders.region.tolist(),
        "order_date": format_timestamps(orders.ordered_at),
        "status": [STATUSES[status] for status in orders.status.tolist()],
        "total_amount": format_money(orders.total),
    }
    return {
        "orders": insert_rows(Order, with_timestamps(rows, orders.ordered_at, orders.changed_at)),
        "order_items": insert_rows(OrderItem, line_columns(orders, catalog, first_line)),
    }


def line_columns(orders: Orders, catalog: Catalog, first_line: int) -> Columns:
    size = len(orders.product)
    created_at = repeat_by_line(format_timestamps(orders.ordered_at), orders.counts)
    return {
        "id": list(range(first_line, first_line + size)),
        "order_id": np.repeat(np.arange(orders.first + 1, orders.first + len(orders.counts) + 1), orders.counts).tolist(),
        "product_id": (orders.product + 1).tolist(),
        "quantity": orders.quantity.tolist(),
        "unit_price": format_money(catalog.prices[orders.product]),
        "discount": format_money(orders.discount),
        "created_at": created_at,
        "updated_at": repeat_by_line(
            format_timestamps(add_microseconds(orders.ordered_at, np.full(len(orders.counts), SECOND))), orders.counts
        ),
    }


def repeat_by_line(texts: list[str], counts: Ints) -> list[str]:
    """Repeat each order's text for each of its lines: formatted once per order, not 2.5 times."""
    column: Texts = np.array(texts, dtype=object)
    return list(np.repeat(column, counts))
