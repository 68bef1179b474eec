"""The demo shop: exact counts, the same rows for the same seed, and consistency after changes and faults."""

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

from apps.demo import changes, faults, shop
from apps.demo.bulk import ALIASES, get_models
from apps.demo.names import transliterate
from apps.demo.orders import draw_distinct_products
from apps.demo.randomness import draw_weighted, make_rng
from apps.demo.timestamps import FIRST_DAY, kyiv_midnights
from apps.sources.auth.models import Role, User, UserRole
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, Region
from apps.sources.payments.models import Payment

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
SALE_STATUSES = ["paid", "shipped"]
KYIV = ZoneInfo("Europe/Kyiv")


@pytest.fixture
def demo_shop() -> dict[str, int]:
    return shop.generate(600, 42)


def read_all_rows() -> dict[str, list[tuple[Any, ...]]]:
    """Read all columns of all tables, without Django's conversions."""
    rows = {}
    for alias in ALIASES:
        with connections[alias].cursor() as cursor:
            for model in get_models(alias):
                cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY id")
                rows[model._meta.db_table] = cursor.fetchall()
    return rows


def assert_refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *arguments: str) -> None:
    """Assert that the command ends with the exit code and one line on stderr that contains `message`, and prints nothing on stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        call_command("generate_data", *arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (code, "")
    assert len(err.splitlines()) == 1 and message in err and len(err) < 200


def sum_net_paid() -> dict[int, Decimal]:
    """Return captured minus refunded amounts by order, summed by the database."""
    rows = Payment.objects.filter(status__in=["captured", "refunded"]).values_list("order_id", "status").annotate(sum=Sum("amount"))
    paid: dict[int, Decimal] = {}
    for order_id, status, amount in rows:
        paid[order_id] = paid.get(order_id, Decimal(0)) + (amount if status == "captured" else -amount)
    return paid


def assert_consistent() -> None:
    """Check the shop's rules through Django's models; shares no code with the generator."""
    nets: Counter[int] = Counter()
    for line in OrderItem.objects.all():
        gross = line.unit_price * line.quantity
        assert line.quantity >= 1 and 0 <= line.discount <= gross
        assert line.discount in {gross * percent / 100 for percent in (0, 5, 10)}
        nets[line.order_id] += gross - line.discount
    totals = {order.id: order for order in Order.objects.all()}
    assert set(nets) == set(totals)
    paid = sum_net_paid()
    for order in totals.values():
        assert order.total_amount == nets[order.id]
        assert paid.pop(order.id, 0) == (order.total_amount if order.status in SALE_STATUSES else 0), order
    assert not any(paid.values()), "a deleted order still has a net payment"
    assert set(OrderItem.objects.values_list("product_id", flat=True)) <= set(Product.objects.values_list("id", flat=True))
    assert not Payment.objects.exclude(amount__gt=0).exists()
    assert not Payment.objects.filter(status__in=["captured", "refunded"], paid_at=None).exists()
    assert not Payment.objects.filter(status__in=["failed", "pending"]).exclude(paid_at=None).exists()


def test_default_shop_has_exact_counts(demo_shop: dict[str, int]) -> None:
    by_model = {model._meta.db_table: model._default_manager.count() for alias in ALIASES for model in get_models(alias)}
    assert demo_shop == by_model
    fixed = {"regions": 5, "categories": 14, "products": 25, "employees": 10, "customers": 50, "orders": 600, "roles": 4}
    assert fixed.items() <= demo_shop.items()
    assert (demo_shop["auth_users"], demo_shop["auth_credentials"]) == (61, 61)
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


def test_default_shop_is_consistent(demo_shop: dict[str, int]) -> None:
    assert_consistent()
    for product in Product.objects.all():
        assert 1_299 <= product.price <= 89_999
        assert Decimal("0.69") <= product.cost / product.price <= Decimal("0.84")
    assert OrderItem.objects.exclude(quantity__in=[1, 2, 3]).count() == 0
    prices = dict(Product.objects.values_list("id", "price"))
    assert all(prices[line.product_id] == line.unit_price for line in OrderItem.objects.all())


def test_ids_start_at_one_without_gaps(demo_shop: dict[str, int]) -> None:
    for table, rows in read_all_rows().items():
        assert [row[0] for row in rows] == list(range(1, demo_shop[table] + 1)), table


def test_everybody_has_an_account_with_their_email(demo_shop: dict[str, int]) -> None:
    emails = dict(Customer.objects.values_list("id", "email"))
    staff = dict(Employee.objects.values_list("id", "email"))
    for user in User.objects.all():
        validate_email(user.email)
        assert user.email == emails.get(user.customer_id, staff.get(user.employee_id, "admin@techmarket.example"))
    assert set(User.objects.exclude(customer_id=None).values_list("customer_id", flat=True)) == set(emails)
    assert set(User.objects.exclude(employee_id=None).values_list("employee_id", flat=True)) == set(staff)
    assert set(UserRole.objects.values_list("user", flat=True)) == set(User.objects.values_list("id", flat=True))


def test_timestamps_are_in_range_and_in_order(demo_shop: dict[str, int]) -> None:
    moments = [order.order_date.astimezone(KYIV) for order in Order.objects.order_by("id")]
    assert moments == sorted(moments)
    assert (moments[0].date() - datetime(2024, 1, 1).date()).days in range(8)
    assert (datetime(2025, 12, 31).date() - moments[-1].date()).days in range(8)
    night = [moment for moment in moments if not 9 <= moment.hour < 21]
    assert 0 < len(night) < 60 and all(moment.hour in (0, 23) for moment in night)
    for alias in ALIASES:
        for model in get_models(alias):
            assert not model._default_manager.filter(updated_at__lt=F("created_at")).exists(), model
    registered = dict(Customer.objects.values_list("id", "created_at"))
    assert all(registered[order.customer_id] < order.order_date for order in Order.objects.all())
    ordered = dict(Order.objects.values_list("id", "order_date"))
    assert all(payment.paid_at >= ordered[payment.order_id] for payment in Payment.objects.filter(status="captured"))


def test_same_seed_gives_same_rows(demo_shop: dict[str, int]) -> None:
    first = read_all_rows()
    call_command("generate_data", "--replace", "--quiet")
    assert read_all_rows() == first
    call_command("generate_data", "--replace", "--quiet", "--seed", "43")
    assert read_all_rows() != first


def test_replace_restores_the_shop_after_changes_and_faults(demo_shop: dict[str, int]) -> None:
    first = read_all_rows()
    changes.apply(60, 1)
    faults.plant()
    call_command("generate_data", "--replace", "--quiet")
    assert read_all_rows() == first


def test_interrupted_generation_must_be_replaced() -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.generate(600, 42, interrupt)
    assert not shop.is_empty()
    with pytest.raises(SystemExit, match="1"):
        call_command("generate_data", "--quiet")
    call_command("generate_data", "--replace", "--quiet")
    assert Order.objects.count() == 600


def test_shop_with_rows_is_left_unchanged(demo_shop: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    before = read_all_rows()
    assert_refused(capsys, 1, "Run it with --replace")
    assert read_all_rows() == before


def test_large_shop_is_written_in_chunks() -> None:
    progress: list[int] = []
    rows = shop.generate(12_000, 7, progress.append)
    assert progress == [5_000, 5_000, 2_000]
    assert (rows["customers"], rows["products"], rows["employees"]) == (1_200, 60, 10)
    assert Counter(Order.objects.values_list("status", flat=True)) == {"new": 600, "paid": 8_400, "shipped": 2_400, "cancelled": 600}
    assert_consistent()


@pytest.mark.parametrize("count", [1, 19, 20, 599])
def test_small_shop_has_exact_number_of_orders(count: int) -> None:
    assert shop.generate(count, 1)["orders"] == count
    assert_consistent()


def test_changes_keep_consistency_and_set_updated_at(demo_shop: dict[str, int]) -> None:
    before = {table: {row[0]: row for row in rows} for table, rows in read_all_rows().items()}
    latest = {
        model._meta.db_table: model._default_manager.latest("updated_at").updated_at for alias in ALIASES for model in get_models(alias)
    }
    applied = changes.apply(120, 5)
    assert sum(applied.values()) == 120 and set(applied) == set(changes.KINDS)
    assert_consistent()
    touched = Counter[str]()
    for alias in ALIASES:
        for model in get_models(alias):
            table = model._meta.db_table
            stamps = dict(model._default_manager.values_list("id", "updated_at"))
            for row in read_all_rows()[table]:
                if before[table].get(row[0]) != row:
                    touched[table] += 1
                    assert stamps[row[0]] > latest[table], (table, row)
    assert set(touched) == {"products", "customers", "orders", "order_items", "auth_users", "auth_credentials", "user_roles", "payments"}
    assert Payment.objects.filter(status="refunded").exists()
    assert {row[0] for row in read_all_rows()["payments"]} >= set(before["payments"]), "a payment was deleted"


def test_same_seed_and_shop_give_same_changes(demo_shop: dict[str, int]) -> None:
    columns = [Order, "id", "status", "total_amount"], [Product, "id", "price"], [Payment, "order_id", "status", "method", "amount"]

    def read_state() -> list[Any]:
        return [list(model.objects.order_by("id").values_list(*fields)) for model, *fields in columns]

    first = changes.apply(80, 9), read_state()
    call_command("generate_data", "--replace", "--quiet")
    assert (changes.apply(80, 9), read_state()) == first
    call_command("generate_data", "--changes", "80", "--seed", "9")
    assert read_state() != first[1]
    assert_consistent()


def test_new_orders_follow_the_latest_valid_order(demo_shop: dict[str, int]) -> None:
    """Orders dated today would leave a gap of months in the charts of the demo."""
    faults.plant()
    latest = datetime(2025, 12, 31, tzinfo=UTC)
    number = Order.objects.latest("pk").pk
    changes.apply(40, 1)
    added = list(Order.objects.filter(pk__gt=number).order_by("pk").values_list("order_date", flat=True))
    assert added == sorted(added) and latest < added[0] and added[-1] < latest + timedelta(days=5)


def test_new_orders_are_not_in_the_future(demo_shop: dict[str, int]) -> None:
    Order.objects.update(order_date=timezone.now() - timedelta(minutes=1))
    number = Order.objects.latest("pk").pk
    changes.apply(40, 1)
    assert Order.objects.filter(pk__gt=number).latest("order_date").order_date <= timezone.now()


def test_changes_without_a_matching_order_add_orders() -> None:
    shop.generate(3, 1)
    assert sum(changes.apply(60, 1).values()) == 60
    assert_consistent()


def test_price_change_keeps_the_cost(demo_shop: dict[str, int]) -> None:
    costs, prices = (dict(Product.objects.values_list("id", field)) for field in ("cost", "price"))
    for number in range(40):
        assert changes.change_price(make_rng(number, "test"))
    assert dict(Product.objects.values_list("id", "cost")) == costs
    assert dict(Product.objects.values_list("id", "price")) != prices
    assert all(product.price % Decimal("0.20") == 0 and product.price > product.cost for product in Product.objects.all())


def read_column(fault: faults.Fault, column: str) -> Any:
    alias = next(alias for alias in ALIASES for model in get_models(alias) if model._meta.db_table == fault.table)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT CAST({column} AS CHAR) FROM {fault.table} WHERE id = {fault.row_id}")
        return cursor.fetchone()[0]


def test_each_fault_is_planted_in_an_order_of_its_own(demo_shop: dict[str, int]) -> None:
    planted = faults.plant()
    assert len(planted) == 25
    sqlite = connections["orders_db"].vendor == "sqlite"
    skipped = [fault for fault in planted if fault.row_id is None]
    assert len(skipped) == (0 if sqlite else 6)
    assert all("cannot be held by" in fault.description and not fault.rejected for fault in skipped)
    assert [fault.kind for fault in planted if fault.row_id and not fault.rejected] == ["e-mail unparsable"]
    spoiled_orders = [get_order_id(fault) for fault in planted if fault.row_id and fault.table in ("order_items", "orders", "payments")]
    assert len(spoiled_orders) == len(set(spoiled_orders)) == (20 if sqlite else 17)
    by_kind = {fault.kind: fault for fault in planted if fault.row_id}
    assert read_column(by_kind["quantity 0"], "quantity") == "0"
    assert read_column(by_kind["zero date"], "order_date").startswith("0000-00-00")
    assert read_column(by_kind["no customer"], "customer_id") is None
    assert "@" not in read_column(by_kind["e-mail unparsable"], "email")
    again = faults.plant()
    assert not {(fault.table, fault.row_id) for fault in again if fault.row_id} & {(fault.table, fault.row_id) for fault in planted}


def get_order_id(fault: faults.Fault) -> int:
    if fault.table == "orders":
        return fault.row_id or 0
    model: Any = {"order_items": OrderItem, "payments": Payment}[fault.table]
    return int(model.objects.values_list("order_id", flat=True).get(id=fault.row_id))


def test_changes_avoid_orders_with_faults(demo_shop: dict[str, int]) -> None:
    planted = faults.plant()
    spoiled = {get_order_id(fault) for fault in planted if fault.row_id and fault.table in ("order_items", "orders", "payments")}
    before = list(Order.objects.filter(id__in=spoiled).order_by("id").values_list("id", "status", "updated_at"))
    changes.apply(200, 3)
    assert list(Order.objects.filter(id__in=spoiled).order_by("id").values_list("id", "status", "updated_at")) == before


def test_faults_need_a_large_enough_shop(demo_shop: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("generate_data", "--replace", "--orders", "10", "--quiet")
    before = read_all_rows()
    assert_refused(capsys, 1, "too few consistent orders", "--faults")
    assert read_all_rows() == before


@pytest.mark.parametrize("arguments", [["--changes", "5"], ["--faults"]])
def test_empty_shop_cannot_be_changed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, 1, "shop is empty", *arguments)


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
def test_wrong_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, 2, arguments[0], *arguments)


@pytest.mark.parametrize(
    ("arguments", "env", "code", "message"),
    [
        (["--orders", "0"], {}, 2, "--orders"),
        ([], {}, 4, "Run `manage.py migrate_all`"),
        ([], {"AUTH_DB_URL": "mysql://user:topsecret@127.0.0.1:1/auth_db"}, 4, "auth_db"),
    ],
)
def test_error_is_one_line_without_password(
    run_cli: Callable[..., Any], arguments: list[str], env: dict[str, str], code: int, message: str
) -> None:
    result = run_cli("generate_data", *arguments, env=env)
    assert (result.returncode, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert "topsecret" not in result.stderr


def test_output_is_a_plain_table(capfd: pytest.CaptureFixture[str]) -> None:
    call_command("generate_data", "--orders", "5")
    out, err = capfd.readouterr()
    assert err == ""
    assert re.search(r"^orders +5$", out, re.MULTILINE) and re.search(r"^customers +50$", out, re.MULTILINE)


def test_products_of_an_order_differ_in_a_small_catalog() -> None:
    rng = make_rng(1, "test")
    picked = draw_distinct_products(rng, draw_weighted(rng, [0, 0, 0, 0, 1], 500) + 1, 5).reshape(500, 5)
    assert (picked == [0, 1, 2, 3, 4]).all()


def test_kyiv_midnights_on_days_of_clock_changes() -> None:
    before, after = kyiv_midnights()
    spring, autumn = (count_days_since_start(day) for day in (datetime(2025, 3, 30), datetime(2025, 10, 26)))
    assert (str(before[spring]), str(after[spring])) == ("2025-03-29T22:00:00.000000", "2025-03-29T21:00:00.000000")
    assert (str(before[autumn]), str(after[autumn])) == ("2025-10-25T21:00:00.000000", "2025-10-25T22:00:00.000000")


def count_days_since_start(day: datetime) -> int:
    return (day.date() - FIRST_DAY).days


@pytest.mark.parametrize(("name", "latin"), [("Лукʼян", "lukian"), ("Щербак", "shcherbak"), ("Їжакевич-Ґудзь", "izhakevychgudz")])
def test_names_are_transliterated(name: str, latin: str) -> None:
    assert transliterate(name) == latin
