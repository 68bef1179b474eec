"""KPIs of the warehouse against sums in plain Python, and the commands `kpis` and `migrate_all`."""

import re
import socket
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.demo import shop
from apps.orchestration import api
from apps.warehouse.dimensions import DimDate, DimRegion
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import Month, Totals, read_months, read_totals
from apps.warehouse.report import build_report
from techmarket.formats import format_count, format_uah
from tests.conftest import Cli

in_process = pytest.mark.django_db(transaction=True, databases="__all__")
Fact = tuple[date, str, int, Decimal, Decimal | None, Decimal]  # day, region, order, net, margin, paid


@pytest.fixture
def facts(transactional_db: None) -> Iterator[list[Fact]]:
    """Load a shop and return its facts, with dimensions looked up in Python. One line has no margin, as if its product were unknown."""
    shop.generate(200, 7)
    assert api.run("full").state == "succeeded"
    FactSales.objects.filter(pk=FactSales.objects.earliest("pk").pk).update(margin_amount=None, cost_amount=None)
    days = dict(DimDate.objects.values_list("date_key", "date"))
    regions = dict(DimRegion.objects.values_list("region_key", "code"))
    rows = FactSales.objects.values_list("date_id", "region_id", "order_id", "net_amount", "margin_amount", "paid_amount")
    yield [(days[day] or date.min, regions[region], order, net, margin, paid) for day, region, order, net, margin, paid in rows]


def sum_facts(facts: list[Fact]) -> Totals:
    return Totals(
        sum((fact[3] for fact in facts), Decimal(0)),
        sum((fact[4] or Decimal(0) for fact in facts), Decimal(0)),
        sum((fact[5] for fact in facts), Decimal(0)),
        len({fact[2] for fact in facts}),
        sum((fact[3] for fact in facts if fact[4] is None), Decimal(0)),
    )


@in_process
def test_sums_by_month(facts: list[Fact]) -> None:
    months: dict[tuple[int, int], list[Fact]] = defaultdict(list)
    for fact in facts:
        months[fact[0].year, fact[0].month].append(fact)
    assert len(months) > 3
    expected = []
    for (year, month), month_facts in sorted(months.items()):
        totals = sum_facts(month_facts)
        expected.append(Month(year, month, totals.net, totals.margin, totals.orders))
    found = read_months()
    assert [str(month) for month in found] == [str(month) for month in expected]
    assert found == expected


@in_process
def test_totals_with_and_without_filters(facts: list[Fact]) -> None:
    assert read_totals() == build_report().totals == sum_facts(facts)
    days = sorted({fact[0] for fact in facts})
    start, end = days[len(days) // 3], days[2 * len(days) // 3]
    inside = [fact for fact in facts if start <= fact[0] <= end]
    assert 0 < len(inside) < len(facts) and {start, end} <= {fact[0] for fact in inside}
    assert read_totals(start, end) == sum_facts(inside), "both days included"
    for region in {fact[1] for fact in facts}:
        assert read_totals(region=region) == sum_facts([fact for fact in facts if fact[1] == region])
        assert read_totals(start, end, region) == sum_facts([fact for fact in inside if fact[1] == region])
    assert read_totals(region="XX") == Totals(Decimal(0), Decimal(0), Decimal(0), 0)


@in_process
def test_average_order_and_margin_percent(facts: list[Fact]) -> None:
    found = read_totals()
    net, orders = sum(fact[3] for fact in facts), len({fact[2] for fact in facts})
    assert abs(found.average_order * orders - net) <= Decimal("0.005") * orders and found.average_order.as_tuple().exponent == -2
    assert abs(found.margin_percent * net / 100 - found.margin) <= Decimal("0.0005") * net


def test_ratios_without_sales_are_zero() -> None:
    no_sales = Totals(Decimal(0), Decimal(0), Decimal(0), 0)
    assert (no_sales.average_order, no_sales.margin_percent) == (Decimal("0.00"), Decimal("0.0"))


# --- manage.py kpis ---


@in_process
def test_kpis_of_an_empty_warehouse(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("kpis")
    assert capsys.readouterr().out == "The warehouse is empty. Run `manage.py run_etl --mode full`.\n"


@in_process
def test_kpis_of_a_loaded_warehouse(facts: list[Fact], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("kpis")
    out = " ".join(capsys.readouterr().out.split())
    all_totals = sum_facts(facts)
    assert (
        f"Total: net {format_uah(all_totals.net)} UAH, margin {all_totals.margin_percent} % (cost unknown for "
        f"{format_uah(all_totals.uncosted)} UAH of net), {format_count(all_totals.orders)} orders" in out
    )
    balances: dict[int, Decimal] = defaultdict(Decimal)
    for _day, _region, order, net, _margin, paid in facts:
        balances[order] += net - paid
    owing, owed = ([sign * each for each in balances.values() if sign * each > 0] for sign in (1, -1))
    assert f"Outstanding: {format_uah(sum(owing, Decimal(0)))} UAH of {format_count(len(owing))} orders;" in out
    assert f"overpaid: {format_uah(sum(owed, Decimal(0)))} UAH of {format_count(len(owed))} orders." in out
    for month in read_months():
        assert f"{month} {format_uah(month.net)} {format_uah(month.margin)} {month.orders}" in out
    call_command("kpis", "--region", "KV")
    kyiv_totals = sum_facts([fact for fact in facts if fact[1] == "KV"])
    assert f"Total: net {format_uah(kyiv_totals.net)} UAH" in " ".join(capsys.readouterr().out.split())


@in_process
def test_kpis_of_an_unknown_region(facts: list[Fact], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        call_command("kpis", "--region", "ZZ")
    assert (end.value.code, capsys.readouterr()) == (2, ("", "There is no region 'ZZ'. Choose one of DP, KH, KV, LV, OD.\n"))


def test_kpis_without_migrations(run_cli: Cli) -> None:
    result = run_cli("kpis")
    assert result.returncode == 4 and result.stderr.count("\n") == 1 and "Run `manage.py migrate_all`." in result.stderr


# --- manage.py migrate_all ---

ALIASES = ("control database", "dwh", "auth_db", "catalog_db", "orders_db", "payments_db")


def test_migrate_all_reports_each_database(run_cli: Cli, tmp_path: Path) -> None:
    first = run_cli("migrate_all")
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    for alias in ALIASES:
        assert any(re.fullmatch(rf"{alias} \(.+\.sqlite3\): [1-9]\d* migrations? applied", line) for line in lines), alias
    second = run_cli("migrate_all")
    assert len(second.stdout.splitlines()) == 6 and all(line.endswith(": nothing to do") for line in second.stdout.splitlines())
    assert run_cli("migrate_all", "-v", "0").stdout == ""
    with sqlite3.connect(tmp_path / "dwh.sqlite3") as dwh:
        tables = {name for (name,) in dwh.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    dwh.close()
    assert {"fact_sales", "dim_date", "etl_load"} <= tables and not {"orders", "orchestration_run"} & tables


def find_closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_migrate_all_waits_as_long_as_requested(run_cli: Cli) -> None:
    url = f"postgres://u:canary@127.0.0.1:{find_closed_port()}/dwh"
    seconds = {}
    for wait in ("0", "3"):
        start = time.monotonic()
        result = run_cli("migrate_all", "--wait", wait, env={"DWH_URL": url})
        seconds[wait] = time.monotonic() - start
        assert result.returncode == 4 and result.stderr.startswith("dwh (127.0.0.1:") and result.stderr.count("\n") == 1
        assert "does not answer. Start it, or correct DWH_URL." in result.stderr and "canary" not in result.stderr
    assert seconds["3"] > 3


@pytest.mark.parametrize("wait", ["-1", "1.5", "3601", "long"])
def test_migrate_all_refuses_an_invalid_wait(run_cli: Cli, wait: str) -> None:
    result = run_cli("migrate_all", "--wait", wait)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
