"""Time of planning, claiming and finishing the tasks of one run that have no rows: `python -m tests.bench.claims 40000`.

The control database must be empty: `python tests/servers.py -- python -m tests.bench.claims 40000` has one.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from techmarket.environment import set_up_django

if __name__ == "__main__":
    set_up_django()

from django.core.management import call_command
from django.db import connections

from apps.orchestration.models import Mode, Run, Stage, Task, Trigger
from apps.orchestration.outcome import finish_run
from apps.orchestration.planning import Plan
from apps.orchestration.ready import PlannedTask, claim_next_task, save_tasks
from apps.orchestration.worker.landing import land
from apps.orchestration.worker.stages import Landed
from tests.bench.printing import draw_targets
from tests.bench.targets import CLAIMS_TARGETS

SUBJECTS = {"fact_sales": 4, "dim_product": 1}  # slices of each in ten tasks; a slice is an extract and a transform
SOME = 1_000  # tasks whose mean is compared


@dataclass
class Times:
    """Seconds: of planning, and of each claim and each finish in their order."""

    planning: float = 0.0
    claims: list[float] = field(default_factory=list)
    finishes: list[float] = field(default_factory=list)


def plan_tasks(count: int) -> Iterator[PlannedTask]:
    """Yield `count` tasks and the load."""
    for subject, share in SUBJECTS.items():
        slices = count // 10 * share
        for number in range(slices):
            low, high = number * 1_000 or None, (number + 1) * 1_000 if number < slices - 1 else None
            yield PlannedTask(Stage.EXTRACT, subject, low, high)
            yield PlannedTask(Stage.TRANSFORM, subject, low, high)
    yield PlannedTask(Stage.LOAD)


def start_planned_run(count: int, times: Times) -> Run:
    """Start a run whose plan has `count` tasks and a load."""
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="bench")
    save_tasks(run, [PlannedTask(Stage.PLAN)])
    plan = claim_next_task(run, "bench")
    assert plan
    plan.run.start()
    began = time.perf_counter()
    land(plan, Landed(plan=Plan(Mode.FULL, None, None, 0, tasks=list(plan_tasks(count)))))
    times.planning = time.perf_counter() - began
    run.refresh_from_db()
    return run


def execute_tasks(run: Run, times: Times) -> Iterator[Task]:
    """Claim and finish one task after another, yielding each."""
    while True:
        began = time.perf_counter()
        task = claim_next_task(run, "bench")
        claimed = time.perf_counter()
        if task is None:
            return
        land(task, Landed())
        times.claims.append(claimed - began)
        times.finishes.append(time.perf_counter() - claimed)
        yield task


def main(count: int) -> int:
    call_command("migrate", verbosity=0)
    times = Times()
    run = start_planned_run(count, times)
    for _task in execute_tasks(run, times):
        pass
    finish_run(run)
    print(f"{count} tasks on {connections['default'].vendor}")
    print(f"planning {times.planning:.1f} s, claiming {sum(times.claims):.1f} s, finishing {sum(times.finishes):.1f} s")
    for name, each in (("claim", times.claims), ("finish", times.finishes)):
        print(f"one {name}: {mean_ms(each[:SOME]):.2f} ms among the first thousand, {mean_ms(each[-SOME:]):.2f} ms among the last")
    return int(bool(draw_targets(CLAIMS_TARGETS, compute_figures(times))))


def compute_figures(times: Times) -> dict[str, float | None]:
    """Return the measured values of CLAIMS_TARGETS."""
    each = (times.planning + sum(times.claims)) / len(times.claims) * 1_000
    values = (each, *(mean_ms(part[-SOME:]) / mean_ms(part[:SOME]) for part in (times.claims, times.finishes)))
    return dict(zip((target.figure for target in CLAIMS_TARGETS), values, strict=True))


def mean_ms(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds) * 1_000


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
