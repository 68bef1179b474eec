"""manage.py report: the ledger of a run or a period, and the KPIs, on one page to file."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.template.loader import render_to_string
from django.utils.translation import override

from apps.audit.chain import record
from apps.audit.models import Deed
from apps.console.report.evidence import COLUMNS, Evidence, report_period, report_run
from apps.console.report.pdf import print_to_pdf
from apps.orchestration import clock
from apps.orchestration.window import parse_day, today
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.errors import Terminal, Usage


class Command(BaseCommand):
    help = (
        "Write the report of a run, or of the sales of a period and the runs that wrote them, as one self-contained page, HTML or PDF: "
        "rows, checks, reconciliation, KPIs and "
        "rejected rows (without personal data). Without arguments: the last finished run. "
        "Exit codes: 0 done, 1 the file cannot be written, 2 usage, 4 a database is unreachable or, for a PDF, there is no Chromium."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=whole_number(1, 2**63 - 1), metavar="N", help="report this run")
        parser.add_argument("--from", dest="start", metavar="YYYY-MM-DD", help="first day, of the shop's calendar")
        parser.add_argument("--to", dest="end", metavar="YYYY-MM-DD", help="last day, inclusive (default: today)")
        parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: techmarket-run-N, techmarket-FROM-TO)")
        parser.add_argument("--pdf", action="store_true", help="write a PDF, which needs Chromium; so does a FILE that ends in .pdf")
        parser.add_argument(
            "--language", choices=[code for code, _ in settings.LANGUAGES], default=settings.LANGUAGE_CODE, help="language of the page"
        )

    def handle(self, **options: Any) -> None:
        with override(options["language"]):
            evidence = read_evidence(options)
            page = render_to_string("console/report/report.html", {"report": evidence, "columns": COLUMNS, "made_at": clock.now()})
        is_pdf = options["pdf"] or (options["out"] is not None and options["out"].suffix.lower() == ".pdf")
        file = options["out"] or Path(f"{default_name(evidence)}.{'pdf' if is_pdf else 'html'}")
        content = print_to_pdf(page) if is_pdf else page.encode()
        try:
            file.write_bytes(content)
        except OSError as error:
            raise Terminal(f"{file} cannot be written: {error.strerror}. Choose another file with --out.") from None
        record(Deed.REPORT_WRITTEN, evidence.run, after={"file": file.name})
        if options["verbosity"]:
            self.stdout.write(str(file))
            for reservation in evidence.reservations:
                self.stderr.write(reservation)


def read_evidence(options: dict[str, Any]) -> Evidence:
    start, end = (parse_day(options[side]) if options[side] else None for side in ("start", "end"))
    if options["run"] and (start or end):
        raise Usage("Give either a run (--run) or a period (--from and --to).")
    if end and not start:
        raise Usage("--to needs --from.")
    return report_period(start, end or max(today(), start)) if start else report_run(options["run"])


def default_name(evidence: Evidence) -> str:
    return f"techmarket-run-{evidence.run.pk}" if evidence.run else f"techmarket-{evidence.start}-{evidence.end}"
