"""manage.py report: what a run or a period did, and what the star says, on one page to file."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import override

from apps.console.report.evidence import COLUMNS, Evidence, of_period, of_run
from apps.console.report.pdf import printed
from apps.orchestration.window import parse_day, today
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.errors import Terminal, Usage


class Command(BaseCommand):
    help = (
        "Write one page, HTML or PDF, that needs nothing beside it: the ledger, the checks, the reconciliation, the KPIs and the rejects "
        "(without personal data) of a run or of a period. Without arguments: of the last run. "
        "Exit codes: 0 done, 1 the file cannot be written, 2 usage, 4 a database is unreachable or, for --pdf, there is no Chromium."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=whole_number(1, 2**63 - 1), metavar="N", help="of this run")
        parser.add_argument("--from", dest="start", metavar="YYYY-MM-DD", help="of the runs, and of the sales, from this business day")
        parser.add_argument("--to", dest="end", metavar="YYYY-MM-DD", help="to this one, included (default: today)")
        parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: techmarket-run-N or techmarket-FROM-TO, here)")
        parser.add_argument("--pdf", action="store_true", help="as a PDF, made by Chromium")
        parser.add_argument("--language", choices=[code for code, _ in settings.LANGUAGES], default=settings.LANGUAGE_CODE)

    def handle(self, **options: Any) -> None:
        with override(options["language"]):
            evidence = asked(options)
            page = render_to_string("console/report/report.html", {"it": evidence, "columns": COLUMNS, "made_at": timezone.now()})
        file = options["out"] or Path(f"{name(evidence)}.{'pdf' if options['pdf'] else 'html'}")
        content = printed(page) if options["pdf"] else page.encode()
        try:
            file.write_bytes(content)
        except OSError as error:
            raise Terminal(f"{file} cannot be written: {error.strerror}.") from None
        if options["verbosity"]:
            self.stdout.write(str(file))


def asked(options: dict[str, Any]) -> Evidence:
    start, end = (parse_day(options[side]) if options[side] else None for side in ("start", "end"))
    if options["run"] and (start or end):
        raise Usage("Give a run or a period: --run, or --from and --to.")
    if end and not start:
        raise Usage("--to needs --from.")
    return of_period(start, end or max(today(), start)) if start else of_run(options["run"])


def name(evidence: Evidence) -> str:
    return f"techmarket-run-{evidence.run.pk}" if evidence.run else f"techmarket-{evidence.start}-{evidence.end}"
