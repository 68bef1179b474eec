"""manage.py forget_customer: put pseudonyms in the place of a customer, everywhere that TechMarket has the person."""

import json
from typing import Any

from django.core.management.base import CommandParser

from apps.audit.actor import os_user
from apps.orchestration.erasures import describe_certificate, erase_pending, preview_erasure, request_erasure
from apps.orchestration.management.commands.run_etl import check_reason
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.errors import Usage


class Command(BaseCommand):
    help = (
        "Forget a customer: names and address become pseudonyms in the warehouse, the rejects and the batches; sums and counts stay. "
        "No later run brings the person back. Prints a certificate, which also names the backups that still have the person. "
        "Exit codes: 0 done, 2 no such customer, 3 waits for the active run to end, 4 a database is unreachable."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=whole_number(1, 2**63 - 1), help="customers.id, as the shop has it")
        parser.add_argument("--reason", default="", help="why, such as the number of the request; without the person's name")
        parser.add_argument("--dry-run", action="store_true", help="print what would be changed, and change nothing")
        parser.add_argument("--json", action="store_true", help="print the certificate as one JSON document")

    def handle(self, **options: Any) -> None:
        customer_id, reason = options["id"], options["reason"].strip()
        if options["dry_run"]:
            found = preview_erasure(customer_id)
            self.stdout.write(json.dumps(found) if options["json"] else "\n".join(describe_certificate(found)))
            return
        if not reason:
            raise Usage("Give --reason: who reads it later wants to know why.")
        check_reason(reason)
        erasure = request_erasure(customer_id, os_user(), reason)
        if active := erase_pending():
            stop(f"Run {active.pk} is active. A worker forgets customer {customer_id} once it has ended.", ExitCode.SKIPPED)
        erasure.refresh_from_db()
        document = {"customer": customer_id, "done_at": f"{erasure.done_at:%Y-%m-%dT%H:%M:%SZ}"} | erasure.certificate
        lines = describe_certificate(erasure.certificate)
        self.stdout.write(json.dumps(document) if options["json"] else "\n".join(lines))
