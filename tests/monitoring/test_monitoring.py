"""What Prometheus and Grafana are given, against what /metrics gives and docs/MONITORING.md says."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from apps.orchestration.models import Run
from tests.conftest import ROOT, needed
from tests.console.conftest import no_memory, star  # noqa: F401  fixtures
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

DEPLOY, GUIDE = ROOT / "deploy", ROOT / "docs" / "MONITORING.md"
OWN = re.compile(r"\btechmarket_\w+")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana" / "dashboards" / "techmarket.json").read_text()))


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_every_name_that_is_used_is_given_and_explained(star: Run) -> None:  # noqa: F811
    given = {family.name for family in text_string_to_metric_families(Client().get("/metrics").content.decode())}
    in_alerts = {name for rule in alerts() for name in OWN.findall(rule["expr"])}
    in_panels = {name for panel in dashboard()["panels"] for target in panel["targets"] for name in OWN.findall(target["expr"])}
    assert len(in_alerts) > 8 and len(in_panels) > 12
    assert in_alerts | in_panels <= given
    assert set(re.findall(r"`(techmarket_\w+)", GUIDE.read_text())) == given


def test_every_alert_says_what_to_do() -> None:
    explained = re.findall(r"^\| `([A-Z]\w+)` \|", GUIDE.read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in alerts()] == explained
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["annotations"]["summary"]


def test_panels_have_a_place_and_a_source() -> None:
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert panel["datasource"]["uid"] == source["uid"] and panel["title"]
        assert not mine & taken and max(x for x, _ in mine) < 24
        taken |= mine


def test_compose_mounts_what_is_there() -> None:
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


def test_alerts_fire_when_they_should_and_else_not() -> None:
    said = subprocess.run(
        [needed("promtool", "prometheus"), "test", "rules", "tests/monitoring/alerts_test.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stdout + said.stderr
