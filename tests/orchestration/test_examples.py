"""The scripts of docs/examples, each started as a reader would start it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PASSED_ON, ROOT

EXAMPLES = ROOT / "docs" / "examples"
SHOP = 600  # in a smaller one the changes of a day are more than the brakes allow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a small shop in its own files, which the examples share."""
    folder = tmp_path_factory.mktemp("examples")
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env = passed_on | {"VAR_DIR": str(folder), "ENV_FILE": os.devnull, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    env |= {"DJANGO_SETTINGS_MODULE": "techmarket.settings"}
    for words in (["migrate_all"], ["generate_data", "--orders", str(SHOP), "--seed", "1"]):
        subprocess.run([sys.executable, ROOT / "manage.py", *words], env=env | {"PYTHONWARNINGS": ""}, check=True, capture_output=True)
    return env


def run_example(name: str, env: dict[str, str], cwd: Path) -> str:
    result = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_five_examples_show_how_to_start_them() -> None:
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert names == ["a_week_day_by_day", "extract_and_look", "full_load", "last_seven_days", "transform_in_memory"]
    for name in names:
        assert f"docs/examples/{name}.py\n" in (EXAMPLES / f"{name}.py").read_text(), "the docstring shows how to start it"


def test_transform_in_memory(shop: dict[str, str], tmp_path: Path) -> None:
    """22:30 UTC on the first of March is the second in Kyiv. No database: its folder is empty."""
    out = run_example("transform_in_memory", shop | {"VAR_DIR": str(tmp_path)}, tmp_path)
    assert re.search(r"^ +11 2026-03-02 +2700\.00 +2700\.00 +card$", out, re.MULTILINE)
    assert out.count("rejected: ") == 1 and "rejected: order_items 12: " in out
    assert "Counts(read=3, loaded=1, filtered=1, rejected=1)" in out
    assert not list(tmp_path.glob("*.sqlite3"))


def test_extract_and_look(shop: dict[str, str], tmp_path: Path) -> None:
    out = run_example("extract_and_look", shop, tmp_path)
    assert f"orders: {SHOP} rows of id, customer_id, employee_id, region_id, order_date, status\n" in out
    prices = [float(line.split()[-1]) for line in out.splitlines()[-3:]]
    assert prices == sorted(prices, reverse=True) and min(prices) > 10_000


def test_full_load_and_last_seven_days(shop: dict[str, str], tmp_path: Path) -> None:
    out = run_example("full_load", shop, tmp_path)
    assert re.match(r"run 1: succeeded in [0-9.]+ s\n", out)
    tables = {line.split()[0]: [int(number) for number in re.findall(r"\d+", line)] for line in out.splitlines()[1:]}
    assert tables["dim_product"][:2] == [25, 27] or tables["dim_product"][:2] == [25, 25]
    assert tables["fact_sales"][1] > SHOP and tables["fact_sales"][3] == 0
    out = run_example("last_seven_days", shop, tmp_path)
    assert re.match(r"would insert 0, update \d+, delete 0 facts\nrun 3: succeeded, changes from ", out)


def test_a_week_day_by_day(shop: dict[str, str], tmp_path: Path) -> None:
    lines = run_example("a_week_day_by_day", shop, tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    assert all("15 changes  run " in line and " succeeded: inserted " in line for line in lines)
    assert sum(int(re.findall(r"(?:inserted|updated|deleted) (\d+)", line)[0]) for line in lines) > 0
