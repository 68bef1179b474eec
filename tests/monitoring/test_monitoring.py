"""The alerts and the dashboard use only metrics that /metrics serves, and docs/MONITORING.md explains all of both."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from apps.orchestration.models import Run
from tests.conftest import ROOT, require_program
from tests.console.conftest import empty_cache, loaded_run  # noqa: F401  fixtures
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

DEPLOY, GUIDE = ROOT / "deploy", ROOT / "docs" / "MONITORING.md"
METRIC = re.compile(r"\btechmarket_\w+")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana" / "dashboards" / "techmarket.json").read_text()))


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_every_metric_in_use_is_served_and_documented(loaded_run: Run) -> None:  # noqa: F811
    served = {family.name for family in text_string_to_metric_families(Client().get("/metrics").content.decode())}
    in_alerts = {name for rule in alerts() for name in METRIC.findall(rule["expr"])}
    in_panels = {name for panel in dashboard()["panels"] for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    assert len(in_alerts) > 8 and len(in_panels) > 12
    assert in_alerts | in_panels <= served
    assert set(re.findall(r"`(techmarket_\w+)", GUIDE.read_text())) == served


def test_every_alert_is_documented() -> None:
    documented = re.findall(r"^\| `([A-Z]\w+)` \|", GUIDE.read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in alerts()] == documented
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["annotations"]["summary"]


def test_panels_do_not_overlap_and_have_a_source() -> None:
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        position = panel["gridPos"]
        cells = {
            (x, y) for x in range(position["x"], position["x"] + position["w"]) for y in range(position["y"], position["y"] + position["h"])
        }
        assert panel["datasource"]["uid"] == source["uid"] and panel["title"]
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def test_compose_mounts_existing_files() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = [mount.split(":") for name in ("prometheus", "grafana") for mount in services[name]["volumes"] if mount.startswith("./")]
    where = {inside: ROOT / folder for folder, inside, *_ in mounts}
    scrape = yaml.safe_load((where["/etc/prometheus"] / "prometheus.yml").read_text())
    assert (where["/etc/prometheus"] / scrape["rule_files"][0]).is_file()
    (job,) = scrape["scrape_configs"]
    assert (
        job["static_configs"] == [{"targets": ["web:8000"]}]
        and job["authorization"]["credentials_file"] in services["prometheus"]["entrypoint"][2]
    )
    (provider,) = yaml.safe_load((where["/etc/grafana/provisioning"] / "dashboards" / "techmarket.yml").read_text())["providers"]
    assert [path.name for path in where[provider["options"]["path"]].iterdir()] == ["techmarket.json"]


def test_alert_rules() -> None:
    result = subprocess.run(
        [require_program("promtool", "prometheus"), "test", "rules", "tests/monitoring/alerts_test.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
