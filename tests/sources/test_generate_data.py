"""The demo shop: exact, repeatable, and consistent whatever happens to it."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.core.validators import validate_email
from django.db import connections
from django.db.models import F, Sum
from django.utils import timezone

from apps.demo import changes, faults, instants, names, orders, shop
from apps.demo.draw import stream
from apps.demo.write import ALIASES, models
from apps.sources.auth.models import Role, User, UserRole
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, Region
from apps.sources.payments.models import Payment

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
SALES = ["paid", "shipped"]
KYIV = ZoneInfo("Europe/Kyiv")


@pytest.fixture
def demo() -> dict[str, int]:
    return shop.generate(600, 42)


def every_row() -> dict[str, list[tuple[Any, ...]]]:
    """All columns of all tables as the databases hold them."""
    rows = {}
    for alias in ALIASES:
        with connections[alias].cursor() as cursor:
            for model in models(alias):
                cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY id")
                rows[model._meta.db_table] = cursor.fetchall()
    return rows


def refused(capsys: pytest.CaptureFixture[str], code: int, says: str, *arguments: str) -> None:
    """In one line on stderr, with nothing on stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        call_command("generate_data", *arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (code, "")
    assert len(err.splitlines()) == 1 and says in err and len(err) < 200


def paid_amounts() -> dict[int, Decimal]:
    """Captured minus refunded by order, by the database's own sum."""
    rows = Payment.objects.filter(status__in=["captured", "refunded"]).values_list("order_id", "status").annotate(sum=Sum("amount"))
    paid: dict[int, Decimal] = {}
    for order_id, status, amount in rows:
        paid[order_id] = paid.get(order_id, Decimal(0)) + (amount if status == "captured" else -amount)
    return paid


def assert_consistent() -> None:
    """A second reading of the rules, through Django's models: nothing here is shared with the generator."""
    nets: Counter[int] = Counter()
    for line in OrderItem.objects.all():
        gross = line.unit_price * line.quantity
        assert line.quantity >= 1 and 0 <= line.discount <= gross
        assert line.discount in {gross * percent / 100 for percent in (0, 5, 10)}
        nets[line.order_id] += gross - line.discount
    totals = {order.id: order for order in Order.objects.all()}
    assert set(nets) == set(totals)
    paid = paid_amounts()
    for order in totals.values():
        assert order.total_amount == nets[order.id]
        assert paid.pop(order.id, 0) == (order.total_amount if order.status in SALES else 0), order
    assert not any(paid.values()), "money was kept for an order that is gone"
    assert set(OrderItem.objects.values_list("product_id", flat=True)) <= set(Product.objects.values_list("id", flat=True))
    assert not Payment.objects.exclude(amount__gt=0).exists()
    assert not Payment.objects.filter(status__in=["captured", "refunded"], paid_at=None).exists()
    assert not Payment.objects.filter(status__in=["failed", "pending"]).exclude(paid_at=None).exists()


def test_the_default_shop_has_exactly_these_counts(demo: dict[str, int]) -> None:
    by_model = {model._meta.db_table: model._default_manager.count() for alias in ALIASES for model in models(alias)}
    assert demo == by_model
    fixed = {"regions": 5, "categories": 14, "products": 25, "employees": 10, "customers": 50, "orders": 600, "roles": 4}
    assert fixed.items() <= demo.items()
    assert (demo["auth_users"], demo["auth_credentials"]) == (61, 61)
    assert Counter(Order.objects.values_list("status", flat=True)) == {"new": 30, "paid": 420, "shipped": 120, "cancelled": 30}
    assert Payment.objects.filter(status="captured").values("order_id").distinct().count() == 540
    assert Payment.objects.filter(status="captured").count() > 540
    assert Payment.objects.filter(status="failed").count() > 10
    lines = Counter(Counter(OrderItem.objects.values_list("order_id", flat=True)).values())
    assert sorted(lines) == [1, 2, 3, 4, 5] and 2.2 < sum(size * count for size, count in lines.items()) / 600 < 2.8
    assert Category.objects.filter(parent=None).count() == 6
    assert Employee.objects.filter(is_manager=True).count() == 5
    assert list(Region.objects.order_by("id").values_list("id", "code")) == [(1, "KV"), (2, "LV"), (3, "OD"), (4, "KH"), (5, "DP")]
    assert set(Role.objects.values_list("name", flat=True)) == {"ADMIN", "SALES", "CUSTOMER", "BI_VIEWER"}


def test_the_default_shop_is_consistent(demo: dict[str, int]) -> None:
    assert_consistent()
    for product in Product.objects.all():
        assert 1_299 <= product.price <= 89_999
        assert Decimal("0.69") <= product.cost / product.price <= Decimal("0.84")
    assert OrderItem.objects.exclude(quantity__in=[1, 2, 3]).count() == 0
    prices = dict(Product.objects.values_list("id", "price"))
    assert all(prices[line.product_id] == line.unit_price for line in OrderItem.objects.all())


def test_ids_begin_at_one_without_gaps(demo: dict[str, int]) -> None:
    for table, rows in every_row().items():
        assert [row[0] for row in rows] == list(range(1, demo[table] + 1)), table


def test_everybody_has_an_account_with_their_own_address(demo: dict[str, int]) -> None:
    emails = dict(Customer.objects.values_list("id", "email"))
    staff = dict(Employee.objects.values_list("id", "email"))
    for user in User.objects.all():
        validate_email(user.email)
        assert user.email == emails.get(user.customer_id, staff.get(user.employee_id, "admin@techmarket.example"))
    assert set(User.objects.exclude(customer_id=None).values_list("customer_id", flat=True)) == set(emails)
    assert set(User.objects.exclude(employee_id=None).values_list("employee_id", flat=True)) == set(staff)
    assert set(UserRole.objects.values_list("user", flat=True)) == set(User.objects.values_list("id", flat=True))


def test_orders_are_within_two_years_of_the_shop_and_rows_never_change_before_they_exist(demo: dict[str, int]) -> None:
    moments = [order.order_date.astimezone(KYIV) for order in Order.objects.order_by("id")]
    assert moments == sorted(moments)
    assert (moments[0].date() - datetime(2024, 1, 1).date()).days in range(8)
    assert (datetime(2025, 12, 31).date() - moments[-1].date()).days in range(8)
    night = [moment for moment in moments if not 9 <= moment.hour < 21]
    assert 0 < len(night) < 60 and all(moment.hour in (0, 23) for moment in night)
    for alias in ALIASES:
        for model in models(alias):
            assert not model._default_manager.filter(updated_at__lt=F("created_at")).exists(), model
    registered = dict(Customer.objects.values_list("id", "created_at"))
    assert all(registered[order.customer_id] < order.order_date for order in Order.objects.all())
    ordered = dict(Order.objects.values_list("id", "order_date"))
    assert all(payment.paid_at >= ordered[payment.order_id] for payment in Payment.objects.filter(status="captured"))


def test_the_same_seed_gives_the_same_rows_again_after_replace(demo: dict[str, int]) -> None:
    first = every_row()
    call_command("generate_data", "--replace", "--quiet")
    assert every_row() == first
    call_command("generate_data", "--replace", "--quiet", "--seed", "43")
    assert every_row() != first


def test_replace_makes_the_same_shop_from_one_that_was_changed_and_spoilt(demo: dict[str, int]) -> None:
    first = every_row()
    changes.apply(60, 1)
    faults.plant()
    call_command("generate_data", "--replace", "--quiet")
    assert every_row() == first


def test_what_is_left_of_an_interrupted_generation_is_refused_and_then_replaced() -> None:
    def interrupt(written: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.generate(600, 42, interrupt)
    assert not shop.is_empty()
    with pytest.raises(SystemExit, match="1"):
        call_command("generate_data", "--quiet")
    call_command("generate_data", "--replace", "--quiet")
    assert Order.objects.count() == 600


def test_a_shop_with_rows_is_left_alone(demo: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    before = every_row()
    refused(capsys, 1, "--replace empties it")
    assert every_row() == before


def test_a_larger_shop_is_written_in_chunks_that_fit_together() -> None:
    heard: list[int] = []
    written = shop.generate(12_000, 7, heard.append)
    assert heard == [5_000, 5_000, 2_000]
    assert (written["customers"], written["products"], written["employees"]) == (1_200, 60, 10)
    assert Counter(Order.objects.values_list("status", flat=True)) == {"new": 600, "paid": 8_400, "shipped": 2_400, "cancelled": 600}
    assert_consistent()


@pytest.mark.parametrize("count", [1, 19, 20, 599])
def test_a_small_shop_has_as_many_orders_as_asked(count: int) -> None:
    assert shop.generate(count, 1)["orders"] == count
    assert_consistent()


def test_changes_keep_the_shop_consistent_and_are_stamped_by_the_databases(demo: dict[str, int]) -> None:
    before = {table: {row[0]: row for row in rows} for table, rows in every_row().items()}
    latest = {model._meta.db_table: model._default_manager.latest("updated_at").updated_at for alias in ALIASES for model in models(alias)}
    done = changes.apply(120, 5)
    assert sum(done.values()) == 120 and set(done) == set(changes.KINDS)
    assert_consistent()
    touched = Counter[str]()
    for alias in ALIASES:
        for model in models(alias):
            table = model._meta.db_table
            stamps = dict(model._default_manager.values_list("id", "updated_at"))
            for row in every_row()[table]:
                if before[table].get(row[0]) != row:
                    touched[table] += 1
                    assert stamps[row[0]] > latest[table], (table, row)
    assert set(touched) == {"products", "customers", "orders", "order_items", "auth_users", "auth_credentials", "user_roles", "payments"}
    assert Payment.objects.filter(status="refunded").exists()
    assert {row[0] for row in every_row()["payments"]} >= set(before["payments"]), "payments stay as evidence"


def test_the_same_changes_follow_from_the_same_seed_and_shop(demo: dict[str, int]) -> None:
    columns = [Order, "id", "status", "total_amount"], [Product, "id", "price"], [Payment, "order_id", "status", "method", "amount"]

    def state() -> list[Any]:
        return [list(model.objects.order_by("id").values_list(*fields)) for model, *fields in columns]

    first = changes.apply(80, 9), state()
    call_command("generate_data", "--replace", "--quiet")
    assert (changes.apply(80, 9), state()) == first
    call_command("generate_data", "--changes", "80", "--seed", "9")
    assert state() != first[1]
    assert_consistent()


def test_new_orders_go_on_where_the_shop_stopped(demo: dict[str, int]) -> None:
    """Whatever dates are spoilt: orders of today would leave a hole of months in each picture of the demo."""
    faults.plant()
    latest = datetime(2025, 12, 31, tzinfo=UTC)
    number = Order.objects.latest("pk").pk
    changes.apply(40, 1)
    added = list(Order.objects.filter(pk__gt=number).order_by("pk").values_list("order_date", flat=True))
    assert added == sorted(added) and latest < added[0] and added[-1] < latest + timedelta(days=5)


def test_no_order_is_of_the_future(demo: dict[str, int]) -> None:
    Order.objects.update(order_date=timezone.now() - timedelta(minutes=1))
    number = Order.objects.latest("pk").pk
    changes.apply(40, 1)
    assert Order.objects.filter(pk__gt=number).latest("order_date").order_date <= timezone.now()


def test_changes_beyond_what_the_shop_has_become_new_orders() -> None:
    shop.generate(3, 1)
    assert sum(changes.apply(60, 1).values()) == 60
    assert_consistent()


def test_a_price_change_leaves_the_cost_alone(demo: dict[str, int]) -> None:
    costs, prices = (dict(Product.objects.values_list("id", field)) for field in ("cost", "price"))
    for number in range(40):
        assert changes.price_changed(stream(number, "test"))
    assert dict(Product.objects.values_list("id", "cost")) == costs
    assert dict(Product.objects.values_list("id", "price")) != prices
    assert all(product.price % Decimal("0.20") == 0 and product.price > product.cost for product in Product.objects.all())


def field_of(fault: faults.Fault, column: str) -> Any:
    alias = next(alias for alias in ALIASES for model in models(alias) if model._meta.db_table == fault.table)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT CAST({column} AS CHAR) FROM {fault.table} WHERE id = {fault.row_id}")
        return cursor.fetchone()[0]


def test_every_kind_of_fault_is_planted_in_an_order_of_its_own(demo: dict[str, int]) -> None:
    planted = faults.plant()
    assert len(planted) == 25
    sqlite = connections["orders_db"].vendor == "sqlite"
    absent = [fault for fault in planted if fault.row_id is None]
    assert len(absent) == (0 if sqlite else 6)
    assert all("cannot be held by" in fault.what and not fault.rejected for fault in absent)
    assert [fault.kind for fault in planted if fault.row_id and not fault.rejected] == ["e-mail unparsable"]
    hit = [order_of(fault) for fault in planted if fault.row_id and fault.table in ("order_items", "orders", "payments")]
    assert len(hit) == len(set(hit)) == (20 if sqlite else 17)
    held = {fault.kind: fault for fault in planted if fault.row_id}
    assert field_of(held["quantity 0"], "quantity") == "0"
    assert field_of(held["zero date"], "order_date").startswith("0000-00-00")
    assert field_of(held["no customer"], "customer_id") is None
    assert "@" not in field_of(held["e-mail unparsable"], "email")
    again = faults.plant()
    assert not {(fault.table, fault.row_id) for fault in again if fault.row_id} & {(fault.table, fault.row_id) for fault in planted}


def order_of(fault: faults.Fault) -> int:
    if fault.table == "orders":
        return fault.row_id or 0
    model: Any = {"order_items": OrderItem, "payments": Payment}[fault.table]
    return int(model.objects.values_list("order_id", flat=True).get(id=fault.row_id))


def test_changes_step_around_faults(demo: dict[str, int]) -> None:
    planted = faults.plant()
    spoilt = {order_of(fault) for fault in planted if fault.row_id and fault.table in ("order_items", "orders", "payments")}
    before = list(Order.objects.filter(id__in=spoilt).order_by("id").values_list("id", "status", "updated_at"))
    changes.apply(200, 3)
    assert list(Order.objects.filter(id__in=spoilt).order_by("id").values_list("id", "status", "updated_at")) == before


def test_faults_need_a_shop_large_enough(demo: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("generate_data", "--replace", "--orders", "10", "--quiet")
    before = every_row()
    refused(capsys, 1, "too few sound orders", "--faults")
    assert every_row() == before


@pytest.mark.parametrize("arguments", [["--changes", "5"], ["--faults"]])
def test_an_empty_shop_has_nothing_to_change(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 1, "shop is empty", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--orders", value] for value in ("0", "x", "", "-5", "７", "1_000", "+5", " 5", "1.0", "1e3", "20000001", "9" * 5000)),
        *(["--changes", value] for value in ("0", "-1", "x")),
        ["--seed", "-1"],
        ["--changes", "1", "--faults"],
        ["--changes", "1", "--orders", "5"],
        ["--faults", "--replace"],
    ],
)
def test_wrong_usage_is_refused_before_anything_is_touched(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 2, arguments[0], *arguments)


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["--orders", "0"], {}, 2, "--orders"),
        ([], {}, 4, "Run `manage.py migrate_all`"),
        ([], {"AUTH_DB_URL": "mysql://user:topsecret@127.0.0.1:1/auth_db"}, 4, "auth_db"),
    ],
)
def test_a_refusal_is_one_line_without_traceback_or_password(
    run_cli: Callable[..., Any], arguments: list[str], env: dict[str, str], code: int, says: str
) -> None:
    ended = run_cli("generate_data", *arguments, env=env)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert len(ended.stderr.splitlines()) == 1 and says in ended.stderr
    assert "topsecret" not in ended.stderr


def test_the_summary_is_a_plain_table_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    call_command("generate_data", "--orders", "5")
    out, err = capfd.readouterr()
    assert err == ""
    assert re.search(r"^orders +5$", out, re.MULTILINE) and re.search(r"^customers +50$", out, re.MULTILINE)


def test_products_of_one_order_differ_however_few_there_are() -> None:
    rng = stream(1, "test")
    picked = orders.different_products(rng, orders.weighted(rng, [0, 0, 0, 0, 1], 500) + 1, 5).reshape(500, 5)
    assert (picked == [0, 1, 2, 3, 4]).all()


def test_kyiv_midnights_know_both_clock_changes() -> None:
    before, after = instants.midnights()
    spring, autumn = (days_since_start(day) for day in (datetime(2025, 3, 30), datetime(2025, 10, 26)))
    assert (str(before[spring]), str(after[spring])) == ("2025-03-29T22:00:00.000000", "2025-03-29T21:00:00.000000")
    assert (str(before[autumn]), str(after[autumn])) == ("2025-10-25T21:00:00.000000", "2025-10-25T22:00:00.000000")


def days_since_start(day: datetime) -> int:
    return (day.date() - instants.FIRST_DAY).days


@pytest.mark.parametrize(("name", "spelled"), [("Лукʼян", "lukian"), ("Щербак", "shcherbak"), ("Їжакевич-Ґудзь", "izhakevychgudz")])
def test_names_are_spelled_in_latin(name: str, spelled: str) -> None:
    assert names.latin(name) == spelled
