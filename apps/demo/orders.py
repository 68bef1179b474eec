"""Orders and their lines, a chunk at a time, as columns of whole numbers until they are written."""

from dataclasses import dataclass

import numpy as np

from apps.demo import instants, money, people
from apps.demo.catalog import Catalog
from apps.demo.draw import Ints, Texts, chosen, stream, weighted
from apps.demo.write import Columns, insert, stamped
from apps.sources.orders.models import Order, OrderItem, OrderStatus

STATUSES = [OrderStatus.NEW.value, OrderStatus.PAID.value, OrderStatus.SHIPPED.value, OrderStatus.CANCELLED.value]
NEW, PAID, SHIPPED, CANCELLED = range(4)
LINES_PERCENTS = [25, 30, 23, 14, 8]  # 1 to 5 lines, 2.5 on average
QUANTITY_PERCENTS = [70, 22, 8]
DISCOUNTS = np.array([0, 5, 10])
DISCOUNT_PERCENTS = [60, 25, 15]
WEB_PERCENT = 35


@dataclass(frozen=True)
class Shop:
    """What every chunk draws from; arrays are by position, id - 1. One byte of status by order: 20 MB for 20 million."""

    seed: int
    catalog: Catalog
    regions: Ints
    employees: int
    statuses: Ints


@dataclass(frozen=True)
class Orders:
    """One chunk of orders with their lines. Money in kopiykas; `counts` is lines by order; `lines` has the line columns."""

    first: int
    ordered_at: instants.Instants
    paid_at: instants.Instants
    changed_at: instants.Instants
    status: Ints
    customer: Ints
    employee: Ints
    region: Ints
    counts: Ints
    product: Ints
    quantity: Ints
    discount: Ints
    total: Ints


def shuffled_statuses(seed: int, orders: int) -> Ints:
    """Exactly 5 % new, 20 % shipped and 5 % cancelled (rounded down), the others paid."""
    counts = {NEW: orders // 20, SHIPPED: orders // 5, CANCELLED: orders // 20}
    statuses = np.full(orders, PAID, dtype=np.int8)
    end = 0
    for status, count in counts.items():
        statuses[end : end + count] = status
        end += count
    stream(seed, "statuses").shuffle(statuses)
    return statuses  # type: ignore[return-value]  # int8, to stay small


def make(shop: Shop, first: int, last: int) -> Orders:
    rng = stream(shop.seed, "orders", first)
    days = instants.days_of(np.arange(first, last), len(shop.statuses))
    ordered_at = instants.ordered_at(rng, days)
    status = shop.statuses[first:last].astype(np.int64)
    paid_at = instants.later(ordered_at, rng.integers(instants.MINUTE, 90 * instants.MINUTE, len(days)))
    customer = rng.integers(0, people.known_customers(days, len(shop.regions)))
    region = shop.regions[customer]
    counts = weighted(rng, LINES_PERCENTS, len(days)) + 1
    product = different_products(rng, counts, len(shop.catalog.prices))
    quantity = weighted(rng, QUANTITY_PERCENTS, len(product)) + 1
    gross = shop.catalog.prices[product] * quantity
    # Exact: every price is a multiple of 20 kopiykas.
    discount = gross * DISCOUNTS[weighted(rng, DISCOUNT_PERCENTS, len(product))] // 100
    return Orders(
        first=first,
        ordered_at=ordered_at,
        paid_at=paid_at,
        changed_at=changed_at(rng, status, ordered_at, paid_at),
        status=status,
        customer=customer,
        employee=sellers(rng, region, shop.employees),
        region=region,
        counts=counts,
        product=product,
        quantity=quantity,
        discount=discount,
        total=np.add.reduceat(gross - discount, np.cumsum(counts) - counts),
    )


def changed_at(rng: np.random.Generator, status: Ints, ordered_at: instants.Instants, paid_at: instants.Instants) -> instants.Instants:
    """When the order came to the status that it has."""
    shipping = instants.later(paid_at, rng.integers(2 * instants.HOUR, 3 * instants.DAY, len(status)))
    second_thoughts = instants.later(ordered_at, rng.integers(instants.HOUR, 2 * instants.DAY, len(status)))
    return np.select([status == PAID, status == SHIPPED, status == CANCELLED], [paid_at, shipping, second_thoughts], ordered_at)


def different_products(rng: np.random.Generator, counts: Ints, products: int) -> Ints:
    """Positions of products, no two alike in one order, ascending in it; the first products sell best."""
    picks = popular(rng, len(counts), products)
    while (twice := (np.diff(np.sort(picks, axis=1), axis=1) == 0).any(axis=1)).any():
        picks[twice] = popular(rng, int(twice.sum()), products)
    used = np.arange(picks.shape[1]) < counts[:, None]
    return np.sort(np.where(used, picks, products), axis=1)[used]


def popular(rng: np.random.Generator, orders: int, products: int) -> Ints:
    return (products * rng.random((orders, len(LINES_PERCENTS))) ** 1.3).astype(np.int64)


def sellers(rng: np.random.Generator, region: Ints, employees: int) -> Ints:
    """Employee ids, of the order's own region; 0 for a web order."""
    regions = len(people.REGIONS)
    seller = region + regions * rng.integers(0, employees // regions, len(region))
    return np.where(chosen(rng, WEB_PERCENT, len(region)), 0, seller)


def write(orders: Orders, catalog: Catalog, first_line: int) -> dict[str, int]:
    """Orders first, then their lines, whose ids begin at `first_line`."""
    size = len(orders.status)
    rows: Columns = {
        "id": list(range(orders.first + 1, orders.first + size + 1)),
        "customer_id": (orders.customer + 1).tolist(),
        "employee_id": [seller or None for seller in orders.employee.tolist()],
        "region_id": orders.region.tolist(),
        "order_date": instants.written(orders.ordered_at),
        "status": [STATUSES[status] for status in orders.status.tolist()],
        "total_amount": money.written(orders.total),
    }
    return {
        "orders": insert(Order, stamped(rows, orders.ordered_at, orders.changed_at)),
        "order_items": insert(OrderItem, lines(orders, catalog, first_line)),
    }


def lines(orders: Orders, catalog: Catalog, first_line: int) -> Columns:
    size = len(orders.product)
    made = by_line(instants.written(orders.ordered_at), orders.counts)
    return {
        "id": list(range(first_line, first_line + size)),
        "order_id": np.repeat(np.arange(orders.first + 1, orders.first + len(orders.counts) + 1), orders.counts).tolist(),
        "product_id": (orders.product + 1).tolist(),
        "quantity": orders.quantity.tolist(),
        "unit_price": money.written(catalog.prices[orders.product]),
        "discount": money.written(orders.discount),
        "created_at": made,
        "updated_at": by_line(
            instants.written(instants.later(orders.ordered_at, np.full(len(orders.counts), instants.SECOND))), orders.counts
        ),
    }


def by_line(texts: list[str], counts: Ints) -> list[str]:
    """Texts of orders, once for each line: spelled once by order, not 2.5 times."""
    column: Texts = np.array(texts, dtype=object)
    return list(np.repeat(column, counts))
