"""What people use today: a pandas script for the same star, and dlt's copy of the raw tables, which makes no star at all."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.harness import FOLDER, ask
from tests.bench.measure import Cost, Failed, cost

HERE = Path(__file__).resolve().parent
# dlt has requirements of its own, and stays out of ours.
DLT = ("dlt[postgres]==1.31.0", "sqlalchemy<3", "pymysql", "pyarrow", "connectorx")


def pandas_way() -> Cost:
    ask("DWH_URL", "DROP SCHEMA IF EXISTS pandas_way CASCADE")
    ask("DWH_URL", "CREATE SCHEMA pandas_way")
    used = cost([str(peer_python()), str(HERE / "pandas_way.py")], os.environ, FOLDER / "pandas.log")
    ask("DWH_URL", "DROP SCHEMA pandas_way CASCADE")
    return used


def dlt_way(settings: str) -> Cost:
    """`settings`: defaults or fast."""
    ask("DWH_URL", "DROP SCHEMA IF EXISTS dlt_way CASCADE")
    env = os.environ | {"DLT_DATA_DIR": str(FOLDER / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    used = cost([str(peer_python()), str(HERE / "dlt_way.py"), settings], env, FOLDER / "dlt.log")
    ask("DWH_URL", "DROP SCHEMA dlt_way CASCADE")
    return used


def peer_python() -> Path:
    """Of the peers' own virtual environment, made where it is missing. Raises Failed where the packages cannot be had."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "techmarket" / f"bench-{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = subprocess.run([python, "-m", "pip", "install", "-q", *DLT, "pandas"], capture_output=True, text=True)
        if install.returncode != 0:
            raise Failed(f"the peers' packages cannot be had: {install.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    return python
