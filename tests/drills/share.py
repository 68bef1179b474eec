"""Two workers share one full run; one of them is killed: nothing is lost. On two network namespaces where the machine allows it."""

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

from apps.orchestration.models import Run, State
from tests.drills.ground import Program, nothing_left, promise, right_star, start, start_beat, start_worker, succeeded, until, workers
from tests.drills.proxy import Proxy

ADDRESSES = ("CONTROL_DB_URL", "DWH_URL", "AUTH_DB_URL", "CATALOG_DB_URL", "ORDERS_DB_URL", "PAYMENTS_DB_URL", "CELERY_BROKER_URL")
NETWORK = "10.213.77"


def drill(times: int) -> Iterator[str]:
    start_beat()
    yield f"two processes: {shared(workers(2))}"
    with ExitStack() as stack:
        if refusal := namespaces_refused():
            yield f"SKIPPED on two network namespaces: {refusal}"
            return
        crew = [start_worker(prefix=namespace(stack, number), **through_proxies(stack, number)) for number in (1, 2)]
        for worker in crew:
            until(worker.is_up, "a worker is ready", every=0.1)
        yield f"two network namespaces: {shared(crew)}"


def shared(crew: list[Program]) -> str:
    """One run that both share, and one in which the first is killed while it holds a task."""
    groups = [worker.pids() for worker in crew]
    whole = succeeded(start("full"))
    counts = claims(whole, groups)
    promise(len(counts) == 2 and "?" not in counts, f"claims by worker: {counts}")
    run = start("full")
    held = run.tasks.filter(state=State.RUNNING, worker__regex=f":({'|'.join(map(str, groups[0]))})$")
    until(lambda: run.tasks.filter(state=State.SUCCEEDED).count() > 4 and held.exists(), "the first worker holds a task", every=0.002)
    crew[0].signal(signal.SIGKILL)
    succeeded(run)
    crew[0].kill()
    again = run.tasks.filter(attempt__gt=1).count()
    promise(claims(run, groups).get("2", 0), "the second worker did nothing")
    nothing_left()
    right_star()
    crew[1].kill()
    return f"claims by worker {dict(counts)}; one killed in the next run: it succeeded in {run.seconds} s, {again} of its tasks done again"


def claims(run: Run, groups: list[set[int]]) -> Counter[str]:
    owner = {str(pid): str(number) for number, pids in enumerate(groups, 1) for pid in pids}
    return Counter(owner.get(worker.rpartition(":")[2], "?") for worker in run.tasks.values_list("worker", flat=True))


def namespaces_refused() -> str:
    if not shutil.which("ip"):
        return "there is no `ip` here (Debian: iproute2)"
    tried = subprocess.run(["ip", "netns", "add", "drill0"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "drill0"], capture_output=True)
    return tried.stderr.strip()


def namespace(stack: ExitStack, number: int) -> list[str]:
    """A network of its own with one cable to ours. What begins a command in it."""
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


def through_proxies(stack: ExitStack, number: int) -> dict[str, str]:
    """The servers' addresses as that network sees them: they themselves listen on 127.0.0.1 alone."""
    host = f"{NETWORK}.{number * 4 + 1}"
    return {name: stack.enter_context(Proxy(os.environ[name], host)).url for name in ADDRESSES if urlsplit(os.environ[name]).hostname}
