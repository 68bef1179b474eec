"""Restoring a backup into empty databases, and verifying it in throwaway ones."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from django.conf import settings

from apps.backups import manifest
from apps.backups.backup import Progress, ignore_progress
from apps.backups.dump_file import DumpFile
from apps.backups.encryption import Identities, WrongKey, read_identities
from apps.backups.manifest import Dump, Manifest, Signature
from apps.backups.measure import find_differences
from apps.backups.stores import Store, get_store
from apps.backups.stores.base import NAMES_SHOWN, ThrowawayRefused, join_names
from apps.orchestration.requests import describe_active_run, find_active_run
from techmarket.diagnosis import diagnosed
from techmarket.errors import AccessDenied, BackupDamaged, EtlError, Misconfigured, NotMigrated, Usage

ACCEPT_STEP = "if you know who made it, and that nobody has changed it, run the command again with --accept-unsigned and the reason"
UNTRUSTED = {
    Signature.MISSING: f"is not signed: version 0.1.0 made it, or somebody has removed its signature. Look where it is from; {ACCEPT_STEP}",
    Signature.FOREIGN: (
        "is not signed by the SECRET_KEY of this installation, or its manifest was changed. Add the key with which it was made to "
        f"SECRET_KEY_FALLBACKS; if that key is lost, look where the backup is from; {ACCEPT_STEP}"
    ),
}
IDENTITY_STEP = "Name the file with its private key by --identity or BACKUP_IDENTITY_FILE, then run the command again"


class RefusedObjects(AccessDenied):
    """A server refuses a view, a trigger or another thing besides tables to this user."""


class RunActive(Usage):
    """A run is active. Cancel it, or wait until it has ended."""


class Untrusted(BackupDamaged):
    """A backup has no valid signature."""


@dataclass(frozen=True)
class Trust:
    """With what a backup is read: a file with private keys, and the reason to accept a backup without a valid signature; or neither."""

    identity: str = ""
    reason: str = ""

    @cached_property
    def identities(self) -> Identities:
        """The private keys. Stdin can be read only once."""
        return read_identities(self.identity)


@dataclass(frozen=True)
class Backup:
    """A backup that has been checked. `manifest` names the databases to restore, `identities` are the keys that read their files."""

    folder: Path
    manifest: Manifest
    identities: Identities = ()

    @property
    def name(self) -> str:
        return self.folder.name

    def find_file(self, dump: Dump) -> DumpFile:
        return DumpFile(manifest.find_file(self.folder, dump), self.identities)


def check_backup(folder: Path, trust: Trust, only: Sequence[str] = ()) -> Backup:
    """Check signature, files, keys, servers and programs, and change nothing. Return the backup, reduced to the databases of `only`.

    Raises Usage, Misconfigured or BackupDamaged.
    """
    whole = manifest.read_manifest(folder)
    refuse_untrusted(folder, whole, trust)
    chosen = choose_databases(folder, whole, only)
    manifest.check_files(folder, whole, list(chosen.databases))
    backup = open_backup(folder, chosen, trust)
    for alias, dump in chosen.databases.items():
        store = get_store(alias)
        store.find_dump_program()
        if dump.vendor != store.vendor:
            raise Misconfigured(
                f"{folder.name} contains {alias} from {dump.server}, but {settings.VARIABLES[alias]} names another kind of server."
            )
    return backup


def refuse_untrusted(folder: Path, whole: Manifest, trust: Trust) -> None:
    """Raise Untrusted if the manifest has no valid signature, and nobody has given a reason to accept it."""
    if whole.signature in UNTRUSTED and not trust.reason:
        raise Untrusted(f"{folder.name} {UNTRUSTED[whole.signature]}.")


def choose_databases(folder: Path, whole: Manifest, only: Sequence[str]) -> Manifest:
    if unknown := [alias for alias in only if alias not in whole.databases]:
        raise Usage(f"{folder.name} does not contain {', '.join(unknown)}; it contains {', '.join(whole.databases)}.")
    chosen = whole.select(only or whole.databases)
    if unconfigured := chosen.databases.keys() - settings.PRIMARIES.keys():
        raise Misconfigured(f"{folder.name} contains {', '.join(sorted(unconfigured))}, which this version does not have.")
    return chosen


def refuse_missing_key(trust: Trust) -> None:
    """Raise Misconfigured if a backup that is about to be made could not be read afterwards."""
    if not trust.identity:
        raise Misconfigured(
            "--verify needs the private key of BACKUP_RECIPIENT, which does not belong on this machine. Make the backup without --verify, "
            "and verify it by its name on a machine that has the key, with --identity."
        )
    trust.identities  # noqa: B018  a file that cannot be read is refused now


def open_backup(folder: Path, chosen: Manifest, trust: Trust) -> Backup:
    """Return the backup with the keys that open it. Raises Misconfigured where there is none, or another one."""
    if not chosen.is_encrypted:
        return Backup(folder, chosen)
    recipients = ", ".join(chosen.recipients)
    if not trust.identity:
        raise Misconfigured(f"{folder.name} is encrypted to {recipients}. {IDENTITY_STEP}.")
    try:
        return Backup(folder, manifest.open_measures(folder, chosen, trust.identities), trust.identities)
    except WrongKey:
        raise Misconfigured(f"{folder.name} is encrypted to {recipients}, which needs another private key. {IDENTITY_STEP}.") from None


def refuse_active_run() -> None:
    """Raise RunActive if a run is active; a control database without tables has none."""
    with suppress(NotMigrated), diagnosed("default"):
        if run := find_active_run():
            raise RunActive(f"Active: {describe_active_run(run)}. Wait, or `manage.py run_etl --cancel {run.pk}`; then restore.")


def refuse_used_databases(chosen: Manifest) -> None:
    """Raise Misconfigured if a database has rows: a restore never overwrites data."""
    used = {store.place: tables for store in map(get_store, chosen.databases) if (tables := store.list_used_tables())}
    if used:
        named = "; ".join(f"{place} has rows in {join_names(tables)}" for place, tables in used.items())
        raise Misconfigured(f"Not empty: {named}. Drop and recreate the database, or name an empty one in its setting.")


def restore_backup(backup: Backup, progress: Progress = ignore_progress) -> tuple[dict[str, list[str]], list[str]]:
    """Restore one database after another.

    Return, by alias, the roles in its grants that do not exist here, and sentences about what besides tables the servers refused.
    """
    missing_roles: dict[str, list[str]] = {}
    refused = []
    for alias, dump in backup.manifest.databases.items():
        store = get_store(alias)
        progress(alias, 0)
        try:
            store.drop_tables()
            refused += store.load(backup.find_file(dump), partial(progress, alias))
            refuse_difference(store, dump)
            missing_roles[alias] = store.restore_grants(backup.find_file(dump))
        except EtlError as error:
            rest = " ".join(f"--only {left}" for left in backup.manifest.databases if left not in missing_roles)
            error.args = (f"{error} Restored before that: {', '.join(missing_roles) or 'nothing'}; continue with {rest}.",)
            raise
    return missing_roles, refused


def try_backup(backup: Backup, progress: Progress = ignore_progress) -> tuple[list[str], list[str]]:
    """Restore the structure of each database into a throwaway one on its server: what this server refuses, it refuses here.

    Return sentences about what it refused besides tables, and about servers where this user may not try.
    """
    refused, untried = [], []
    for alias, dump in backup.manifest.databases.items():
        progress(alias, 0)
        try:
            with get_store(alias).create_throwaway() as throwaway:
                refused += throwaway.load(backup.find_file(dump), partial(progress, alias), all_rows=False)
        except ThrowawayRefused as error:
            untried.append(str(error))
    return refused, untried


def refuse_difference(store: Store, dump: Dump) -> None:
    if differences := find_differences(dump.tables, store.measure()):
        raise BackupDamaged(f"{store.place} was restored, but differs from the manifest: {'; '.join(differences[:NAMES_SHOWN])}.")


def verify_backup(backup: Backup, progress: Progress = ignore_progress) -> tuple[list[str], list[str]]:
    """Restore each database into a throwaway one on its own server.

    Return the differences from the manifest, and sentences about what besides tables the servers refused.
    """
    differences, refused = [], []
    for alias, dump in backup.manifest.databases.items():
        progress(alias, 0)
        with get_store(alias).create_throwaway() as throwaway:
            refused += throwaway.load(backup.find_file(dump), partial(progress, alias))
            differences += [f"{alias}: {difference}" for difference in find_differences(dump.tables, throwaway.measure())]
    return differences, refused


def join_refused(refused: list[str]) -> str:
    """Return the first of the sentences, and how many more there are."""
    more = f"; {len(refused) - 1} more are refused" if len(refused) > 1 else ""
    return refused[0] + more


def describe_replaced(chosen: Manifest) -> list[str]:
    """Return, for each database that is not empty, how many tables a restore would replace."""
    counts = {store.place: len(store.list_tables()) for store in map(get_store, chosen.databases)}
    return [f"{place}: {count} tables without rows of yours would be replaced." for place, count in counts.items() if count]
