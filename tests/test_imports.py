"""The web process and beat import none of the libraries with which workers transform data: they are slow to import and take 85 MB."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import PASSED_ON, ROOT, Cli

WEB = """
from importlib import import_module
from pkgutil import walk_packages

import techmarket.wsgi
from django.urls import get_resolver

get_resolver().url_patterns
for room in ("apps.console", "apps.monitoring"):
    for module in walk_packages(import_module(room).__path__, f"{room}."):
        if ".management" not in module.name:
            import_module(module.name)
"""
# What `celery -A techmarket beat` imports; it carries out no task.
BEAT = """
import techmarket.celery
import django

django.setup()
techmarket.celery.app.loader.import_default_modules()
import apps.orchestration.worker.beat
"""
# A traceback shows who imports the library.
GUARD = """
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "pandas", "pyarrow"):
            raise RuntimeError(f"{name} is imported")

sys.meta_path.insert(0, Guard())
"""


def run_python(code: str, folder: Path, more: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"ENV_FILE": os.devnull, "VAR_DIR": str(folder)}
    env |= more or {}
    return subprocess.run([sys.executable, "-c", GUARD + code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("program", [WEB, BEAT], ids=["web", "beat"])
def test_program_imports_no_data_library(program: str, tmp_path: Path) -> None:
    result = run_python(program, tmp_path)
    assert result.returncode == 0, result.stderr


def test_guard_sees_an_import(tmp_path: Path) -> None:
    result = run_python("import techmarket.wsgi, apps.etl.transform.sales", tmp_path)
    assert result.returncode == 1 and "is imported" in result.stderr


# What a run without a change does without: the libraries of the data, and rich, which only shows.
UNCHANGED_RUN = """
import runpy

sys.argv = ["manage.py", "run_etl", "--json"]
runpy.run_path("manage.py", run_name="__main__")
print(sorted({"numpy", "pandas", "pyarrow", "rich", "holidays"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("dry_run", [False, True], ids=["published", "dry run"])
def test_run_without_a_change_imports_no_data_library(tmp_path: Path, run_cli: Cli, dry_run: bool) -> None:
    run_cli("migrate_all", "-v", "0")
    run_cli("generate_data", "--quiet", "--orders", "20")
    # The overlap would read again what was changed in the last ten minutes, which is everything.
    env = {"ETL_OVERLAP_MINUTES": "0", "ETL_SWEEP_SECONDS": "0"}
    assert json.loads(run_cli("run_etl", "--mode", "full", "--json").stdout)["tables"]["fact_sales"]["inserted"]
    more = '; sys.argv.append("--dry-run")' if dry_run else ""
    result = run_python(UNCHANGED_RUN.replace('"--json"]', f'"--json"]{more}'), tmp_path, env)
    assert result.returncode == 0 and result.stderr == "[]\n", result.stderr
    document = json.loads(result.stdout)
    assert (document["status"], document["dry_run"]) == ("succeeded", dry_run)
    assert document["orders"]["found"] == {"window": 0, "sweep": 0, "due": 0, "repair": 0, "star": 0}
