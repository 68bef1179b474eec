"""Generated shops, edge cases included, through the transform and through the whole pipeline, against the oracle."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from django.db import IntegrityError
from django.db.models import Model
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from apps.demo import shop
from apps.etl.declarations import Source, Target
from apps.etl.tables import DIM_CATEGORY, DIM_CUSTOMER, DIM_EMPLOYEE, DIM_PRODUCT, DIM_REGION, ORDER_ITEMS, ORDERS, PAYMENTS
from apps.etl.transform.registry import transform
from apps.etl.transform.rows import Outcome
from apps.sources.auth.models import User
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, Region
from apps.sources.payments.models import Payment
from apps.warehouse.models import FactSales, Load
from tests import oracle
from tests.etl import warehouse_rows
from tests.etl.raw import NOW, mysql_batch, spelled, sqlite_batch, with_clock
from tests.oracle import Raw, Row

ZONE = "Europe/Kyiv"
KYIV = ZoneInfo(ZONE)
Form = Callable[[Source, list[Raw]], pa.Table]
FORMS = [pytest.param(mysql_batch, id="MySQL"), pytest.param(sqlite_batch, id="SQLite")]
# Not shrunk: that takes minutes; put Phase.shrink in while looking for a cause.
PHASES = [Phase.explicit, Phase.generate]
quick = settings(phases=PHASES, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True, database=None)

# --- Values ---

CLOCK_CHANGES = [date(2026, 3, 29), date(2026, 10, 25), date(2025, 3, 30), date(2025, 10, 26), date(2016, 3, 27), date(2024, 2, 29)]
MIDNIGHTS = [
    datetime.combine(day + timedelta(days=days), time(), KYIV).astimezone(UTC)
    for day in (*CLOCK_CHANGES, date(2026, 1, 1), date(2025, 6, 15))
    for days in (0, 1)
]
around_midnight = st.builds(
    lambda midnight, micros: midnight + timedelta(microseconds=micros),
    st.sampled_from(MIDNIGHTS),
    st.sampled_from([-1, 0, 1, 3_600_000_000, -3_600_000_000, 10_800_000_000, 7_199_999_999]),
)
any_instant = st.datetimes(datetime(2015, 1, 1), NOW.replace(tzinfo=None)).map(lambda naive: naive.replace(tzinfo=UTC))
instants = st.one_of(around_midnight, any_instant).map(lambda instant: f"{instant:%Y-%m-%d %H:%M:%S.%f}".encode())
edges = st.sampled_from(
    [
        None,
        b"0000-00-00 00:00:00.000000",
        b"2014-12-31 23:59:59.999999",
        b"2015-01-01 00:00:00.000000",
        b"2026-11-22 12:05:00.000000",
        b"2026-11-22 12:05:00.000001",
        b"2026-02-30 10:00:00.000000",
        b"2024-05-05 05:05:05",
    ]
)
kopiykas = st.one_of(st.sampled_from([1, 2, 3, 7, 33, 100, 999_999_999_999]), st.integers(1, 100_000), st.integers(1, 999_999_999_999))
quantities = st.one_of(st.integers(1, 5), st.sampled_from([0, -1, 2**31 - 1, 2**31, 9_000_000]))
statuses = st.sampled_from(["paid", "shipped"] * 5 + ["new", "cancelled", "misplaced", ""])
payment_statuses = st.sampled_from(["captured"] * 5 + ["refunded"] * 3 + ["failed", "pending", "settled"])
methods = st.sampled_from(["card", "card", "cash", "paypal", "bank_transfer", "barter"])
dirty = st.sampled_from(
    [b"abc", b"1.5", b"1e3", b"", b" 7", b"Infinity", b"NaN", b"\xff\xfe", b"0x10", b"1_000", b"12.345", b"1e999999", b"-1"]
)


def uah(amount: int) -> bytes:
    return f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02}".encode()


@st.composite
def lines(draw: st.DrawFn, order_id: int) -> Raw:
    quantity, price = draw(quantities), draw(kopiykas) * draw(st.sampled_from([1] * 12 + [0, -1]))
    gross = max(quantity * price, 0)
    discount = draw(st.sampled_from([0, 0, 0, gross, gross, gross // 10, gross // 3, gross + 1, -1])) if gross < 10**12 else 0
    product = draw(st.sampled_from([1, 2, 3, 777]))
    return spelled(order_id=order_id, product_id=product, quantity=quantity, unit_price=uah(price), discount=uah(min(discount, 10**12 - 1)))


@st.composite
def payments(draw: st.DrawFn, order_id: int) -> Raw:
    amount = draw(kopiykas) * draw(st.sampled_from([1] * 15 + [0, -1]))
    paid_at = draw(st.one_of(instants, st.none()))
    return spelled(order_id=order_id, method=draw(methods), status=draw(payment_statuses), amount=uah(amount), paid_at=paid_at)


@st.composite
def shops(draw: st.DrawFn) -> dict[str, list[Raw]]:
    """Orders with their lines and payments, some of orders that are nowhere; no row's place or id says anything."""
    orders, items, paid = [], [], []
    for order_id in range(1, draw(st.integers(1, 5)) + 1):
        order = spelled(
            id=order_id,
            customer_id=draw(st.sampled_from([1, 2, 9001, 1, 2, None])),
            employee_id=draw(st.sampled_from([1, None, 9002])),
            region_id=draw(st.sampled_from([1, 2, None])),
            order_date=draw(st.one_of(instants, instants, instants, edges)),
            status=draw(statuses),
        )
        orders += [order] if draw(st.integers(0, 9)) else []
        items += draw(st.lists(lines(order_id), max_size=5))
        paid += draw(st.lists(payments(order_id), max_size=4))
    rng = random.Random(draw(st.integers(0, 1000)))
    return {"orders": shuffled(rng, orders), "order_items": shuffled(rng, items), "payments": shuffled(rng, paid)}


def shuffled(rng: random.Random, rows: list[Raw]) -> list[Raw]:
    """In any order, with ids in another one; orders have theirs."""
    numbers = rng.sample(range(1, len(rows) + 1), len(rows))
    numbered = [{"id": str(number).encode()} | dict(row) for number, row in zip(numbers, rows, strict=True)]
    return rng.sample(numbered, len(numbered))


def facts_of(form: Form, made: dict[str, list[Raw]]) -> Outcome:
    batches = {source.table: form(source, made[source.table]) for source in (ORDERS, ORDER_ITEMS, PAYMENTS)}
    return transform("fact_sales", with_clock(batches), ZONE, NOW.date())


def by_natural_key(outcome: Outcome) -> dict[int, Row]:
    """The clean batch as the oracle spells a fact; what comes from the product is added by the load."""
    found = {}
    for row in outcome.clean.to_pylist():
        for name in ("product", "customer", "region"):
            row[name] = oracle.reference(row.pop(f"{name}_id"))
        row["employee"] = oracle.reference(row.pop("employee_id"), oracle.NOT_APPLICABLE)
        found[row.pop("order_item_id")] = row
    return found


def assert_as_the_oracle_says(outcome: Outcome, made: dict[str, list[Raw]]) -> None:
    expected = oracle.Star(dimensions={"dim_product": {}})
    expected.facts = oracle.facts(made, expected, NOW)
    wanted = {
        pk: {name: value for name, value in row.items() if name not in ("category", "cost_amount", "margin_amount")}
        for pk, row in expected.facts.items()
    }
    assert oracle.differences(wanted, by_natural_key(outcome)) == []
    assert sorted((row.table, row.row_id) for row in outcome.rejects) == sorted(expected.rejects)
    for table, counts in expected.counts.items():
        assert vars(outcome.counts[table]) == vars(counts), table


ORDER = spelled(id=1, customer_id=1, employee_id=None, region_id=1, order_date=b"2026-03-29 21:00:00.000000", status="paid")
PAYMENT = spelled(id=1, order_id=1, method="card", status="captured", amount=b"1.00", paid_at=b"2026-03-29 21:00:01.000000")
PAYMENTS_OF_ONE_ORDER: list[tuple[list[dict[str, bytes]], list[str], str]] = [
    ([], ["0.00", "0.00", "0.00"], "none"),
    ([{}], ["0.34", "0.33", "0.33"], "card"),
    ([{}, {"method": b"cash", "amount": b"0.01"}], ["0.34", "0.34", "0.33"], "mixed"),
    ([{}, {"amount": b"0.01"}], ["0.34", "0.34", "0.33"], "card"),
    ([{}, {"status": b"refunded", "method": b"cash"}], ["0.00", "0.00", "0.00"], "card"),
    ([{}, {"status": b"refunded", "amount": b"3.00"}], ["-0.67", "-0.67", "-0.66"], "card"),
    ([{"status": b"refunded"}], ["-0.34", "-0.33", "-0.33"], "none"),
    ([{"status": b"failed"}, {"status": b"pending"}], ["0.00", "0.00", "0.00"], "none"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("price", [b"5.00", b"0.01"])
@pytest.mark.parametrize(("changes", "shares", "method"), PAYMENTS_OF_ONE_ORDER)
def test_payments_of_one_order(form: Form, price: bytes, changes: list[dict[str, bytes]], shares: list[str], method: str) -> None:
    made: dict[str, list[Raw]] = {
        "orders": [ORDER],
        "order_items": [spelled(id=n, order_id=1, product_id=n, quantity=1, unit_price=price, discount=b"0.00") for n in (3, 1, 2)],
        "payments": [{**PAYMENT, **change, "id": str(number).encode()} for number, change in enumerate(changes, 1)],
    }
    outcome = facts_of(form, made)
    assert_as_the_oracle_says(outcome, made)
    found = by_natural_key(outcome)
    assert [str(found[line]["paid_amount"]) for line in (1, 2, 3)] == shares
    assert {row["payment_method"] for row in found.values()} == {method}
    assert {row["date"] for row in found.values()} == {date(2026, 3, 30)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("instant", "rule"),
    [
        (b"2014-12-31 23:59:59.999999", "date_out_of_range"),
        (b"2015-01-01 00:00:00.000000", None),
        (b"2026-11-22 12:05:00.000000", None),
        (b"2026-11-22 12:05:00.000001", "date_out_of_range"),
        (b"0000-00-00 00:00:00.000000", "bad_date"),
        (None, "missing_date"),
    ],
)
def test_dates_of_orders_at_the_edges(form: Form, instant: bytes | None, rule: str | None) -> None:
    line = spelled(id=1, order_id=1, product_id=1, quantity=1, unit_price=b"5.00", discount=b"5.00")
    made: dict[str, list[Raw]] = {"orders": [{**ORDER, "order_date": instant}], "order_items": [line], "payments": [PAYMENT]}
    outcome = facts_of(form, made)
    assert_as_the_oracle_says(outcome, made)
    assert [(row.table, row.rule) for row in outcome.rejects] == ([("orders", rule), ("order_items", "order_rejected")] if rule else [])


@pytest.mark.parametrize("form", FORMS)
@quick
@given(made=shops())
def test_generated_orders_give_the_expected_facts(form: Form, made: dict[str, list[Raw]]) -> None:
    outcome = facts_of(form, made)
    assert_as_the_oracle_says(outcome, made)
    for table, counts in outcome.counts.items():
        assert counts.read == len(made["order_items" if table == "fact_sales" else table])
        assert counts.read == counts.loaded + counts.filtered + counts.rejected


@pytest.mark.parametrize("form", FORMS)
@quick
@given(made=shops())
def test_loaded_lines_add_up_to_the_payments(form: Form, made: dict[str, list[Raw]]) -> None:
    outcome = facts_of(form, made)
    rejected = {row.row_id for row in outcome.rejects if row.table == "payments"}
    loaded: dict[int, Decimal] = {}
    for row in outcome.clean.to_pylist():
        loaded[row["order_id"]] = loaded.get(row["order_id"], Decimal(0)) + row["paid_amount"]
    for order_id, paid in loaded.items():
        theirs = [row for row in made["payments"] if int(row["order_id"] or 0) == order_id and (row["id"] or b"").decode() not in rejected]
        sums = {
            status: sum((Decimal((row["amount"] or b"").decode()) for row in theirs if row["status"] == status), Decimal(0))
            for status in (b"captured", b"refunded")
        }
        assert paid == sums[b"captured"] - sums[b"refunded"]


@quick
@given(made=shops(), spoilt=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99), dirty), min_size=1, max_size=4))
def test_invalid_values_in_sqlite_columns_reject_only_their_rows(made: dict[str, list[Raw]], spoilt: list[tuple[int, int, bytes]]) -> None:
    """Any value in any column but the id: only that row, and what goes with its order, is rejected."""
    rows = [(table, at) for table, theirs in made.items() for at in range(len(theirs))]
    for pick, column, value in spoilt:
        if rows:
            table, at = rows[pick % len(rows)]
            columns = [name for name in made[table][at] if name != "id"]
            made[table][at] = {**made[table][at], columns[column % len(columns)]: value}
    assert_as_the_oracle_says(facts_of(sqlite_batch, made), made)


# --- Dimensions ---

ids = st.integers(1, 6)
words = st.one_of(
    st.sampled_from(
        [b"active", b"disabled", b"inactive", b"SALES", b"ADMIN", b"\xd0\xff", b"a\0b", b"", "Їжак".encode(), ("Я" * 81).encode()]
    ),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace")),
)
needed_words = words | st.sampled_from([b"active", b"SALES", b"a@example.com"])
amounts = st.one_of(kopiykas.map(uah), st.sampled_from([b"0.00", b"-0.01"]))
days = st.sampled_from([b"2024-02-29", b"2020-01-01", b"0000-00-00", b"2023-02-29"])
optional_ids = st.one_of(ids, st.none())


def table_of(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Raw]]:
    """Rows with ids of their own."""
    rows = st.lists(st.fixed_dictionaries(columns), max_size=6)
    return rows.map(lambda rows: [spelled(id=number, **row) for number, row in enumerate(rows, 1)])


SHOPS_PEOPLE = st.fixed_dictionaries(
    {
        "regions": table_of(code=words, name=words),
        "categories": table_of(name=words, parent_id=optional_ids),
        "products": table_of(
            name=words,
            sku=words,
            category_id=optional_ids,
            price=amounts,
            cost=amounts | st.none(),
            status=st.sampled_from([b"active", b"inactive", b"sold", None]),
        ),
        "customers": table_of(
            first_name=needed_words, last_name=words | st.none(), email=words, region_id=optional_ids, created_at=instants | edges
        ),
        "employees": table_of(
            first_name=needed_words,
            last_name=words,
            email=words,
            region_id=optional_ids,
            is_manager=st.sampled_from([0, 1, 1, 2, None]),
            hired_at=days | st.none(),
        ),
        "auth_users": table_of(
            customer_id=optional_ids, employee_id=optional_ids, status=st.sampled_from([b"active", b"blocked", b"asleep"])
        ),
        "roles": table_of(name=st.sampled_from([b"ADMIN", b"SALES", b"CUSTOMER", b"BI_VIEWER", b"KING"])),
        "user_roles": table_of(user_id=ids, role_id=ids),
    }
)
DIMENSIONS: list[tuple[Target, Callable[[Any, oracle.Star], dict[int, Row]]]] = [
    (DIM_REGION, oracle.regions),
    (DIM_CATEGORY, oracle.categories),
    (DIM_PRODUCT, oracle.products),
    (DIM_CUSTOMER, oracle.customers),
    (DIM_EMPLOYEE, oracle.employees),
]


def narrowed_to(source: Source, made: dict[str, list[Raw]]) -> list[Raw]:
    """What the source's `where` leaves."""
    rows = made[source.table]
    if source.table == "auth_users":
        return [row for row in rows if row["customer_id" if "customer_id" in source.where else "employee_id"] is not None]
    if source.table == "user_roles":
        staff = {row["id"] for row in made["auth_users"] if row["employee_id"] is not None}
        return [row for row in rows if row["user_id"] in staff]
    return rows


@pytest.mark.parametrize("form", FORMS)
@settings(quick, max_examples=20)
@given(made=SHOPS_PEOPLE)
def test_generated_people_and_products_give_the_expected_dimensions(form: Form, made: dict[str, list[Raw]]) -> None:
    expected = oracle.Star()
    expected.dimensions["dim_category"] = oracle.categories(made, oracle.Star())
    for target, rule in DIMENSIONS:
        expected.rejects, expected.counts = [], {}
        wanted = rule(made, expected)
        batches = {source.table: form(source, narrowed_to(source, made)) for source in target.sources}
        outcome = transform(target.table, batches, ZONE, NOW.date())
        assert oracle.differences(wanted, dimension_of(outcome, target)) == []
        assert sorted((row.table, row.row_id) for row in outcome.rejects) == sorted(expected.rejects)
        assert {table: vars(counts) for table, counts in outcome.counts.items()} == {
            table: vars(counts) for table, counts in expected.counts.items()
        }


def dimension_of(outcome: Outcome, target: Target) -> dict[int, Row]:
    names = {"region_key": "region", "category_key": "category", "parent_category_key": "parent"}
    found = {}
    for row in outcome.clean.to_pylist():
        references = {
            names[ref.key]: oracle.reference(row[ref.natural], {-1: oracle.UNKNOWN, -2: oracle.NOT_APPLICABLE}[ref.empty])
            for ref in target.references
        }
        found[row[target.natural]] = (
            {name: row[name] for name in target.attributes} | references | {"is_deleted": False, "is_inferred": False}
        )
    return found


# --- The whole pipeline: random writes of the services, then an incremental run ---


def wrote(model: type[Model], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[type[Model], int, dict[str, Any]]]:
    """A row of the model, by its place, and what is written to it."""
    some = st.sampled_from(sorted(fields)).flatmap(lambda name: fields[name].map(lambda value: {name: value}))
    return st.tuples(st.just(model), st.integers(0, 10_000), some)


small_amounts = st.sampled_from(["0.01", "0.05", "1.00", "33.33", "100.00", "4321.09", "9999999999.99"]).map(Decimal)
WRITES = st.one_of(
    wrote(
        Order,
        status=st.sampled_from(["new", "paid", "shipped", "cancelled", "misplaced"]),
        order_date=st.one_of(around_midnight, st.none()),
        customer_id=st.sampled_from([1, 2, None]),
        employee_id=st.sampled_from([1, 2, None]),
        region_id=st.sampled_from([1, 2, 3]),
    ),
    wrote(
        OrderItem,
        quantity=st.sampled_from([-1, 0, 1, 2, 7]),
        unit_price=small_amounts,
        discount=small_amounts,
        product_id=st.sampled_from([5000, 5001]),
    ),
    wrote(
        Payment,
        amount=small_amounts,
        status=st.sampled_from(["captured", "refunded", "failed", "pending", "settled"]),
        method=st.sampled_from(["card", "cash", "barter"]),
        paid_at=st.one_of(around_midnight, st.none()),
    ),
    wrote(Product, category_id=st.sampled_from([1, 7, 9]), price=small_amounts, name=st.text("їЇ'\"\\\t\n,", max_size=9)),
    wrote(Category, name=st.sampled_from(["А", "Б"])),
    wrote(Customer, region_id=st.sampled_from([1, 4]), last_name=st.text("абв\\.\t\n", min_size=1, max_size=5)),
    wrote(Employee, is_manager=st.booleans(), region_id=st.sampled_from([1, 4])),
    wrote(Region, name=st.text("КЛОХД ", min_size=1, max_size=9)),
    wrote(User, status=st.sampled_from(["active", "blocked", "disabled"])),
    wrote(OrderItem, id=st.none()),  # deleted
)


def write(model: type[Model], place: int, fields: dict[str, Any]) -> None:
    """A deletion shows in its order's `updated_at`, as the shop's own services see to."""
    ids = list(model._default_manager.order_by("id").values_list("pk", flat=True))
    row = model._default_manager.filter(pk=ids[place % len(ids)])
    if fields == {"id": None}:
        order = OrderItem.objects.get(pk=ids[place % len(ids)]).order_id
        row.delete()
        Order.objects.filter(pk=order).update(total_amount=1)
    elif "name" in fields and model is Category:
        row.update(name=f"{fields['name']}{place}")
    else:
        with suppress(IntegrityError):  # a second line of one order with the same product
            row.update(**fields)


@pytest.mark.django_db(transaction=True, databases="__all__")
@settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=PHASES,
)
@given(rounds=st.lists(st.lists(WRITES, min_size=3, max_size=12), min_size=1, max_size=3))
def test_incremental_runs_apply_any_writes(rounds: list[list[tuple[type[Model], int, dict[str, Any]]]]) -> None:
    shop.clear()
    for model in (FactSales, *[model for model, _ in reversed(warehouse_rows.DIMENSIONS.values())], Load):
        model.objects.all().delete()
    shop.generate(60, 11)
    warehouse_rows.run()
    for writes in rounds:
        for each in writes:
            write(*each)
        done = warehouse_rows.run("incremental")
        expected = warehouse_rows.expected_rows()
        for table in warehouse_rows.DIMENSIONS:  # members that a fact once inferred stay, whoever refers to them now
            found = warehouse_rows.dimension(table)
            kept = {pk: row for pk, row in found.items() if row["is_inferred"]}
            assert oracle.differences(kept | expected.dimensions[table], found) == [], table
        assert oracle.differences(expected.facts, warehouse_rows.facts()) == []
        warehouse_rows.assert_balanced(done)
    assert warehouse_rows.written(warehouse_rows.run("full")) == {}
