"""Common tools to compare with: a pandas script that loads the same tables, and dlt, which only copies the raw ones."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.harness import FOLDER, run_sql
from tests.bench.measure import Cost, Failed, measure

HERE = Path(__file__).resolve().parent
# Not in our requirements: dlt's own would conflict with them.
DLT = ("dlt[postgres]==1.31.0", "sqlalchemy<3", "pymysql", "pyarrow", "connectorx")


def run_pandas() -> Cost:
    run_sql("DWH_URL", "DROP SCHEMA IF EXISTS pandas_way CASCADE")
    run_sql("DWH_URL", "CREATE SCHEMA pandas_way")
    used = measure([str(ensure_peer_python()), str(HERE / "pandas_way.py")], os.environ, FOLDER / "pandas.log")
    run_sql("DWH_URL", "DROP SCHEMA pandas_way CASCADE")
    return used


def run_dlt(settings: str) -> Cost:
    """Copy the raw tables with dlt. `settings`: defaults or fast."""
    run_sql("DWH_URL", "DROP SCHEMA IF EXISTS dlt_way CASCADE")
    env = os.environ | {"DLT_DATA_DIR": str(FOLDER / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    used = measure([str(ensure_peer_python()), str(HERE / "dlt_way.py"), settings], env, FOLDER / "dlt.log")
    run_sql("DWH_URL", "DROP SCHEMA dlt_way CASCADE")
    return used


def ensure_peer_python() -> Path:
    """Return the Python of the peers' virtual environment, created where missing. Raises Failed if packages cannot be installed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "techmarket" / f"bench-{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = subprocess.run([python, "-m", "pip", "install", "-q", *DLT, "pandas"], capture_output=True, text=True)
        if install.returncode != 0:
            raise Failed(f"the peers' packages cannot be installed: {install.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    return python
