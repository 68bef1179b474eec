"""manage.py schedules: when runs start by themselves, and which missed ones await a decision."""

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandParser

from apps.audit.actor import os_user
from apps.orchestration.models import Decision, ScheduledRun, State
from apps.orchestration.schedules import (
    MODES,
    backfill_window,
    find_periodic_task,
    missed_runs,
    next_instants,
    resolve_missed_run,
    set_enabled,
)
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import Usage

NUMBER = whole_number(1, 2**63 - 1)


class Command(BaseCommand):
    help = (
        "The schedules: on or paused, their next five runs, and the runs missed during a pause, which await a decision. "
        "Exit codes: 0 done, 2 no such schedule or missed run, 3 skipped because another run is active, "
        "4 the control database is unreachable or not migrated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--pause", metavar="NAME", help="start no scheduled runs until resumed")
        one.add_argument("--resume", metavar="NAME", help="start scheduled runs again; those missed meanwhile await a decision")
        one.add_argument("--run-now", type=NUMBER, metavar="MISSED", help="run a missed run now, on the workers")
        one.add_argument("--backfill", type=NUMBER, metavar="MISSED", help="instead run the days since the schedule's last success")
        one.add_argument("--skip", type=NUMBER, metavar="MISSED", help="start no run for a missed one")

    def handle(self, **options: Any) -> None:
        for verb in ("pause", "resume"):
            if options[verb] is not None:
                set_enabled(options[verb], enabled=verb == "resume")
                self.stdout.write("\n".join(describe_schedule(options[verb])))
                return
        for verb in ("run_now", "backfill", "skip"):
            if options[verb] is not None:
                self.resolve(find_missed_run(options[verb]), verb)
                return
        for name in sorted(MODES):
            self.stdout.write("\n".join(describe_schedule(name)))

    def resolve(self, missed: ScheduledRun, verb: str) -> None:
        if verb == "skip":
            resolve_missed_run(missed, Decision.SKIPPED, os_user())
        elif verb == "backfill":
            resolve_missed_run(missed, Decision.RUN, os_user(), backfill_window(missed))
        else:
            resolve_missed_run(missed, Decision.RUN, os_user())
        if missed.run and missed.run.state == State.SKIPPED:
            stop(missed.run.cause, ExitCode.SKIPPED)
        if missed.run:
            self.stdout.write(str(missed.run.pk))


def find_missed_run(number: int) -> ScheduledRun:
    missed = missed_runs().filter(pk=number).first()
    if missed is None:
        raise Usage(f"There is no missed run {number}. `manage.py schedules` lists those that await a decision.")
    return missed


def describe_schedule(name: str) -> Iterator[str]:
    """Yield the schedule, its next runs in UTC and in the shop's time zone, and its missed runs."""
    beat = find_periodic_task(name)
    if beat is None:
        yield f"{name}: missing. `manage.py migrate_all` creates it in a new control database."
        return
    yield f"{name}: {'on' if beat.enabled else 'paused'}, {MODES[name]}. {beat.crontab.human_readable}"
    instants = next_instants(name)
    if beat.enabled and not instants:
        yield "  next    none: its crontab has no time in the coming year. Correct it in the admin"
    for instant in instants:
        local = instant.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE))
        yield f"  next    {instant:%a %Y-%m-%d %H:%M} UTC   {local:%a %Y-%m-%d %H:%M} {settings.SHOP_TIME_ZONE}"
    for missed in missed_runs().filter(schedule=name):
        yield f"  missed  {missed.scheduled_for:%a %Y-%m-%d %H:%M} UTC   decide with --run-now, --backfill or --skip {missed.pk}"
