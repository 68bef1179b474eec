"""`--workers`: queued runs on different numbers of Celery workers, and the length of their publishing transactions."""

from collections.abc import Sequence

from rich.table import Table

from tests.bench import harness, ours
from tests.bench.measure import Cost, median
from tests.bench.printing import Report, draw_targets, log, report, screen
from tests.bench.publication import watch_publication
from tests.bench.targets import WORKERS_TARGETS, select_judged

KINDS = ("first load", "1 % changed")
Lengths = dict[str, float]  # kind of run -> s of its publishing transaction


def measure_workers(numbers: Sequence[int], orders: int, rounds: int) -> Report:
    log(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    costs: dict[int, list[Cost]] = {number: [] for number in numbers}
    lengths: dict[int, list[Lengths]] = {number: [] for number in numbers}
    for round_number in range(rounds):
        for turn, number in enumerate(numbers):
            cost, published = measure_number(number, len(numbers) * round_number + turn)
            costs[number].append(cost)
            lengths[number].append(published)
            log(f"round {round_number + 1}: {name_workers(number)}: {cost.wall:.2f} s, published in {published[KINDS[0]]:.2f} s")
    medians = {number: median(each) for number, each in costs.items()}
    longest = {number: {kind: max(each[kind] for each in published) for kind in KINDS} for number, published in lengths.items()}
    draw_workers(medians, longest)
    values = compute_figures(medians, longest)
    missed = draw_targets(select_judged(WORKERS_TARGETS, orders), values)
    details = {"publishing_s": {name_workers(number): each for number, each in longest.items()}}
    return report(details, {name_workers(number): cost for number, cost in medians.items()}, values), missed


def measure_number(number: int, turn: int) -> tuple[Cost, Lengths]:
    """Execute a first load on `number` workers, then an incremental run after 1 % has changed. Return the cost of the first load."""
    harness.empty_targets()
    harness.checkpoint()
    lengths = {}
    with ours.run_workers(number):
        with watch_publication() as publication:
            cost, _ = ours.run("full", "--queue")
        lengths[KINDS[0]] = publication.longest
        harness.age_changes()
        harness.change_one_percent(turn % 100)
        harness.checkpoint()
        with watch_publication() as publication:
            ours.run("incremental", "--queue")
        lengths[KINDS[1]] = publication.longest
    return cost, lengths


def compute_figures(medians: dict[int, Cost], longest: dict[int, Lengths]) -> dict[str, float | None]:
    """Return the measured values of WORKERS_TARGETS; the speed-up is None where one worker or two were not measured."""
    one, two = medians.get(1), medians.get(2)
    values = (one.wall / two.wall if one and two else None, *(max(each[kind] for each in longest.values()) for kind in KINDS))
    return dict(zip((target.figure for target in WORKERS_TARGETS), values, strict=True))


def draw_workers(medians: dict[int, Cost], longest: dict[int, Lengths]) -> None:
    """Print time, speed-up against one worker, or the first number where one was not measured, and publishing transactions."""
    base = 1 if 1 in medians else next(iter(medians))
    table = Table("first full load, queued", "s", f"times as fast as {name_workers(base)}", *(f"publishing, s: {kind}" for kind in KINDS))
    for number, cost in medians.items():
        speed_up = f"{medians[base].wall / cost.wall:.2f}"
        table.add_row(name_workers(number), f"{cost.wall:.2f}", speed_up, *(f"{longest[number][kind]:.2f}" for kind in KINDS))
    screen.print(table)


def name_workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"
