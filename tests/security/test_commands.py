"""What commands do to databases is in the audit log, too, and the log survives a backup and its restore."""

import signal

from apps.audit.actor import os_user
from tests.backups.conftest import make_backup, wipe
from tests.bi.metabase import FakeMetabase, serve
from tests.failures.conftest import SLOW, Shop, wait_for_exit


def list_deeds(shop: Shop) -> list[str]:
    """Return the deeds of the log, the newest last; commands have only one actor."""
    rows = shop.sql("default", "SELECT deed, actor FROM audit_entry ORDER BY number")
    assert {actor for _deed, actor in rows} == {os_user()}
    return [str(deed) for deed, _actor in rows]


def test_migrations_runs_and_demo_data_are_recorded(shop: Shop) -> None:
    deeds = list_deeds(shop)
    assert deeds.index("databases_migrated") < deeds.index("demo_generated") < deeds.index("run_started")


def test_log_survives_a_backup_and_its_restore(shop: Shop) -> None:
    folder, before = make_backup(shop), list_deeds(shop)
    assert before[-1] == "backup_made"
    wipe(shop)
    assert shop.run("restore", folder.name).returncode == 0
    assert list_deeds(shop) == [*before[:-1], "backup_restored"], "the backup was recorded after it was made"
    verified = shop.run("audit", "--verify")
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stdout


def test_cancellation_by_a_signal_is_recorded(shop: Shop) -> None:
    process = shop.start("run_etl", "--mode", "full", "--reread", env=SLOW)
    shop.wait_until(shop.stage_running("extract"), process)
    process.send_signal(signal.SIGINT)
    wait_for_exit(process)
    assert list_deeds(shop)[-1] == "run_cancelled"


def test_set_up_of_metabase_is_recorded(shop: Shop) -> None:
    with serve(FakeMetabase()) as url:
        settings = {"METABASE_URL": url, "METABASE_USER": "bi@techmarket.example", "METABASE_PASS": "canary-7"}
        result = shop.run("seed_metabase", env=settings | {"DWH_BI_URL": "postgres://bi_reader:bi's@dwh-db:5432/dwh"})
    assert result.returncode == 0 and list_deeds(shop)[-1] == "metabase_seeded", result.stderr
