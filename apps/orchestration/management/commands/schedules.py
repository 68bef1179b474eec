"""manage.py schedules: when the warehouse is brought up to date by itself, and what waits for a word."""

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandParser

from apps.orchestration.management.commands.run_etl import user
from apps.orchestration.models import Decision, Due, State
from apps.orchestration.schedules import MODES, answer, beat_of, gap, held, next_due, pause
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import Usage

DUE = whole_number(1, 2**63 - 1)


class Command(BaseCommand):
    help = (
        "The schedules: on or paused, the next five due instants, and what fell into a pause and waits for an operator's word. "
        "Exit codes: 0 done, 2 no such schedule or nothing held under this number, 3 skipped because another run is active, "
        "4 the control database is unreachable or not migrated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--pause", metavar="NAME", help="no run by itself until it is resumed")
        one.add_argument("--resume", metavar="NAME", help="go on; what was due meanwhile is held until it is answered")
        one.add_argument("--run-now", type=DUE, metavar="DUE", help="the run of a held due instant, at the workers")
        one.add_argument("--backfill", type=DUE, metavar="DUE", help="instead: the business days since the schedule's last success")
        one.add_argument("--skip", type=DUE, metavar="DUE", help="no run for a held due instant")

    def handle(self, **options: Any) -> None:
        for word in ("pause", "resume"):
            if options[word] is not None:
                pause(options[word], enabled=word == "resume")
                self.stdout.write("\n".join(described(options[word])))
                return
        for word in ("run_now", "backfill", "skip"):
            if options[word] is not None:
                self.answer(waiting(options[word]), word)
                return
        for name in sorted(MODES):
            self.stdout.write("\n".join(described(name)))

    def answer(self, due: Due, word: str) -> None:
        if word == "skip":
            answer(due, Decision.SKIPPED, user())
        elif word == "backfill":
            answer(due, Decision.RUN, user(), gap(due))
        else:
            answer(due, Decision.RUN, user())
        if due.run and due.run.state == State.SKIPPED:
            stop(due.run.cause, ExitCode.SKIPPED)
        if due.run:
            self.stdout.write(str(due.run.pk))


def waiting(number: int) -> Due:
    due = held().filter(pk=number).first()
    if due is None:
        raise Usage(f"No due instant {number} is held. `manage.py schedules` lists those that are.")
    return due


def described(name: str) -> Iterator[str]:
    """The schedule, its next instants in UTC and as the shop's clock shows them, and what is held."""
    beat = beat_of(name)
    if beat is None:
        yield f"{name}: missing. `manage.py migrate_all` makes it in a new control database."
        return
    yield f"{name}: {'on' if beat.enabled else 'paused'}, {MODES[name]}. {beat.crontab.human_readable}"
    for instant in next_due(name) if beat.enabled else ():
        local = instant.astimezone(ZoneInfo(settings.SHOP_TIME_ZONE))
        yield f"  next  {instant:%a %Y-%m-%d %H:%M} UTC   {local:%a %Y-%m-%d %H:%M} {settings.SHOP_TIME_ZONE}"
    for due in held().filter(schedule=name):
        yield f"  held  {due.due_at:%a %Y-%m-%d %H:%M} UTC   answer with --run-now, --backfill or --skip {due.pk}"
