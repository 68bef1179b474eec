"""Every text of the code with a next step, beside the messages of the ledger: the step is taken, or the table names who takes it."""

import pytest

from tests.failures.advice import commands
from tests.failures.advice.steps import Cause, take_text
from tests.failures.advice.texts import list_texts_with_steps
from tests.failures.conftest import Shop, needs_files

TAKEN: dict[str, Cause] = {
    "%s is not a day. Write it as 2024-01-31.": commands.no_day,
    "A full run takes everything. Give days or dates only with an incremental run.": commands.window_of_a_full_run,
    "Give --accept together with --reason: who reads it later wants to know why.": commands.accept_without_reason,
    "Give --reason: who reads it later wants to know why.": commands.forget_without_reason,
    "Give both a start and an end date; they may be the same day.": commands.window_without_an_end,
    "Give either a number of days or a start and an end date, not both.": commands.window_given_twice,
    "Give either a run (--run) or a period (--from and --to).": commands.report_of_two_things,
    "Give only one of --changes, --faults, and --orders or --replace.": commands.two_things_to_generate,
    "No run has ended yet. Start one with `manage.py run_etl`.": commands.no_run_to_report,
    "Run %d was a dry run: there is nothing to resume. Start a new run.": commands.dry_run_to_resume,
    "Run {} was a dry run and published nothing. Choose another run.": commands.dry_run_to_report,
    "The shop already has rows. Run it with --replace to delete them first.": commands.full_shop,
    "The shop is empty. Run `manage.py generate_data` first.": commands.empty_shop,
    "The warehouse is empty. Run `manage.py run_etl --mode full`.": commands.empty_warehouse,
    "There is no active run {}. `manage.py run_etl` starts one.": commands.unknown_run_to_cancel,
    "There is no day %s. Write a day of the calendar, as 2024-01-31.": commands.no_day_of_the_calendar,
    "There is no missed run {}. `manage.py schedules` lists those that await a decision.": commands.unknown_missed_run,
    "There is no open reject {}. `manage.py rejects` lists them.": commands.unknown_reject,
    "There is no region {}. Choose one of {}.": commands.unknown_region,
    "There is no run {}. Leave out --run to report the last one.": commands.unknown_run_to_report,
    "There is no run %d. `manage.py run_etl` starts a new one.": commands.unknown_run,
    "{} orders differ on {} days{}. `manage.py reconcile --repair` loads exactly these.": commands.difference,
}
NO_STEPS = (
    "// Generated from the models by `manage.py export_schema`.",
    "Accept these rejects? They no longer count as open, and their rows are not loaded. Once a row changes, its reject is open again.",
    "Accept this reject? It no longer counts as open, and its row is not loaded. Once the row changes, it is open again.",
    "Open rejects, of any day: %(count)s. The warehouse lacks %(net)s of net revenue and %(paid)s of payments.",
    "Read the order of this row again now? The reject is cleared if the row has been mended or deleted in the source.",
    "Read the orders of these rows again now? A reject is cleared if its row has been mended or deleted in the source.",
    "Set up by TechMarket: manage.py seed_metabase.",
    "Start these runs again with the same parameters? Only one run can be active: the first is queued, the others are skipped.",
    "{} {}. Open in all: {}; {}.",
)
# By the start of the file's path: who takes the steps of all its other texts.
ELSEWHERE = {
    "apps/audit/": "tests/security/test_audit.py: what migrate_all calls creates the triggers again",
    "apps/backups/": "tests/backups: each test that refuses a backup or a restore then makes one",
    "apps/bi/": "tests/bi/test_seed_metabase.py, against a fake: Metabase itself cannot run here",
    "apps/console/": "the pages name what stands on them; tests/console presses these buttons and fills these forms",
    "apps/demo/": "tests/demo: after Ctrl-C `generate_data --replace` starts over",
    "apps/monitoring/probes.py": "test_ping.py, test_broker_users.py, tests/monitoring/test_probes.py: brokers, workers, beat, clocks",
    "apps/orchestration/management/commands/rejects.py": "tests/orchestration/test_rejects.py writes the list into another file",
    "apps/orchestration/management/commands/run_etl.py": "tests/test_run_etl.py and test_interrupts.py: workers and signals",
    "apps/orchestration/management/commands/schedules.py": "a schedule that was deleted by SQL",
    "apps/orchestration/requests.py": "tests/orchestration/test_requests.py: each state in which a run cannot be resumed",
    "apps/orchestration/schedules.py": "tests/orchestration/test_schedules.py",
    "apps/schema/": "tests/schema/test_files.py holds that the files are up to date",
    "techmarket/commands.py": "tests/refusals/cases.py: each is a command that works as it is meant in other rows and tests",
    "techmarket/diagnosis.py": "test_every_step.py: database.missing_table",
    "techmarket/environment.py": "tests/test_environment.py: without such a variable TechMarket starts",
    "techmarket/installation.py": "tests/test_setup.py: an installation without its packages",
}


@needs_files
@pytest.mark.parametrize(("advice", "cause"), [pytest.param(*row, id=row[1].__name__) for row in TAKEN.items()])
def test_step_helps(shop: Shop, advice: str, cause: Cause) -> None:
    take_text(shop, cause, advice)


def test_every_text_with_a_step_has_a_row() -> None:
    texts = list_texts_with_steps()
    assert not (TAKEN.keys() | set(NO_STEPS)) - texts.keys(), "the code has these no longer"
    left = {text: file for text, file in texts.items() if text not in TAKEN and text not in NO_STEPS}
    assert not {text: file for text, file in left.items() if not file.startswith(tuple(ELSEWHERE))}
    assert not [start for start in ELSEWHERE if not any(file.startswith(start) for file in left.values())]
