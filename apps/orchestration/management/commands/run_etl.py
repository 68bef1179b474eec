"""manage.py run_etl: start, resume or cancel a run."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import connection

from apps.audit.actor import os_user
from apps.audit.chain import record
from apps.audit.models import Deed
from apps.orchestration import api
from apps.orchestration.models import CauseKind, Mode, Run, State, Trigger
from apps.orchestration.outcome import cancelled_by_signal, end_run
from apps.orchestration.results import document
from apps.orchestration.window import MAX_DAYS, Window, parse_day
from apps.orchestration.worker.loop import Listener, silent
from apps.orchestration.worker.presence import worker_name
from techmarket.commands import TRACEBACK, ExitCode, forget_output, stop, whole_number
from techmarket.commands import Command as BaseCommand
from techmarket.errors import Usage

MAX_REASON = 255
NOT_WITH_CANCEL = ("mode", "days", "start_date", "end_date", "dry_run", "reread", "resume", "accept", "queue", "no_wait")


class Command(BaseCommand):
    help = (
        "Bring the warehouse up to date. Without arguments: load what changed since the last run. "
        "Exit codes: 0 done, 1 failed, 2 usage, 3 skipped because another run is active, 4 configuration wrong or a dependency "
        "unreachable, 5 a blocking check failed or a brake was applied, 130 cancelled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mode", choices=Mode.values, help="full: everything; incremental (default): what changed")
        add_window_arguments(parser, "changes")
        parser.add_argument("--dry-run", action="store_true", help="do everything but publish, and show what would change")
        parser.add_argument("--reread", action="store_true", help="with --mode full: read every order, not only those that differ")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
        parser.add_argument(
            "--resume", type=whole_number(1, 2**63 - 1), metavar="RUN", help="resume an unsuccessful run at the task where it ended"
        )
        parser.add_argument("--accept", metavar="WHY", help="with --resume: publish a run that the brakes have stopped, and record why")
        parser.add_argument("--queue", action="store_true", help="let the workers execute the run, and follow it")
        parser.add_argument("--no-wait", action="store_true", help="let the workers execute it, and print its number")
        parser.add_argument("--cancel", type=whole_number(1, 2**63 - 1), metavar="RUN", help="cancel an active run within ten seconds")
        parser.add_argument("--reason", default="", help="why, for --cancel")
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")

    def handle(self, **options: Any) -> None:
        with silence(options["quiet"]):
            self.run_or_cancel(options)

    def run_or_cancel(self, options: dict[str, Any]) -> None:
        if options["cancel"] is not None or options["reason"]:
            return self.cancel(options)
        run = self.start_safely(options)
        if run.is_active and options["no_wait"]:
            return self.stdout.write(str(run.pk))
        if run.is_active:
            self.see_through(run, options)
        self.report(run, options)
        if code := exit_code(run):
            stop(closing_message(run), code)
        return None

    def start_safely(self, options: dict[str, Any]) -> Run:
        """Start or resume a run; after a signal meanwhile, cancel the run, whose number is not known here yet."""
        try:
            return self.start(options)
        except KeyboardInterrupt as error:
            if connection.connection is not None:
                for run in Run.objects.filter(state=State.QUEUED, worker=worker_name()):
                    end_run(run, cancelled_by_signal(error))
                    record(Deed.RUN_CANCELLED, run, reason=str(cancelled_by_signal(error)))
            raise

    def start(self, options: dict[str, Any]) -> Run:
        window = parse_window(options)
        queue = options["queue"] or options["no_wait"]
        accepted = read_acceptance(options)
        if options["resume"] is None:
            mode = Mode(options["mode"] or Mode.INCREMENTAL)
            return api.start_run(mode, Trigger.CLI, os_user(), window, dry_run=options["dry_run"], queue=queue, reread=options["reread"])
        if not window.is_everything or options["mode"] or options["dry_run"] or options["reread"]:
            raise Usage("--resume repeats the run's own options: do not combine it with a mode, a window, --dry-run or --reread.")
        try:
            return api.resume_run(options["resume"], queue=queue, **accepted)
        except api.CannotResume as error:
            return stop(str(error), ExitCode.SKIPPED if error.skipped else ExitCode.USAGE)

    def see_through(self, run: Run, options: dict[str, Any]) -> None:
        """Execute or follow the run to its end. The ledger records how it ended."""
        quiet = options["quiet"] or options["json"]
        try:
            with show_progress(run, quiet) as listener:
                if run.is_local:
                    # A traceback is wanted from this process, not from a pool worker.
                    api.execute_run(run, listener, 1 if options["verbosity"] >= TRACEBACK else settings.ETL_PROCESSES)
                else:
                    api.follow(run, listener, None if quiet else self.warn_unclaimed)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and not run.is_local:
                text = f"Run {run.pk} continues on the workers. `manage.py run_etl --cancel {run.pk}` cancels it."
                stop(text, ExitCode.CANCELLED)
            if options["verbosity"] >= TRACEBACK:
                traceback.print_exception(error)
            run.refresh_from_db()
            if run.is_active and isinstance(error, KeyboardInterrupt):  # before its first task
                end_run(run, cancelled_by_signal(error))
            if run.is_active:
                raise
            if isinstance(error, KeyboardInterrupt):
                record(Deed.RUN_CANCELLED, run, reason=str(cancelled_by_signal(error)))

    def warn_unclaimed(self, run: Run) -> None:
        self.stderr.write(f"No worker has claimed run {run.pk} yet. Start one: `make run`, or `celery -A techmarket worker`.")

    def cancel(self, options: dict[str, Any]) -> None:
        if options["cancel"] is None or any(options[name] for name in NOT_WITH_CANCEL):
            raise Usage("Combine --cancel only with --reason, and --reason only with --cancel.")
        check_reason(options["reason"])
        run = api.cancel_run(options["cancel"], os_user(), options["reason"])
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
            elif not options["quiet"] and is_worth_showing(run):
                from apps.orchestration.terminal import show  # see show_progress

                show(run)
            sys.stdout.flush()
        except OSError as error:
            # A failed report does not change the run's result; a reader may close the pipe early (`| head -1`).
            forget_output()
            if not isinstance(error, BrokenPipeError):
                text = f"{run} has {run.state}, but its report cannot be written: {error.strerror}. It is in the admin."
                stop(text, ExitCode.FAILED)


def show_progress(run: Run, quiet: bool) -> AbstractContextManager[Listener]:
    """Show the progress on a terminal. rich is not imported where nothing is shown: it takes a tenth of a run with nothing to do."""
    if quiet:
        return nullcontext(silent)
    from apps.orchestration.terminal import progress

    return progress(run, quiet)


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """Keep the log to warnings; a JSON log for a collector reports successful runs, too."""
    if quiet:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def is_worth_showing(run: Run) -> bool:
    """Return False for an unsuccessful run whose cause is enough; a run that failed its checks shows them."""
    return run.state == State.SUCCEEDED or run.checks.filter(passed=False, blocking=True).exists()


def closing_message(run: Run) -> str:
    """Return the cause, and the next step where the cause does not name one."""
    if run.state == State.CANCELLED and not run.dry_run:
        return f"{run.cause} `manage.py run_etl --resume {run.pk}` resumes it."
    if run.cause_kind == CauseKind.BUG:
        return f"{run.cause} This is a bug; -v 3 shows the traceback."
    return str(run.cause)


def exit_code(run: Run) -> ExitCode:
    if run.state == State.FAILED:
        codes = {CauseKind.CONFIGURATION: ExitCode.CONFIGURATION, CauseKind.DATA: ExitCode.REFUSED}
        return codes.get(CauseKind(run.cause_kind), ExitCode.FAILED)
    states = {State.SUCCEEDED: ExitCode.DONE, State.SKIPPED: ExitCode.SKIPPED, State.CANCELLED: ExitCode.CANCELLED}
    return states.get(State(run.state), ExitCode.FAILED)


def add_window_arguments(parser: CommandParser, what: str) -> None:
    """Add the options that `parse_window` reads. `what`: of which the days are taken."""
    parser.add_argument("--days", type=whole_number(1, MAX_DAYS), metavar="N", help=f"{what} of the last N days, today included")
    parser.add_argument("--start-date", metavar="YYYY-MM-DD", help=f"{what} from this day of the shop's calendar")
    parser.add_argument("--end-date", metavar="YYYY-MM-DD", help=f"{what} to this day, inclusive")


def read_acceptance(options: dict[str, Any]) -> dict[str, str]:
    """Return the name and the reason with which --accept resumes a run; empty without it."""
    if options["accept"] is None:
        return {}
    reason = " ".join(options["accept"].split())
    if options["resume"] is None or not reason:
        raise Usage('--accept needs a run and a reason: --resume RUN --accept "why".')
    check_reason(reason, "--accept")
    return {"accepted_by": os_user(), "because": reason}


def check_reason(text: str, option: str = "--reason") -> None:
    """Raise Usage where the ledger cannot hold the text."""
    if len(text) > MAX_REASON:
        raise Usage(f"{option}: at most {MAX_REASON} characters.")


def read_orders(orders: list[int], reason: str) -> Run:
    """Execute a run of exactly these orders. Exits where another run is active."""
    run = api.start_run(Mode.INCREMENTAL, Trigger.CLI, os_user(), orders=orders, reason=reason)
    if run.state == State.SKIPPED:
        stop(str(run.cause), ExitCode.SKIPPED)
    api.execute_run(run, processes=settings.ETL_PROCESSES)
    return run


def parse_window(options: dict[str, Any]) -> Window:
    first, last = (parse_day(options[name]) if options[name] is not None else None for name in ("start_date", "end_date"))
    return Window.from_options(options["days"], first, last)
