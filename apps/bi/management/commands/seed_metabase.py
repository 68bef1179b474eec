"""manage.py seed_metabase: set up the KPIs in Metabase."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import translation

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.bi.client import Metabase, understood
from apps.bi.seeding import Outcome, clear, seed
from techmarket.commands import Command as BaseCommand
from techmarket.commands import whole_number
from techmarket.errors import EtlError, Misconfigured

LONGEST_WAIT_S = 3600


class Command(BaseCommand):
    help = "Set up Metabase: the warehouse as bi_reader, the KPIs as questions, and the TechMarket KPI Dashboard. Safe to run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--clear", action="store_true", help="remove the objects that this command created, and nothing else")
        parser.add_argument(
            "--language", choices=[code for code, _ in settings.LANGUAGES], default="en", help="language of names and titles (default en)"
        )
        parser.add_argument(
            "--wait",
            type=whole_number(0, LONGEST_WAIT_S),
            default=180,
            metavar="SECONDS",
            help="how long to wait for Metabase to start (default 180)",
        )

    def handle(self, **options: Any) -> None:
        check_settings(needs_warehouse=not options["clear"])
        metabase = Metabase(settings.METABASE_URL)
        metabase.wait(options["wait"])
        with understood(metabase):
            metabase.log_in(settings.METABASE_USER, settings.METABASE_PASS, set_up=not options["clear"])
        try:
            with translation.override(options["language"]), understood(metabase):
                outcome = clear(metabase) if options["clear"] else seed(metabase, settings.DWH_BI)
        finally:
            with suppress(EtlError):
                metabase.log_out()
        record_command(Deed.METABASE_SEEDED, {"address": settings.METABASE_URL, "cleared": options["clear"]})
        self.stdout.write(summarize_clear(outcome) if options["clear"] else summarize_seed(outcome))


def check_settings(needs_warehouse: bool) -> None:
    for name in ("METABASE_USER", "METABASE_PASS"):
        if not getattr(settings, name):
            raise Misconfigured(f"{name} is not set. Set the e-mail address and password of Metabase's administrator (.env.example).")
    if needs_warehouse and not settings.DWH_BI.get("HOST"):
        raise Misconfigured(
            "DWH_BI_URL is not set. Set the warehouse's address as Metabase reaches it: postgres://bi_reader:password@host:5432/dwh."
        )


def summarize_seed(outcome: Outcome) -> str:
    return f"{outcome.created} created, {outcome.updated} updated, {outcome.unchanged} unchanged. {outcome.address}"


def summarize_clear(outcome: Outcome) -> str:
    return " ".join([f"{outcome.removed} removed.", *(f"Kept: {each}." for each in outcome.retained)])
