"""The arguments of both commands that say with what a backup is read, and the record of a backup that was accepted without a signature."""

from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from apps.audit.chain import record_command
from apps.audit.models import Deed
from apps.backups.encryption import STDIN
from apps.backups.manifest import Signature
from apps.backups.restore import Backup, Trust


def add_trust_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--identity",
        metavar="FILE",
        help=f"file with the private key of an encrypted backup, {STDIN} for stdin (default: BACKUP_IDENTITY_FILE)",
    )
    parser.add_argument(
        "--accept-unsigned",
        type=read_reason,
        metavar="REASON",
        help="accept a backup without a valid signature; the audit log records the reason",
    )


def read_reason(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("the reason is empty")
    return text.strip()


def read_trust(options: dict[str, Any]) -> Trust:
    return Trust(options["identity"] or str(settings.BACKUP_IDENTITY_FILE or ""), options["accept_unsigned"] or "")


def record_acceptance(backup: Backup, trust: Trust) -> None:
    """Record the reason for a backup without a valid signature, before anything of it is used."""
    if backup.manifest.signature != Signature.VALID:
        record_command(Deed.BACKUP_ACCEPTED, {"backup": backup.name, "signature": backup.manifest.signature}, reason=trust.reason)
