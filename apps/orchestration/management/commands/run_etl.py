"""manage.py run_etl: one run, here, now."""

import getpass
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import connection

from apps.orchestration import api
from apps.orchestration.models import Blame, Mode, Run, State, Trigger
from apps.orchestration.results import document
from apps.orchestration.terminal import progress, show
from apps.orchestration.window import MOST_DAYS, between, business_day, last_days
from apps.orchestration.worker.loop import by_signal, end, worker_name
from techmarket.commands import TRACEBACK, ExitCode, forget_output, stop, whole_number
from techmarket.commands import Command as BaseCommand
from techmarket.errors import Usage

MOST_REASON = 255
BESIDE_CANCEL = ("mode", "days", "start_date", "end_date", "dry_run", "resume", "queue", "no_wait")


class Command(BaseCommand):
    help = (
        "Bring the warehouse up to date. Without arguments: what changed since the last run. "
        "Exit codes: 0 done, 1 failed, 2 usage, 3 skipped because another run is active, 4 configuration wrong or a dependency "
        "unreachable, 5 the checks refused to publish, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mode", choices=Mode.values, help="full: everything; incremental (default): what changed")
        parser.add_argument(
            "--days", type=whole_number(1, MOST_DAYS), metavar="N", help="changes of the last N business days, today included"
        )
        parser.add_argument("--start-date", metavar="YYYY-MM-DD", help="changes from this business day")
        parser.add_argument("--end-date", metavar="YYYY-MM-DD", help="to this business day, included")
        parser.add_argument("--dry-run", action="store_true", help="do all but publish, and show what would change")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
        parser.add_argument(
            "--resume", type=whole_number(1, 2**63 - 1), metavar="RUN", help="go on with a run that failed, where it failed"
        )
        parser.add_argument("--queue", action="store_true", help="hand the run to the workers, and follow it")
        parser.add_argument("--no-wait", action="store_true", help="hand it to the workers, and print its number")
        parser.add_argument("--cancel", type=whole_number(1, 2**63 - 1), metavar="RUN", help="end an active run within ten seconds")
        parser.add_argument("--reason", default="", help="why, for --cancel")
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")

    def handle(self, **options: Any) -> None:
        if options["cancel"] is not None or options["reason"]:
            return self.cancel(options)
        run = self.asked(options)
        if run.is_active and options["no_wait"]:
            return self.stdout.write(str(run.pk))
        if run.is_active:
            self.see_through(run, options)
        self.report(run, options)
        if code := exit_code(run):
            stop(sentence(run), code)
        return None

    def asked(self, options: dict[str, Any]) -> Run:
        try:
            return self.wanted(options)
        except KeyboardInterrupt as error:
            # It may be written down already, though we do not know its number.
            if connection.connection is not None:
                for run in Run.objects.filter(state=State.QUEUED, worker=worker_name()):
                    end(run, by_signal(error))
            raise

    def wanted(self, options: dict[str, Any]) -> Run:
        first, last = window(options)
        queue = options["queue"] or options["no_wait"]
        if options["resume"] is None:
            mode = Mode(options["mode"] or Mode.INCREMENTAL)
            return api.start(mode, Trigger.CLI, user(), first, last, dry_run=options["dry_run"], queue=queue)
        if first or options["mode"] or options["dry_run"]:
            raise Usage("--resume goes on with a run as it was asked for: give no mode, window or --dry-run beside it.")
        try:
            return api.resume(options["resume"], queue=queue)
        except api.CannotResume as error:
            return stop(str(error), ExitCode.SKIPPED if error.skipped else ExitCode.USAGE)

    def see_through(self, run: Run, options: dict[str, Any]) -> None:
        """To its end, here or at the workers. How it ended is in the ledger, whatever ended it."""
        quiet = options["quiet"] or options["json"]
        try:
            with silence(options["quiet"]), progress(run, quiet) as listener:
                if run.worker:
                    # Whoever looks for a bug wants its traceback: it must happen here, not in a process beside this one.
                    api.carry_out(run, listener, 1 if options["verbosity"] >= TRACEBACK else settings.ETL_PROCESSES)
                else:
                    api.follow(run, listener, None if quiet else self.no_worker)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and not run.worker:
                stop(f"Run {run.pk} goes on at the workers. `manage.py run_etl --cancel {run.pk}` ends it.", ExitCode.CANCELLED)
            if options["verbosity"] >= TRACEBACK:
                traceback.print_exception(error)
            run.refresh_from_db()
            if run.is_active and isinstance(error, KeyboardInterrupt):  # before it began
                end(run, by_signal(error))
            if run.is_active:
                raise

    def no_worker(self, run: Run) -> None:
        self.stderr.write(f"No worker has taken run {run.pk} yet. Start one: `make run`, or `celery -A techmarket worker`.")

    def cancel(self, options: dict[str, Any]) -> None:
        if options["cancel"] is None or any(options[name] for name in BESIDE_CANCEL):
            raise Usage("--cancel goes with --reason at most, and --reason with --cancel alone.")
        if len(options["reason"]) > MOST_REASON:
            raise Usage(f"--reason: at most {MOST_REASON} characters.")
        run = api.cancel(options["cancel"], user(), options["reason"])
        if run is None:
            stop(f"There is no active run {options['cancel']}. `manage.py run_etl` starts one.", ExitCode.USAGE)
        if not options["quiet"]:
            self.stdout.write(f"{run} ends within ten seconds." if run.is_active else f"{run} is cancelled.")

    def report(self, run: Run, options: dict[str, Any]) -> None:
        run.refresh_from_db()
        try:
            if options["json"]:
                utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
                print(json.dumps(document(run), ensure_ascii=not utf8, default=str))
            elif not options["quiet"] and worth_showing(run):
                show(run)
            sys.stdout.flush()
        except OSError as error:
            # The run has ended as it has, whatever becomes of the report; a reader may leave early (`| head -1`).
            forget_output()
            if not isinstance(error, BrokenPipeError):
                stop(f"{run} has {run.state}, but its report cannot be written: {error.strerror}. It is in the admin.", ExitCode.FAILED)


@contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Where the log is for a collector, it tells of a run that goes well too."""
    if wanted:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def worth_showing(run: Run) -> bool:
    """Of a run that came to nothing the sentence says it all, unless checks refused it."""
    return run.state == State.SUCCEEDED or run.checks.filter(passed=False, blocking=True).exists()


def sentence(run: Run) -> str:
    """The cause, and what to do next where the cause does not say it."""
    if run.state == State.CANCELLED and not run.dry_run:
        return f"{run.cause} `manage.py run_etl --resume {run.pk}` goes on with it."
    if run.cause.startswith("Unexpected "):
        return f"{run.cause} This is a bug; -v 3 shows the traceback."
    return run.cause


def exit_code(run: Run) -> ExitCode:
    if run.state == State.FAILED:
        return {Blame.CONFIGURATION: ExitCode.CONFIGURATION, Blame.DATA: ExitCode.REFUSED}.get(Blame(run.blame), ExitCode.FAILED)
    codes = {State.SUCCEEDED: ExitCode.DONE, State.SKIPPED: ExitCode.SKIPPED, State.CANCELLED: ExitCode.CANCELLED}
    return codes.get(State(run.state), ExitCode.FAILED)


def window(options: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    days, start, end = options["days"], options["start_date"], options["end_date"]
    if days is None and start is None and end is None:
        return None, None
    if options["mode"] == Mode.FULL:
        raise Usage("A full run takes everything: --days, --start-date and --end-date go with --mode incremental.")
    if days is not None:
        if start is not None or end is not None:
            raise Usage("Give either --days or --start-date with --end-date, not both.")
        return last_days(days)
    if start is None or end is None:
        raise Usage("--start-date and --end-date go together: give both; they may be the same day.")
    return between(business_day(start), business_day(end))


def user() -> str:
    """Whoever asks, as far as the ledger can hold it."""
    try:
        return getpass.getuser().encode("utf-8", "backslashreplace").decode()[:150]
    except (OSError, KeyError):
        return "unknown"
