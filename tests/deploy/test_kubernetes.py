"""The Kubernetes manifests: valid, without privileges, with limits and probes, and in production without public passwords."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from techmarket.environment import SEED_PASSWORDS
from techmarket.settings import CELERY_TASK_TIME_LIMIT, VARIABLES
from techmarket.version import package_version
from tests.conftest import ROOT

K8S = ROOT / "k8s"
KUBERNETES = "1.31"
Object = dict[str, Any]
KUSTOMIZATIONS = sorted([*K8S.rglob("[Kk]ustomization*"), *ROOT.glob("deploy/*/kustomization.yaml")])
# k8s/base has a copy of this file: kustomize reads nothing above its own folder, and not every checkout supports links.
NAMESPACE_AND_SECRETS = K8S / "00-namespace-secrets.yaml"
MANIFESTS = sorted({*K8S.rglob("*.yaml")} - {*KUSTOMIZATIONS, NAMESPACE_AND_SECRETS})
OVERLAYS = ("dev", "production")
PATCHES = {"settings.yaml", "ingress.yaml"}
ONE_OFFS = {"migrate", "backup"}
SCRIPTS = (
    ("mysql-init", "deploy/mysql/reader.sh"),
    ("postgres-init", "deploy/postgres/roles.sh"),
    ("redis-users", "deploy/redis/users.sh"),
)
SERVERS = {"auth-db": "mysql", "catalog-db": "mysql", "orders-db": "mysql", "payments-db": "mysql", "dwh-db": "postgres", "redis": "redis"}


def renders_overlays() -> bool:
    """Return True if kubectl is 1.21 or newer: an older one has kustomize 2.0, which knows neither `replicas` nor inline patches."""
    if not shutil.which("kubectl"):
        return False
    result = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=300)
    version = re.search(r'"gitVersion": "v(\d+)\.(\d+)', result.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= (1, 21)


needs_kubectl = pytest.mark.skipif(not renders_overlays(), reason="there is no kubectl of 1.21 or newer here")


def documents(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def read_manifests() -> list[Object]:
    """Return all objects of the development version, as `kubectl apply` creates them file by file."""
    return [each for path in MANIFESTS if not {"overlays", "components"} & {*path.parts} for each in documents(path.read_text())]


@cache
def render_overlay(overlay: str) -> list[Object]:
    result = subprocess.run(["kubectl", "kustomize", K8S / "overlays" / overlay], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr  # a newer kubectl may warn there
    return documents(result.stdout)


def get_template(each: Object) -> Object | None:
    spec = each.get("spec", {})
    return spec.get("jobTemplate", {}).get("spec", spec).get("template")


def iterate_pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the name and spec of every pod that the objects start."""
    for each in objects:
        if (found := get_template(each)) is not None:
            yield each["metadata"]["name"], found["spec"]


PODS = dict(iterate_pods(read_manifests()))


# --- Valid ---


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(K8S)))
def test_manifest_is_valid(path: Path) -> None:
    for document in documents(path.read_text()):
        if document["kind"] != "HTTPRoute":  # no part of Kubernetes itself
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_valid(overlay: str) -> None:
    for document in render_overlay(overlay):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_a_kustomization_exist(path: Path) -> None:
    """Checked without kustomize, which is not installed everywhere."""
    content = yaml.safe_load(path.read_text())
    named = [*content.get("resources", []), *(patch["path"] for patch in content.get("patches", []) if "path" in patch)]
    named += [file for maps in content.get("configMapGenerator", []) for file in maps["files"]]
    assert (named or content.get("patches")) and [name for name in named if not (path.parent / name).exists()] == []


def test_every_manifest_belongs_to_a_kustomization() -> None:
    named = {(path.parent / name).resolve() for path in KUSTOMIZATIONS for name in yaml.safe_load(path.read_text()).get("resources", [])}
    assert [path for path in MANIFESTS if path not in named and path.name not in PATCHES] == []


def identity(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


@needs_kubectl
def test_dev_overlay_equals_the_single_steps() -> None:
    by_steps = {identity(each) for each in read_manifests()} | {("ConfigMap", name) for name, _ in SCRIPTS}
    assert {identity(each) for each in render_overlay("dev")} == by_steps


@needs_kubectl
@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_config_maps_hold_the_scripts_of_compose(name: str, script: str) -> None:
    maps = {each["metadata"]["name"]: each["data"] for each in render_overlay("production") if each["kind"] == "ConfigMap"}
    assert maps[name] == {Path(script).name: (ROOT / script).read_text()}
    assert f"apply {name} {script}" in (K8S / "create-configmaps.sh").read_text()


def test_copies_of_namespace_and_secrets_are_equal() -> None:
    assert NAMESPACE_AND_SECRETS.read_text() == (K8S / "base" / NAMESPACE_AND_SECRETS.name).read_text()


def test_every_object_is_in_the_namespace() -> None:
    assert {each["metadata"].get("namespace") for each in read_manifests() if each["kind"] != "Namespace"} == {"techmarket"}


# --- Every pod ---


def test_expected_pods() -> None:
    assert set(PODS) == SERVERS.keys() | {"web", "worker", "beat"} | ONE_OFFS


@pytest.mark.parametrize("name", PODS)
def test_pod_meets_the_restricted_profile(name: str) -> None:
    spec = PODS[name]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    # Otherwise the service `web` would set WEB_PORT=tcp://10.0.0.7:8000 in every container.
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all(volume.keys() & {"emptyDir", "configMap", "secret", "persistentVolumeClaim"} for volume in spec["volumes"])
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def read_accounts(objects: list[Object]) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == "ServiceAccount"}


@pytest.mark.parametrize("name", PODS)
def test_every_role_has_an_account_without_the_api(name: str) -> None:
    account = PODS[name]["serviceAccountName"]
    assert account == SERVERS.get(name, name)
    assert read_accounts(read_manifests())[account]["automountServiceAccountToken"] is False


def test_no_account_has_a_right() -> None:
    """Nor has a pod that names no account, of whoever starts one in the namespace."""
    accounts = read_accounts(read_manifests()) | read_accounts(documents((K8S / "components/metabase/account.yaml").read_text()))
    assert accounts.keys() == {"web", "worker", "beat", "migrate", "backup", "mysql", "postgres", "redis", "metabase", "default"}
    assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
    files = [path for path in MANIFESTS if re.search(r"kind: (Cluster)?Role", path.read_text())]
    assert files == []


@pytest.mark.parametrize("name", PODS)
def test_pod_has_resource_limits(name: str) -> None:
    for container in PODS[name]["containers"]:
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", PODS)
def test_pod_has_probes_or_a_deadline(name: str) -> None:
    if name in ONE_OFFS:
        jobs = [each["spec"] for each in read_manifests() if each["metadata"]["name"] == name and each["kind"] in ("Job", "CronJob")]
        assert [spec.get("jobTemplate", {}).get("spec", spec)["activeDeadlineSeconds"] > 0 for spec in jobs] == [True]
        return
    for container in PODS[name]["containers"]:
        assert {"livenessProbe", "readinessProbe"} <= container.keys()


@pytest.mark.parametrize("name", SERVERS)
def test_rotation_takes_no_server_out_of_service(name: str) -> None:
    """A probe with a password would fail between its change on the server and in the file, and the service would lose its only pod."""
    (container,) = PODS[name]["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert "/run/secrets" not in str(container[probe])


def test_namespace_enforces_the_profile() -> None:
    labels = next(each["metadata"]["labels"] for each in read_manifests() if each["kind"] == "Namespace")
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


# --- Secrets ---


def test_ingress_serves_pages_and_not_the_probes() -> None:
    (ingress,) = documents((K8S / "overlays" / "production" / "ingress.yaml").read_text())
    paths = {each["path"]: each["pathType"] for each in ingress["spec"]["rules"][0]["http"]["paths"]}
    assert set(paths) == {"/", "/admin/", "/language/", "/static/"} and paths["/"] == "Exact"


@needs_kubectl
def test_production_has_no_secrets_and_no_default_passwords() -> None:
    text = yaml.safe_dump_all(render_overlay("production"))
    assert not [each for each in render_overlay("production") if each["kind"] == "Secret"]
    assert [password for password in SEED_PASSWORDS if re.search(rf"\b{password}\b", text)] == []
    settings = next(each["data"] for each in render_overlay("production") if each["metadata"]["name"] == "techmarket-settings")
    assert settings["DEBUG"] == "false" and settings["BEHIND_TLS_PROXY"] == "true"


@pytest.mark.parametrize("name", PODS)
def test_passwords_are_files_and_not_variables(name: str) -> None:
    for container in PODS[name]["containers"]:
        variables = [*container.get("env", []), *container.get("envFrom", [])]
        assert "secretKeyRef" not in str(variables) and "secretRef" not in str(variables)
        assert [
            each["name"] for each in container.get("env", []) if "PASSWORD" in each["name"] and not each["name"].endswith("_FILE")
        ] == []
    assert all(volume["secret"]["defaultMode"] == 0o440 for volume in PODS[name]["volumes"] if "secret" in volume)


def get_secrets(objects: list[Object]) -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: each["stringData"] for each in objects if each["kind"] == "Secret"}


def print_secrets() -> list[Object]:
    """Return the secrets that k8s/create-secrets.sh would create."""
    result = subprocess.run(["sh", K8S / "create-secrets.sh", "--print"], capture_output=True, text=True, timeout=300, check=True)
    return documents(result.stdout)


def test_created_secrets_have_the_keys_of_the_development_secrets() -> None:
    created, development = get_secrets(print_secrets()), get_secrets(read_manifests())
    assert {name: set(keys) for name, keys in created.items()} == {name: set(keys) for name, keys in development.items()}


def test_created_secrets_are_random_and_consistent() -> None:
    created = get_secrets(print_secrets())
    assert created != get_secrets(print_secrets())
    addresses = created["techmarket-owner"] | {f"reader {name}": value for name, value in created["techmarket-web"].items()}
    for service in ("auth", "catalog", "orders", "payments"):
        keys, variable = created[f"{service}-db"], f"{service.upper()}_DB_URL"
        assert addresses[variable] == f"mysql://{service}_user:{keys['password']}@{service}-db:3306/{service}_db"
        assert addresses[f"reader {variable}"] == f"mysql://etl_reader:{keys['reader-password']}@{service}-db:3306/{service}_db"
    own = [
        (("techmarket-owner", "CONTROL_DB_URL"), "control_user", "control-password"),
        (("techmarket-owner", "DWH_URL"), "dwh_user", "dwh-password"),
        (("techmarket-worker", "CONTROL_DB_URL"), "etl_worker", "worker-password"),
        (("techmarket-worker", "DWH_URL"), "dwh_user", "dwh-password"),
        (("techmarket-web", "CONTROL_DB_URL"), "etl_web", "web-password"),
        (("techmarket-web", "DWH_URL"), "etl_web", "web-password"),
    ]
    for (secret, key), user, password in own:
        assert created[secret][key].startswith(f"postgres://{user}:{created['dwh-db'][password]}@dwh-db:5432/")
    assert addresses["CELERY_BROKER_URL"] == f"redis://web:{created['redis']['web-password']}@redis:6379/0"
    for role in ("worker", "beat"):
        assert created["techmarket-broker"][role] == f"redis://{role}:{created['redis'][f'{role}-password']}@redis:6379/0"
    values = [value for name, keys in created.items() if name.endswith("-db") or name == "redis" for value in keys.values()]
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values)
    for document in print_secrets():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_passwords_are_not_created_beside_those_of_running_databases(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\n[ "$1" = get ] || echo "$@" >>{tmp_path}/changed\n')
    kubectl.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(["sh", K8S / "create-secrets.sh"], env=env, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr.count("\n"), (tmp_path / "changed").exists()) == (1, 1, False)
    assert result.stderr.startswith("create-secrets: there are secrets in the namespace techmarket already; ")


def test_settings_name_a_file_for_every_secret() -> None:
    settings = next(each["data"] for each in read_manifests() if each["metadata"]["name"] == "techmarket-settings")
    files = {name.removesuffix("_FILE"): Path(path).name for name, path in settings.items() if name.endswith("_FILE")}
    keys = get_secrets(read_manifests())["techmarket-web"].keys()
    assert files == {name: name for name in keys} and set(VARIABLES.values()) < keys


@pytest.mark.parametrize(
    ("name", "secret"), [("web", "web"), ("worker", "worker"), ("beat", "worker"), ("migrate", "owner"), ("backup", "owner")]
)
def test_only_one_off_pods_own_the_sources(name: str, secret: str) -> None:
    secrets = [volume["secret"]["secretName"] for volume in PODS[name]["volumes"] if "secret" in volume and volume["name"] != "broker"]
    assert secrets == [f"techmarket-{secret}"]


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_worker_and_beat_have_a_broker_user_of_their_own(name: str) -> None:
    """The address of the others names `web`, who may only send."""
    (volume,) = [volume["secret"] for volume in PODS[name]["volumes"] if volume["name"] == "broker"]
    assert volume["secretName"] == "techmarket-broker" and volume["items"] == [{"key": name, "path": "CELERY_BROKER_URL"}]
    (container,) = PODS[name]["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "broker"]
    assert container["env"] == [{"name": "CELERY_BROKER_URL_FILE", "value": f"{mount['mountPath']}/CELERY_BROKER_URL"}]
    secrets = get_secrets(read_manifests())
    password = secrets["redis"][f"{name}-password"]
    assert secrets["techmarket-broker"][name] == f"redis://{name}:{password}@redis:6379/0" and password in SEED_PASSWORDS
    assert secrets["techmarket-web"]["CELERY_BROKER_URL"] == f"redis://web:{secrets['redis']['web-password']}@redis:6379/0"


# --- Network policies ---


def get_pod_labels() -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: found["metadata"]["labels"] for each in read_manifests() if (found := get_template(each)) is not None}


def matches(selector: Object, labels: dict[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(labels.get(term["key"]) in term["values"] for term in selector.get("matchExpressions", []))


def find_allowed_ports(direction: str, peers: str, pod: str, other: str) -> set[int]:
    """Return the ports on which `pod` may accept (Ingress) or open (Egress) connections from or to `other`."""
    policies = [each["spec"] for each in read_manifests() if each["kind"] == "NetworkPolicy"]
    return {
        port["port"]
        for spec in policies
        if direction in spec["policyTypes"] and matches(spec["podSelector"], get_pod_labels()[pod])
        for rule in spec.get(direction.lower(), [])
        for peer in rule[peers]
        if "podSelector" in peer and matches(peer["podSelector"], get_pod_labels()[other])
        for port in rule["ports"]
    }


def test_allowed_connections() -> None:
    names = sorted(PODS)
    reached = {
        (one, other): ports
        for one in names
        for other in names
        if (ports := find_allowed_ports("Egress", "to", one, other) & find_allowed_ports("Ingress", "from", other, one))
    }
    sources = ("auth-db", "catalog-db", "orders-db", "payments-db")
    expected = {(one, source): {3306} for one in ("web", "worker", "migrate", "backup") for source in sources}
    expected |= {(one, "dwh-db"): {5432} for one in ("web", "worker", "beat", "migrate", "backup")}
    expected |= {(one, "redis"): {6379} for one in ("web", "worker", "beat")}
    assert reached == expected


def test_other_connections_are_denied() -> None:
    deny = next(each["spec"] for each in read_manifests() if each["metadata"]["name"] == "default-deny")
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def find_addresses(objects: list[Object]) -> dict[tuple[str, str], set[int]]:
    """Return the ports of the networks outside of the cluster to which pods may connect, by policy and network."""
    rules = [
        (each["metadata"]["name"], rule) for each in objects if each["kind"] == "NetworkPolicy" for rule in each["spec"].get("egress", [])
    ]
    return {
        (name, peer["ipBlock"]["cidr"]): {port["port"] for port in rule["ports"]}
        for name, rule in rules
        for peer in rule["to"]
        if "ipBlock" in peer
    }


def test_nothing_reaches_the_internet() -> None:
    assert find_addresses(read_manifests()) == {("names", "169.254.20.10/32"): {53, 5353}}
    rules = [rule for each in read_manifests() if each["kind"] == "NetworkPolicy" for rule in each["spec"].get("egress", [])]
    assert all(rule["to"] and rule["ports"] for rule in rules)  # one without them would mean everywhere
    peers = [peer for rule in rules for peer in rule["to"] if "ipBlock" not in peer]
    assert all(peer["podSelector"]["matchLabels"] for peer in peers)


@needs_kubectl
@pytest.mark.parametrize(
    ("component", "policy", "role"),
    [("notices", "to-notices", "worker"), ("batch-store", "to-batch-store", "worker"), ("single-sign-on", "to-single-sign-on", "web")],
)
def test_component_opens_one_address_to_one_role(component: str, policy: str, role: str, tmp_path: Path) -> None:
    objects = render_component(component, "overlays/production", tmp_path)
    opened = {key: ports for key, ports in find_addresses(objects).items() if key[0] != "names"}
    assert [name for name, _ in opened] == [policy] and list(opened.values()) == [{443}]
    spec = next(each["spec"] for each in objects if each["metadata"]["name"] == policy)
    assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": role}} and spec["policyTypes"] == ["Egress"]
    # An example that nobody has: a network for documentation, RFC 5737.
    assert re.match(r"(192\.0\.2|198\.51\.100)\.", next(iter(opened))[1])


# --- Availability ---


def test_beat_has_a_single_replica() -> None:
    beat = find("Deployment", "beat")["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("name", ["web", "worker"])
def test_replicas_survive_a_drain(name: str) -> None:
    budgets = [each["spec"] for each in read_manifests() if identity(each) == ("PodDisruptionBudget", name)]
    assert [budget["selector"]["matchLabels"] for budget in budgets] == [{"app.kubernetes.io/name": name}]


def test_only_the_autoscaler_sets_the_number_of_workers() -> None:
    worker = next(each["spec"] for each in read_manifests() if identity(each) == ("Deployment", "worker"))
    scaler = next(each["spec"] for each in read_manifests() if identity(each) == ("HorizontalPodAutoscaler", "worker"))
    assert "replicas" not in worker and scaler["scaleTargetRef"]["name"] == "worker"


# --- As a platform team tries it ---


def find(kind: str, name: str) -> Object:
    return next(each for each in read_manifests() if identity(each) == (kind, name))


@pytest.mark.parametrize("name", ["web", "worker", "beat", "migrate", "backup"])
def test_loaded_image_is_used(name: str) -> None:
    """With the tag latest a cluster would pull, and kind and minikube have nothing to pull from."""
    (container,) = PODS[name]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (f"techmarket:{package_version()}", "IfNotPresent")
    for language in ("", ".uk"):
        assert f"kind load docker-image {container['image']}" in (ROOT / f"docs/KUBERNETES{language}.md").read_text()


def test_guide_creates_the_first_account() -> None:
    for language in ("", ".uk"):
        guide = (ROOT / f"docs/KUBERNETES{language}.md").read_text()
        assert guide.index('"createsuperuser"') < guide.index("job/first-account") < guide.index("svc/web 8000")


def test_migration_can_be_replaced_and_does_not_expire() -> None:
    job = find("Job", "migrate")
    assert job["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "kustomize.toolkit.fluxcd.io/force": "enabled",
    }
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_one_busy_core_starts_no_other_worker() -> None:
    (metric,) = find("HorizontalPodAutoscaler", "worker")["spec"]["metrics"]
    target = metric["resource"]["target"]
    assert target["type"] == "AverageValue" and 1000 < int(target["averageValue"].removesuffix("m")) < 2000


def test_rollout_lets_the_longest_task_end() -> None:
    assert PODS["worker"]["terminationGracePeriodSeconds"] >= CELERY_TASK_TIME_LIMIT


def test_no_ingress_class_is_assumed() -> None:
    assert "ingressClassName" not in find("Ingress", "web")["spec"]


def test_dns_of_every_known_cluster_is_reachable() -> None:
    (rule,) = find("NetworkPolicy", "names")["spec"]["egress"]
    kube, openshift, node = rule["to"]
    assert [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in (kube, openshift)] == [
        "kube-system",
        "openshift-dns",
    ]
    assert kube["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"} and node == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert openshift["podSelector"]["matchLabels"] == {"dns.operator.openshift.io/daemonset-dns": "default"}
    assert {(port["port"], port["protocol"]) for port in rule["ports"]} == {(port, kind) for port in (53, 5353) for kind in ("UDP", "TCP")}


def render_component(name: str, base: str, folder: Path) -> list[Object]:
    """Render k8s/`base` with one component, from a copy of what kustomize reads."""
    shutil.copytree(K8S, folder / "k8s")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    overlay = folder / "k8s" / "overlays" / "tested"
    overlay.mkdir()
    content = {"kind": "Kustomization", "resources": [f"../../{base}"], "components": [f"../../components/{name}"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    result = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return documents(result.stdout)


@needs_kubectl
def test_openshift_assigns_the_user_ids(tmp_path: Path) -> None:
    pods = dict(iterate_pods(render_component("openshift", "overlays/production", tmp_path)))
    assert pods.keys() == PODS.keys()
    for spec in pods.values():
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & spec["securityContext"].keys()
        assert spec["securityContext"]["runAsNonRoot"] is True


@needs_kubectl
def test_gateway_replaces_the_ingress(tmp_path: Path) -> None:
    rendered = {identity(each): each for each in render_component("gateway", "base", tmp_path)}
    assert ("Ingress", "web") not in rendered
    (rule,) = rendered[("HTTPRoute", "web")]["spec"]["rules"]
    assert {(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]} == {("Exact", "/")} | {
        ("PathPrefix", path) for path in ("/admin/", "/language/", "/static/")
    }


def test_metabase_and_its_seeding_reach_what_they_need() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in documents((K8S / "components/metabase/policies.yaml").read_text())}
    (entry,) = policies["metabase-to-warehouse"]["ingress"]
    assert entry["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "metabase"} and entry["ports"] == [{"port": 5432}]
    (way,) = policies["to-metabase"]["egress"]
    assert way["to"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "metabase"} and way["ports"] == [{"port": 3000}]


def read_metabase_patch() -> Object:
    component = yaml.safe_load((K8S / "components/metabase/kustomization.yaml").read_text())
    return dict(yaml.safe_load(component["patches"][0]["patch"])["spec"]["template"]["spec"])


def test_worker_has_what_seeding_metabase_needs() -> None:
    spec = read_metabase_patch()
    (container,), (volume,) = spec["containers"], spec["volumes"]
    assert {each["name"].removesuffix("_FILE") for each in container["env"]} == {
        "METABASE_URL",
        "METABASE_USER",
        "METABASE_PASS",
        "DWH_BI_URL",
    }
    folder = container["volumeMounts"][0]["mountPath"]
    files = {each["value"] for each in container["env"] if each["name"].endswith("_FILE")}
    secrets = get_secrets(read_manifests())
    assert files == {f"{folder}/{key}" for key in secrets[volume["secret"]["secretName"]]}
    assert volume["secret"]["defaultMode"] == 0o440 and container["volumeMounts"][0]["readOnly"] is True
    for each in (secrets, get_secrets(print_secrets())):
        address = each["techmarket-metabase"]["DWH_BI_URL"]
        assert address == f"postgres://bi_reader:{each['dwh-db']['bi-password']}@dwh-db.techmarket.svc:5432/dwh"


def test_manifests_know_every_secret_and_no_other_setting() -> None:
    """A password in a variable of its own would be forgotten here; a name that no setting has would be read by nobody."""
    example = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    settings = next(each["data"] for each in read_manifests() if each["metadata"]["name"] == "techmarket-settings")
    production = (K8S / "overlays/production/settings.yaml").read_text()
    named = settings.keys() | set(re.findall(r"^ +(?:# )?([A-Z_]+):", production, re.MULTILINE))
    named |= {each["name"] for each in read_metabase_patch()["containers"][0]["env"]}
    own = [each for name in ("web", "worker", "beat", *ONE_OFFS) for each in PODS[name]["containers"][0].get("env", [])]
    named |= {each["name"] for each in own}
    names = {name.removesuffix("_FILE") for name in named}
    assert names - example - {"WAIT_SECONDS", "WEB_CONCURRENCY"} == set()
    secret = {name for name in example if re.search("_URL|_KEY|_TOKEN|_PASS|_SECRET", name)}
    assert secret - {name.removesuffix("_FILE") for name in named if name.endswith("_FILE")} == {
        "METABASE_URL",
        "ETL_BATCH_URL",
        "OIDC_URL",
    }


@needs_kubectl
def test_worker_with_metabase_is_valid(tmp_path: Path) -> None:
    objects = render_component("metabase", "overlays/dev", tmp_path)
    for document in objects:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (container,) = dict(iterate_pods(objects))["worker"]["containers"]
    assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/run/secrets/techmarket", "/run/secrets/metabase"}
    assert container["envFrom"] and container["args"] == ["worker"]


@needs_kubectl
def test_redis_by_tls(tmp_path: Path) -> None:
    objects = render_component("redis-tls", "overlays/production", tmp_path)
    for document in objects:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    pods = dict(iterate_pods(objects))
    (container,) = pods["redis"]["containers"]
    # "$@" of the script in `command`; without a port there is no way in plain text.
    options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert container["command"][-2].endswith('"$@"') and container["command"][-1] == "redis-server"
    assert (options["--port"], options["--tls-port"], options["--tls-auth-clients"]) == ("0", "6379", "no")
    files = {value for name, value in options.items() if name.endswith("-file")}
    assert files == {f"/etc/redis-tls/{name}" for name in ("tls.crt", "tls.key", "ca.crt")}
    assert "/etc/redis-tls" in {mount["mountPath"] for mount in container["volumeMounts"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert "--tls --cacert /etc/redis-tls/ca.crt" in container[probe]["exec"]["command"][-1]
    for name in ("web", "worker", "beat"):
        (volume,) = [volume["secret"] for volume in pods[name]["volumes"] if volume["name"] == "redis-tls"]
        assert volume["items"] == [{"key": "ca.crt", "path": "ca.crt"}]  # not the key of the server
        assert "/run/secrets/redis-tls" in {mount["mountPath"] for mount in pods[name]["containers"][0]["volumeMounts"]}


@pytest.mark.parametrize("broken", ["", "web", "worker", "beat"])
def test_deployment_waits_for_every_rollout(broken: str, tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\ncase "$*" in *rollout*deployment/{broken or "none"}*) exit 1 ;; esac\n')
    kubectl.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "MAKEFLAGS": "", "MAKELEVEL": ""}
    result = subprocess.run(["make", "k8s-deploy"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert (result.returncode != 0) == bool(broken), result.stderr
