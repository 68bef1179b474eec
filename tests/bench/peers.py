"""Common tools to compare with: pandas and DuckDB, which make the star; dlt and sling, which copy tables. Installed on demand."""

import json
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.harness import FOLDER, run_sql
from tests.bench.measure import Cost, Failed, add_costs, measure

HERE = Path(__file__).resolve().parent
# Not in our requirements: dlt's own would conflict with them, and only the benchmark needs the others.
DLT = ("dlt[postgres]==1.31.0", "sqlalchemy<3", "pymysql", "pyarrow", "connectorx", "pandas")
DUCKDB = ("duckdb==1.5.5", "duckdb-extension-mysql-scanner==1.5.5", "duckdb-extension-postgres-scanner==1.5.5")
# The last releases that bring the binary in a package; later ones of `sling` download it from elsewhere when they are first used.
SLING = {
    ("Linux", "x86_64"): "sling-linux-amd64==1.4.11",
    ("Linux", "aarch64"): "sling-linux-arm64==1.4.11",
    ("Darwin", "x86_64"): "sling-mac-amd64==1.4.10.post2",
    ("Darwin", "arm64"): "sling-mac-arm64==1.4.10.post2",
}
COPIED = {"ORDERS_DB_URL": ("orders", "order_items"), "PAYMENTS_DB_URL": ("payments",)}
STAR = ("dim_date", "dim_region", "dim_category", "dim_product", "dim_customer", "dim_employee", "fact_sales")
# Two facts with the same digest have the same rows; a row is identified by natural keys, since each way numbers members for itself.
DIGEST = """
SELECT count(*), sum(hashtextextended(row(
    order_item_id, order_id, order_status, payment_method, date_key, product_id, category_id, customer_id, employee_id, f.employee_key < -1,
    region_id, quantity, gross_amount, discount_amount, net_amount, unit_cost, cost_amount, margin_amount, paid_amount, paid_at, ordered_at
)::text, 0)) FROM {schema}.fact_sales AS f
JOIN {schema}.dim_product USING (product_key) JOIN {schema}.dim_category AS c ON c.category_key = f.category_key
JOIN {schema}.dim_customer USING (customer_key) JOIN {schema}.dim_employee USING (employee_key)
JOIN {schema}.dim_region AS r ON r.region_key = f.region_key
"""


def run_pandas() -> Cost:
    with temporary_schema("pandas_way"):
        return measure([str(install("dlt", *DLT)), str(HERE / "pandas_way.py")], os.environ, FOLDER / "pandas.log")


def run_dlt(settings: str) -> Cost:
    """Copy the raw tables with dlt. `settings`: defaults or fast."""
    env = os.environ | {"DLT_DATA_DIR": str(FOLDER / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    with temporary_schema("dlt_way"):
        return measure([str(install("dlt", *DLT)), str(HERE / "dlt_way.py"), settings], env, FOLDER / "dlt.log")


def run_duckdb() -> Cost:
    """Make the star with DuckDB. Raises Failed where its fact is another than ours."""
    python = install("duckdb", *DUCKDB)
    with temporary_schema("duckdb_way"):
        for table in STAR:
            run_sql("DWH_URL", f"CREATE TABLE duckdb_way.{table} (LIKE public.{table})")
        used = measure([str(python), str(HERE / "duckdb_way.py")], os.environ, FOLDER / "duckdb.log")
        theirs, ours = (run_sql("DWH_URL", DIGEST.format(schema=schema)) for schema in ("duckdb_way", "public"))
    if theirs != ours:
        raise Failed(f"the values of its {theirs[0][0]} facts are not those of our {ours[0][0]}")
    return used


def run_sling() -> Cost:
    """Copy the raw tables with sling, one command for each source."""
    binary = find_sling()
    warehouse = os.environ["DWH_URL"]
    env = os.environ | {
        "SLING_HOME_DIR": str(FOLDER / "sling"),
        "SLING_DISABLE_TELEMETRY": "TRUE",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing listens there: it can ask nobody for news or anything else
        "NO_COLOR": "1",
        "BENCH_WAREHOUSE": warehouse if urlsplit(warehouse).query else f"{warehouse}?sslmode=disable",
    }
    with temporary_schema("sling_way"):
        return add_costs([measure([binary, "run", "-r", write_replication(each)], env, FOLDER / "sling.log") for each in COPIED])


def write_replication(variable: str) -> str:
    """Write what to copy from this source, and return the file's path. sling takes a connection from a variable of its name."""
    streams = {f"{urlsplit(os.environ[variable]).path.strip('/')}.{table}": {} for table in COPIED[variable]}
    defaults = {"mode": "full-refresh", "object": "sling_way.{stream_table}"}
    path = FOLDER / f"sling-{variable}.json"
    path.write_text(json.dumps({"source": variable, "target": "BENCH_WAREHOUSE", "defaults": defaults, "streams": streams}))
    return str(path)


def find_sling() -> str:
    """Return the path of sling's binary. Raises Failed where PyPI has none for this machine, or it cannot be installed."""
    machine = (platform.system(), platform.machine())
    if machine not in SLING:
        raise Failed(f"PyPI has no binary of sling for {' '.join(machine)}")
    package = SLING[machine]
    python = install("sling", package)
    module = package.split("==")[0].replace("-", "_")
    found = subprocess.run([python, "-c", f"import {module}; print({module}.SLING_BIN)"], capture_output=True, text=True).stdout.strip()
    if not found or not Path(found).is_file():
        raise Failed(f"{package} brought no binary for this machine")
    Path(found).chmod(0o755)
    return found


@dataclass(frozen=True)
class Peer:
    """A way to compare with: what it makes of the same sources, and what a first load of ours does besides."""

    name: str
    run: Callable[[], Cost]
    makes: str
    lacks: str


NO_LEDGER = "rejects, checks, a ledger, fingerprints, publishing in one transaction"
COPY = "a copy of 3 of the 11 tables that we read"
PEERS = (
    Peer(
        "pandas",
        run_pandas,
        "the dimensions and the fact",
        f"surrogate, primary and foreign keys; indexes; payments shared out to lines; exact money; {NO_LEDGER}",
    ),
    Peer("dlt defaults", partial(run_dlt, "defaults"), COPY, f"the star; keys; {NO_LEDGER}"),
    Peer("dlt fast", partial(run_dlt, "fast"), COPY, f"the star; keys; {NO_LEDGER}"),
    Peer("sling", run_sling, f"{COPY}; by release 1.4, since later ones are not on PyPI as a whole", f"the star; keys; {NO_LEDGER}"),
    Peer(
        "DuckDB",
        run_duckdb,
        "the star with its keys and indexes; its facts have been found the same as ours",
        f"holidays; keys that stay the same in the next load; {NO_LEDGER}",
    ),
)


# --- Their packages and their tables ---


def install(name: str, *packages: str) -> Path:
    """Return the Python of a peer's virtual environment, created where missing or older. Raises Failed if packages cannot be installed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "techmarket" / f"bench-{name}-{sys.version_info.minor}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists() or complete.read_text() != "\n".join(packages):
        venv.create(folder, with_pip=True, clear=True)
        options = ("-q", "--disable-pip-version-check", "--only-binary", ":all:")
        result = subprocess.run([python, "-m", "pip", "install", *options, *packages], capture_output=True, text=True)
        if result.returncode != 0:
            raise Failed(f"its packages cannot be installed: {last_error(result.stderr)}")
        complete.write_text("\n".join(packages))
    return python


def last_error(output: str) -> str:
    """Return the last line that pip calls an error, else its last line."""
    lines = output.strip().splitlines() or ["no reason was given"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])


@contextmanager
def temporary_schema(name: str) -> Iterator[None]:
    run_sql("DWH_URL", f"DROP SCHEMA IF EXISTS {name} CASCADE")
    run_sql("DWH_URL", f"CREATE SCHEMA {name}")
    try:
        yield
    finally:
        run_sql("DWH_URL", f"DROP SCHEMA {name} CASCADE")
