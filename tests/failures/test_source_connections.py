"""ETL_SOURCE_CONNECTIONS, over several processes."""

import time
from contextlib import closing

import pytest

from tests.failures.conftest import SLOW, Shop, needs_servers

pytestmark = [needs_servers, pytest.mark.process]

# Sessions with a snapshot of the orders, as the server counts them: anew only where nobody has asked for 0.1 s.
SNAPSHOTS = """
SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist AS p ON p.id = trx_mysql_thread_id WHERE p.db = %s
"""


def test_three_processes_share_one_connection_to_a_source(shop: Shop) -> None:
    env = SLOW | {"ETL_PROCESSES": "3", "ETL_SOURCE_CONNECTIONS": "1"}
    process = shop.start("run_etl", "--mode", "full", "--reread", "--quiet", env=env)
    most = 0
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        while process.poll() is None:
            cursor.execute(SNAPSHOTS, [shop.name("orders_db")])
            most = max(most, cursor.fetchone()[0])
            time.sleep(0.11)
    _out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    workers = shop.sql("default", "SELECT DISTINCT worker FROM orchestration_task WHERE stage = 'extract' AND run_id = 2")
    assert (most, len(workers)) == (1, 3)
    assert shop.run("reconcile", "--quiet", env=env).returncode == 0
