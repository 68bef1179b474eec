"""manage.py audit: the audit log's last entries, and whether anybody has changed it."""

import json
from typing import Any

from django.core.management.base import CommandParser

from apps.audit.chain import record, verify
from apps.audit.models import Deed, Entry, Head
from apps.audit.protection import verify_protection
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop, whole_number
from techmarket.formats import format_count, shorten

SHOWN = 20
FINDINGS_SHOWN = 20
MAX_CHANGE_LENGTH = 120  # of each of before and after, which --json has in full


class Command(BaseCommand):
    help = (
        "The last entries of the audit log, the newest last. With --verify: check the chain of hashes, the seal and the triggers. "
        "Exit codes: 0 done, and with --verify nothing was changed; 2 usage; 4 the control database is unreachable or not migrated; "
        "6 entries were changed or deleted, or their protection was."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--verify", action="store_true", help="check that no entry was changed, deleted or slipped in")
        parser.add_argument("--last", type=whole_number(1, 100_000), default=SHOWN, metavar="N", help=f"entries to show (default {SHOWN})")
        parser.add_argument("--json", action="store_true", help="one JSON object for each entry, on a line of its own")

    def handle(self, **options: Any) -> None:
        if options["verify"]:
            return self.verify()
        for entry in reversed(Entry.objects.all()[: options["last"]]):
            self.stdout.write(json.dumps(to_json(entry), ensure_ascii=False) if options["json"] else describe(entry))
        return None

    def verify(self) -> None:
        found = [*verify_protection(), *verify()]
        for finding in found[:FINDINGS_SHOWN]:
            self.stdout.write(finding)
        count = Entry.objects.count()
        record(Deed.AUDIT_VERIFIED, after={"entries": count, "findings": len(found)})
        if found:
            stop(f"The audit log was changed: {format_count(len(found))} findings in {format_count(count)} entries.", ExitCode.DIFFERENT)
        self.stdout.write(
            f"Whole: {format_count(count)} entries, each follows the one before it, and the seal fits. Now {Head.objects.get()}."
        )


def describe(entry: Entry) -> str:
    """Return the entry in one line: when, who, from where, what, on what, the change and why."""
    who = f"{entry.actor or '-'}{f' ({entry.address})' if entry.address else ''}"
    change = " -> ".join(
        shorten(json.dumps(each, ensure_ascii=False), MAX_CHANGE_LENGTH, end="...") for each in (entry.before, entry.after) if each
    )
    parts = [f"{entry.number:>7}", f"{entry.at:%Y-%m-%d %H:%M:%S}", who, entry.deed, entry.object_name, change, entry.reason]
    return "  ".join(part for part in parts if part)


def to_json(entry: Entry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in Entry._meta.concrete_fields} | {"at": entry.at.isoformat()}
