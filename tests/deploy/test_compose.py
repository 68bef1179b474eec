"""docker-compose.yml: read by Compose where it is installed, and as YAML."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from techmarket.environment import SEED_PASSWORDS
from techmarket.settings import SOURCES
from techmarket.version import code_version
from tests.conftest import ROOT

Service = dict[str, Any]
FOUR_GIGABYTES = 4 * 1024
ALL_PROFILES = "bi,monitoring,tools"


@cache
def read_compose_file() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def services() -> dict[str, Service]:
    return dict(read_compose_file()["services"])


def core_services() -> dict[str, Service]:
    return {name: service for name, service in services().items() if "profiles" not in service}


def is_techmarket(service: Service) -> bool:
    return str(service["image"]).startswith("techmarket:")


def run_compose(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    passed_on = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COMPOSE_PROFILES": ALL_PROFILES}
    return subprocess.run(
        ["sh", "deploy/compose.sh", *arguments], cwd=ROOT, env=passed_on | env, capture_output=True, text=True, timeout=300
    )


needs_compose = pytest.mark.skipif(
    not shutil.which("docker-compose") and run_compose("version").returncode != 0, reason="needs docker compose or docker-compose"
)


@needs_compose
def test_compose_accepts_the_file() -> None:
    result = run_compose("config", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")


@needs_compose
def test_every_port_password_and_version_can_be_set() -> None:
    variables = set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "docker-compose.yml").read_text())) | passed_on("worker")
    values = {name: str(20_000 + number) if name.endswith("_PORT") else f"canary{number}" for number, name in enumerate(sorted(variables))}
    resolved = run_compose("config", **values | {"BIND": "0.0.0.0", "BEHIND_TLS_PROXY": "true", "DEBUG": "false"}).stdout
    missing = {name for name, value in values.items() if value not in resolved} - {"BIND", "BEHIND_TLS_PROXY", "DEBUG"}
    assert missing == set()
    assert not [password for password in SEED_PASSWORDS if password in resolved]


def passed_on(name: str) -> set[str]:
    """Return the variables that a service gets only where they are set."""
    return {variable for variable, value in services()[name]["environment"].items() if value is None}


@pytest.mark.parametrize("name", ["migrate", "web", "worker", "beat"])
def test_every_setting_reaches_the_containers(name: str) -> None:
    """A shop's time zone that only .env knew would move every day's sales to another day, in silence."""
    example = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    image = {"VAR_DIR", "STATIC_ROOT", "BACKUP_DIR", "CHROMIUM"}
    only_migrate = {"METABASE_URL", "METABASE_USER", "METABASE_PASS", "DWH_BI_URL", "BACKUP_KEEP"}
    restores = {"BACKUP_IDENTITY_FILE"}  # the file of a private key would have to be in the container; `--identity -` reads it from stdin
    missing = example - image - restores - services()[name]["environment"].keys()
    assert missing == (set() if name == "migrate" else only_migrate)


def copy_compose(folder: Path, settings: str) -> Path:
    """Copy the script beside a .env, with a docker that only answers."""
    (folder / "deploy").mkdir()
    for script in ("compose.sh", "guard.sh"):
        shutil.copy(ROOT / "deploy" / script, folder / "deploy")
    (folder / ".env").write_text(settings)
    for each in ("mysql", "postgres", "redis", "prometheus", "grafana", "airflow"):
        (folder / "deploy" / each).mkdir()
    (folder / "docker").write_text("#!/bin/sh\n")
    (folder / "docker").chmod(0o755)
    return folder


def test_settings_that_the_stack_does_not_use_are_named(tmp_path: Path) -> None:
    settings = "ORDERS_DB_URL=mysql://u:canary@shop/orders_db\n#DWH_URL=\nNOTIFY_URL=http://x\nSECRET_KEY_FILE=/canary\nWEB_PORT=8001\n"
    folder = copy_compose(tmp_path, settings)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> str:
        return subprocess.run(["sh", "deploy/compose.sh", command], cwd=folder, env=env, capture_output=True, text=True, timeout=60).stderr

    named = "compose: the stack does not use these lines of .env: ORDERS_DB_URL SECRET_KEY_FILE. It has servers and folders of its own, "
    assert (run("up"), run("ps")) == (f"{named}and reads no NAME_FILE\n", "")
    (folder / ".env").unlink()
    assert run("up") == ""


@needs_compose
def test_image_is_built_with_the_commit() -> None:
    commit = code_version()
    assert commit and f"CODE_VERSION: {commit}" in run_compose("config").stdout
    assert "CODE_VERSION: canary" in run_compose("config", CODE_VERSION="canary").stdout


def test_missing_compose_is_reported(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(str(shutil.which("sh")))
    (tmp_path / "dirname").symlink_to(str(shutil.which("dirname")))
    result = run_compose("ps", PATH=str(tmp_path))
    assert result.returncode == 1 and "neither `docker compose` nor `docker-compose` is installed" in result.stderr
    assert result.stderr.count("\n") == 1


def test_default_ports() -> None:
    ports = {
        name: port for name, service in services().items() for port in re.findall(r"-(\d+)}:\d+\"?$", str(service.get("ports", [""])[0]))
    }
    expected = {"auth-db": "3306", "catalog-db": "3307", "orders-db": "3308", "payments-db": "3309", "dwh-db": "5432"}
    assert ports.items() >= (expected | {"adminer": "8080", "web": "8000", "metabase": "3000"}).items()
    assert len(set(ports.values())) == len(ports)


def test_ports_are_published_on_the_loopback_address() -> None:
    """Web has a variable of its own, and what asks for no password of its own has none."""
    published = {name: service["ports"][0] for name, service in services().items() if "ports" in service}
    own = {"web": "${WEB_BIND:-127.0.0.1}:", "adminer": "127.0.0.1:", "prometheus": "127.0.0.1:"}
    assert len(published) == 11 and all(port.startswith(own.get(name, "${BIND:-127.0.0.1}:")) for name, port in published.items())
    assert services()["adminer"]["profiles"] == ["tools"]


# --- The guard: no port is opened to other machines with a password for development ---

GUARDS = {"stack": "guard", "monitoring": "guard-monitoring"}


def run_guard(kind: str, *arguments: str, **env: str) -> tuple[int, str]:
    path = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        ["sh", "deploy/guard.sh", kind, *arguments], cwd=ROOT, env=path | env, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == ""
    return result.returncode, result.stderr


def read_development_values(kind: str) -> dict[str, str]:
    """Return the passwords that Compose passes to a guard, with the values that they have without .env."""
    environment = services()[GUARDS[kind]]["environment"]
    found = {name: re.fullmatch(r"\$\{(\w+):-(.*)}", value) for name, value in environment.items()}
    assert all(match and match[1] == name for name, match in found.items())
    return {name: match[2] for name, match in found.items() if match and name not in ("BIND", "WEB_BIND", "DEBUG")}


def test_guards_know_every_password_of_the_file() -> None:
    known = read_development_values("stack") | read_development_values("monitoring")
    given = dict(re.findall(r"\$\{(\w*(?:PASS|KEY|BASIC_AUTH)\w*):-([^}]+)}", (ROOT / "docker-compose.yml").read_text()))
    assert known == given and len(known) == 21
    assert {value.removeprefix("admin:") for name, value in known.items() if name != "SECRET_KEY"} == SEED_PASSWORDS


@pytest.mark.parametrize("kind", GUARDS)
@pytest.mark.parametrize("bind", ["BIND", "WEB_BIND"])
def test_open_port_with_a_development_password_is_refused(kind: str, bind: str) -> None:
    development = read_development_values(kind)
    own = dict.fromkeys(development, "a password of our own") | {bind: "0.0.0.0", "DEBUG": "false"}
    assert run_guard(kind, **own) == (0, "")
    for name, value in development.items():
        for bad in ({name: value}, {name: ""}):
            code, text = run_guard(kind, **own | bad)
            assert (
                code == 4
                and text.count("\n") == 1
                and f"{bind}=0.0.0.0 opens ports" in text
                and f"{name} is the one for development" in text
            )
            assert value not in text
    for debug in ("true", "", "1"):
        assert run_guard(kind, **own | {"DEBUG": debug})[0] == 4


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_ports_of_this_machine_need_no_other_password(address: str) -> None:
    assert run_guard("stack", BIND=address, WEB_BIND=address) == (0, "")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1"])
def test_every_other_address_is_open(address: str) -> None:
    assert run_guard("stack", BIND=address)[0] == 4


def test_every_server_with_a_port_waits_for_its_guard() -> None:
    def waits_for(name: str) -> set[str]:
        direct = services()[name].get("depends_on", {})
        return set(direct) | {other for each in direct for other in waits_for(each)}

    published = {name for name, service in services().items() if "ports" in service} - {"adminer"}
    assert len(published) == 10 and all("guard" in waits_for(name) for name in published)
    assert all("guard-monitoring" in waits_for(name) for name in ("grafana", "flower"))
    for name in GUARDS.values():
        assert services()[name].get("ports") is None and services()[name]["command"] == [{v: k for k, v in GUARDS.items()}[name]]


def test_settings_file_is_guarded_before_compose_starts(tmp_path: Path) -> None:
    folder = copy_compose(tmp_path, "DEBUG=\"false\"\nWEB_BIND = 0.0.0.0\nSECRET_KEY='x'\n")
    (folder / "docker").write_text("#!/bin/sh\necho started >&2\n")
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(["sh", "deploy/compose.sh", "up"], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 4 and "AUTH_DB_PASSWORD" in result.stderr and "started" not in result.stderr.splitlines()[-1]


def test_image_is_for_production_by_default() -> None:
    assert re.search(r"^ +DEBUG=false \\$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", services())
def test_service_has_healthcheck_limits_and_no_privileges(name: str) -> None:
    service = services()[name]
    is_guard = name in GUARDS.values()
    assert is_techmarket(service) or is_guard or service["healthcheck"]["test"], "that of the techmarket image is in the Dockerfile"
    assert service["restart"] == ("no" if name == "migrate" or is_guard else "unless-stopped")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service and "pids_limit" in service
    if name != "metabase":  # starts as root, writes another user into /etc/passwd and switches to it
        assert service["cap_drop"] == ["ALL"] and service["read_only"] is True


# A container with one of these, or with Docker's socket, is as good as root on the machine.
POWERS = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "cgroup", "volumes_from"}


def read_all_services() -> dict[str, Service]:
    return services() | dict(yaml.safe_load((ROOT / "docker-compose.airflow.yml").read_text())["services"])


@pytest.mark.parametrize("name", read_all_services())
def test_service_has_no_power_over_the_machine(name: str) -> None:
    service = read_all_services()[name]
    assert not POWERS & service.keys() and "docker.sock" not in str(service)
    assert all(
        source.startswith("./deploy/") or "/" not in source for source in (each.split(":")[0] for each in service.get("volumes", []))
    )


@pytest.mark.parametrize("name", read_all_services())
def test_image_of_others_has_a_tag_that_is_not_latest(name: str) -> None:
    image, _, tag = read_all_services()[name]["image"].partition(":")
    assert tag and ("latest" not in tag or image in ("techmarket", "techmarket-airflow"))


def test_core_fits_into_four_gigabytes() -> None:
    assert sum(int(service["mem_limit"].removesuffix("m")) for service in core_services().values()) <= FOUR_GIGABYTES


def test_databases_are_not_on_the_front_network() -> None:
    assert {name for name, service in services().items() if "front" in service["networks"]} == {
        "web", "adminer", "metabase", "prometheus", "grafana", "flower",
    }  # fmt: skip
    assert set(read_compose_file()["networks"]) == {"front", "back"}


def test_data_is_in_named_volumes() -> None:
    used = {volume.split(":")[0] for service in services().values() for volume in service.get("volumes", []) if not volume.startswith("./")}
    assert used == set(read_compose_file()["volumes"])


def test_mounted_files_exist() -> None:
    mounts = [
        volume.split(":")[0] for service in core_services().values() for volume in service.get("volumes", []) if volume.startswith("./")
    ]
    assert len(mounts) == 7 and all((ROOT / mount).is_file() for mount in mounts)


def test_only_migrate_owns_the_sources() -> None:
    users = {
        name: {re.match(r"mysql://(\w+):", service["environment"][variable])[1] for variable in SOURCES.values()}  # type: ignore[index]
        for name, service in services().items()
        if is_techmarket(service)
    }
    assert users.pop("migrate") == {"auth_user", "catalog_user", "orders_user", "payments_user"}
    assert users == {"web": {"etl_reader"}, "worker": {"etl_reader"}, "beat": {"etl_reader"}}


@pytest.mark.parametrize(
    ("name", "control", "warehouse"),
    [
        ("web", "etl_web", "etl_web"),
        ("worker", "etl_worker", "dwh_user"),
        ("beat", "etl_worker", "dwh_user"),
        ("migrate", "control_user", "dwh_user"),
    ],
)
def test_each_process_has_its_own_user_in_our_databases(name: str, control: str, warehouse: str) -> None:
    environment = services()[name]["environment"]
    users = [re.match(r"postgres://(\w+):", environment[variable])[1] for variable in ("CONTROL_DB_URL", "DWH_URL")]  # type: ignore[index]
    assert users == [control, warehouse]


def test_production_refuses_every_development_password() -> None:
    addresses = [
        value
        for service in services().values()
        if is_techmarket(service)
        for value in service["environment"].values()
        if "://" in str(value)
    ]
    passwords = {password for address in addresses for password in re.findall(r":-(\w+)}@", address)}
    assert len(passwords) == 13 and passwords <= SEED_PASSWORDS


def test_each_process_is_a_user_of_redis() -> None:
    """The address of x-own is that of `web`, who may only send; nobody is the administrator."""
    users = {
        name: re.match(r"redis://(\w+):\$\{(\w+):-", service["environment"]["CELERY_BROKER_URL"]).groups()  # type: ignore[union-attr]
        for name, service in services().items()
        if "CELERY_BROKER_URL" in service.get("environment", {})
    }
    expected = {"web": "web", "migrate": "web", "worker": "worker", "beat": "beat", "flower": "flower"}
    assert users == {name: (user, f"REDIS_{user.upper()}_PASSWORD") for name, user in expected.items()}
    assert {variable for _, variable in users.values()} < services()["redis"]["environment"].keys()
    assert "--aclfile" in " ".join(services()["redis"]["command"])


def test_redis_keeps_every_message() -> None:
    command = " ".join(services()["redis"]["command"])
    assert "--appendonly yes" in command and "--maxmemory-policy noeviction" in command
    assert "ports" not in services()["redis"]


@pytest.mark.parametrize("name", ["web", "worker", "beat"])
def test_replica_starts_after_the_migration(name: str) -> None:
    assert services()[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services()[name]["command"] == [name]


@pytest.mark.parametrize("target", ["backup", "restore"])
def test_private_key_enters_a_container_by_stdin_alone(tmp_path: Path, target: str) -> None:
    """The user of the container could not read the file, which its owner alone may read, and no container has to store it."""
    docker, key = tmp_path / "docker", tmp_path / "my key.txt"
    docker.write_text('#!/bin/sh\n[ "$2" = version ] && exit\necho "$@"\ncat\n')
    docker.chmod(0o755)
    key.write_text("the canary\n")
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CODE_VERSION": "1"}
    make = ["make", "--no-print-directory", target, "ARGS=2026"]

    def run(*arguments: str) -> str:
        return subprocess.run([*make, *arguments], cwd=ROOT, env=env, input="", capture_output=True, text=True, timeout=60).stdout

    assert run() == f"compose run --rm migrate manage {target} 2026\n"
    assert run(f"IDENTITY={key}") == f"compose run --rm -T migrate manage {target} 2026 --identity -\nthe canary\n"
