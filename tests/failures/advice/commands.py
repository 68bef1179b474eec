"""Causes of the texts that commands print, beside the messages of the ledger: what was asked for makes no sense yet, or not so."""

from tests.failures.advice.ledger import INCREMENTAL
from tests.failures.advice.steps import Command, Scene, run_named_command
from tests.failures.conftest import Shop


def empty(shop: Shop) -> Shop:
    """Return a new installation."""
    folder = shop.folder / "new"
    folder.mkdir()
    new = Shop(folder, {})
    assert new.run("migrate_all", "-v", "0").returncode == 0
    shop.run = new.run  # type: ignore[method-assign]
    return new


def empty_shop(shop: Shop) -> Scene:
    command = Command(("generate_data", "--changes", "5", "--quiet"))
    new = empty(shop)
    run_named_command(new, (yield command))
    yield command


def full_shop(shop: Shop) -> Scene:
    yield Command(("generate_data", "--quiet"))
    yield Command(("generate_data", "--quiet", "--replace"))


def empty_warehouse(shop: Shop) -> Scene:
    new = empty(shop)
    assert new.run("generate_data", "--quiet").returncode == 0
    run_named_command(new, (yield Command(("kpis",))))
    yield Command(("kpis",))


def no_run_to_report(shop: Shop) -> Scene:
    command = Command(("report", "--out", str(shop.folder / "page.html")))
    new = empty(shop)
    assert new.run("generate_data", "--quiet").returncode == 0
    run_named_command(new, (yield command))
    yield command


def dry_run_to_report(shop: Shop) -> Scene:
    assert shop.run(*INCREMENTAL, "--dry-run").returncode == 0
    out = ("--out", str(shop.folder / "page.html"))
    yield Command(("report", "--run", "2", *out))
    yield Command(("report", "--run", "1", *out))


def unknown_run_to_report(shop: Shop) -> Scene:
    out = ("--out", str(shop.folder / "page.html"))
    yield Command(("report", "--run", "99", *out))
    yield Command(("report", *out))


def unknown_region(shop: Shop) -> Scene:
    advice = yield Command(("kpis", "--region", "Atlantis"))
    yield Command(("kpis", "--region", advice.split("Choose one of ")[1].split(", ")[0].rstrip(".")))


def unknown_run(shop: Shop) -> Scene:
    run_named_command(shop, (yield Command((*INCREMENTAL, "--resume", "99"))))
    yield Command()


def unknown_run_to_cancel(shop: Shop) -> Scene:
    run_named_command(shop, (yield Command((*INCREMENTAL, "--cancel", "99"))))
    yield Command()


def dry_run_to_resume(shop: Shop) -> Scene:
    """One that has failed."""
    assert shop.run(*INCREMENTAL, "--dry-run", env={"ORDERS_DB_URL": "mysql://user:topsecret@127.0.0.1:1/orders"}).returncode == 4
    yield Command((*INCREMENTAL, "--resume", "2"))
    yield Command()


def unknown_reject(shop: Shop) -> Scene:
    run_named_command(shop, (yield Command(("rejects", "--accept", "99999", "--reason", "test"))))
    yield Command(("rejects",))


def forget_without_reason(shop: Shop) -> Scene:
    yield Command(("forget_customer", "7"))
    yield Command(("forget_customer", "7", "--reason", "R-12"))


def accept_without_reason(shop: Shop) -> Scene:
    assert shop.run("generate_data", "--faults", "--quiet").returncode == 0
    assert shop.run(*INCREMENTAL, env={"ETL_MAX_MONTH_PERCENT": "100", "ETL_MAX_REJECTED_PERCENT": "100"}).returncode == 0
    [(number,)] = shop.sql("default", "SELECT MIN(id) FROM orchestration_reject")
    yield Command(("rejects", "--accept", str(number)))
    yield Command(("rejects", "--accept", str(number), "--reason", "test"))


def difference(shop: Shop) -> Scene:
    assert shop.run(*INCREMENTAL).returncode == 0
    shop.sql("dwh", "UPDATE fact_sales SET quantity = quantity + 1 WHERE order_item_id = (SELECT MIN(order_item_id) FROM fact_sales)")
    advice = yield Command(("reconcile",))
    run_named_command(shop, advice)
    yield Command(("reconcile",))


def unknown_missed_run(shop: Shop) -> Scene:
    run_named_command(shop, (yield Command(("schedules", "--skip", "99"))))
    yield Command(("schedules",))


def window_given_twice(shop: Shop) -> Scene:
    yield Command((*INCREMENTAL, "--days", "7", "--start-date", "2024-01-01", "--end-date", "2024-01-02"))
    yield Command((*INCREMENTAL, "--days", "7"))


def window_without_an_end(shop: Shop) -> Scene:
    yield Command((*INCREMENTAL, "--start-date", "2024-01-01"))
    yield Command((*INCREMENTAL, "--start-date", "2024-01-01", "--end-date", "2024-01-01"))


def window_of_a_full_run(shop: Shop) -> Scene:
    yield Command((*INCREMENTAL, "--mode", "full", "--days", "7"))
    yield Command((*INCREMENTAL, "--mode", "incremental", "--days", "7"))


def no_day(shop: Shop) -> Scene:
    yield Command((*INCREMENTAL, "--start-date", "yesterday", "--end-date", "2024-01-31"))
    yield Command((*INCREMENTAL, "--start-date", "2024-01-31", "--end-date", "2024-01-31"))


def no_day_of_the_calendar(shop: Shop) -> Scene:
    yield Command((*INCREMENTAL, "--start-date", "2023-02-29", "--end-date", "2024-01-31"))
    yield Command((*INCREMENTAL, "--start-date", "2024-01-31", "--end-date", "2024-01-31"))


def report_of_two_things(shop: Shop) -> Scene:
    out = ("--out", str(shop.folder / "page.html"))
    yield Command(("report", "--run", "1", "--from", "2024-01-01", "--to", "2024-01-31", *out))
    yield Command(("report", "--run", "1", *out))


def two_things_to_generate(shop: Shop) -> Scene:
    yield Command(("generate_data", "--changes", "3", "--faults", "--quiet"))
    yield Command(("generate_data", "--changes", "3", "--quiet"))
