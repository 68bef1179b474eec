"""Two workers share one full run; one of them is killed: nothing is lost. On two network namespaces where the machine allows them."""

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

from apps.orchestration.models import Run, State
from tests.drills.harness import (
    Program,
    require,
    require_correct_warehouse,
    require_nothing_left,
    start_beat,
    start_queued_run,
    start_worker,
    wait_for_success,
    wait_until,
    workers,
)
from tests.drills.proxy import Proxy

ADDRESSES = ("CONTROL_DB_URL", "DWH_URL", "AUTH_DB_URL", "CATALOG_DB_URL", "ORDERS_DB_URL", "PAYMENTS_DB_URL", "CELERY_BROKER_URL")
NETWORK = "10.213.77"


def drill(times: int) -> Iterator[str]:
    start_beat()
    yield f"two processes: {run_shared(workers(2))}"
    with ExitStack() as stack:
        if obstacle := find_namespace_obstacle():
            yield f"SKIPPED on two network namespaces: {obstacle}"
            return
        pool = [start_worker(prefix=create_namespace(stack, number), **proxy_urls(stack, number)) for number in (1, 2)]
        for worker in pool:
            wait_until(worker.is_up, "a worker is ready", every=0.1)
        yield f"two network namespaces: {run_shared(pool)}"


def run_shared(pool: list[Program]) -> str:
    """Execute one run that both workers share, and one in which the first is killed while it holds a task."""
    groups = [worker.pids() for worker in pool]
    undisturbed = wait_for_success(start_queued_run("full"))
    counts = count_claims(undisturbed, groups)
    require(len(counts) == 2 and "?" not in counts, f"claims by worker: {counts}")
    run = start_queued_run("full")
    held = run.tasks.filter(state=State.RUNNING, worker__regex=f":({'|'.join(map(str, groups[0]))})$")
    wait_until(lambda: run.tasks.filter(state=State.SUCCEEDED).count() > 4 and held.exists(), "the first worker holds a task", every=0.002)
    pool[0].signal(signal.SIGKILL)
    wait_for_success(run)
    pool[0].kill()
    retried = run.tasks.filter(attempt__gt=1).count()
    require(count_claims(run, groups).get("2", 0), "the second worker did nothing")
    require_nothing_left()
    require_correct_warehouse()
    pool[1].kill()
    return (
        f"claims by worker {dict(counts)}; one killed in the next run: it succeeded in {run.seconds} s, {retried} of its tasks done again"
    )


def count_claims(run: Run, groups: list[set[int]]) -> Counter[str]:
    owner = {str(pid): str(number) for number, pids in enumerate(groups, 1) for pid in pids}
    return Counter(owner.get(worker.rpartition(":")[2], "?") for worker in run.tasks.values_list("worker", flat=True))


def find_namespace_obstacle() -> str:
    if not shutil.which("ip"):
        return "there is no `ip` here (Debian: iproute2)"
    result = subprocess.run(["ip", "netns", "add", "drill0"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "drill0"], capture_output=True)
    return result.stderr.strip()


def create_namespace(stack: ExitStack, number: int) -> list[str]:
    """Create a network namespace linked to this one. Return the command prefix that runs a program in it."""
    name, here, there = f"drill{number}", f"drill{number}h", f"drill{number}n"
    ip("netns", "add", name)
    stack.callback(ip, "netns", "del", name)
    ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    ip("addr", "add", f"{NETWORK}.{number * 4 + 1}/30", "dev", here)
    ip("link", "set", here, "up")
    ip("-n", name, "addr", "add", f"{NETWORK}.{number * 4 + 2}/30", "dev", there)
    ip("-n", name, "link", "set", there, "up")
    ip("-n", name, "link", "set", "lo", "up")
    return ["ip", "netns", "exec", name]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def proxy_urls(stack: ExitStack, number: int) -> dict[str, str]:
    """Return the servers' URLs as seen from that namespace, through proxies: the servers listen only on 127.0.0.1."""
    host = f"{NETWORK}.{number * 4 + 1}"
    return {name: stack.enter_context(Proxy(os.environ[name], host)).url for name in ADDRESSES if urlsplit(os.environ[name]).hostname}
