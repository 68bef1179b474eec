"""Restoring a backup into empty databases, and verifying it in throwaway ones."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.backups import manifest
from apps.backups.backup import Progress, ignore_progress
from apps.backups.manifest import Dump, Manifest
from apps.backups.measure import find_differences
from apps.backups.stores import Store, get_store
from apps.backups.stores.base import NAMES_SHOWN, ThrowawayRefused, join_names
from apps.orchestration.requests import describe_active_run, find_active_run
from techmarket.diagnosis import diagnosed
from techmarket.errors import AccessDenied, BackupDamaged, EtlError, Misconfigured, NotMigrated, Usage


class RefusedObjects(AccessDenied):
    """A server refuses a view, a trigger or another thing besides tables to this user."""


class RunActive(Usage):
    """A run is active. Cancel it, or wait until it has ended."""


def check_backup(folder: Path, only: Sequence[str] = ()) -> Manifest:
    """Return the manifest, reduced to the databases of `only`, after checking files, servers and programs; change nothing.

    Raises Usage, Misconfigured or BackupDamaged.
    """
    whole = manifest.read_manifest(folder)
    if unknown := [alias for alias in only if alias not in whole.databases]:
        raise Usage(f"{folder.name} does not contain {', '.join(unknown)}; it contains {', '.join(whole.databases)}.")
    chosen = {alias: dump for alias, dump in whole.databases.items() if alias in (only or whole.databases)}
    if unconfigured := chosen.keys() - settings.PRIMARIES.keys():
        raise Misconfigured(f"{folder.name} contains {', '.join(sorted(unconfigured))}, which this version does not have.")
    for alias, dump in chosen.items():
        manifest.check_dump(folder, dump)
        store = get_store(alias)
        store.find_dump_program()
        if dump.vendor != store.vendor:
            raise Misconfigured(
                f"{folder.name} contains {alias} from {dump.server}, but {settings.VARIABLES[alias]} names another kind of server."
            )
    return Manifest(whole.began, whole.ended, whole.code, chosen)


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


def restore_backup(folder: Path, chosen: Manifest, progress: Progress = ignore_progress) -> tuple[dict[str, list[str]], list[str]]:
    """Restore one database after another.

    Return, by alias, the roles in its grants that do not exist here, and sentences about what besides tables the servers refused.
    """
    missing_roles: dict[str, list[str]] = {}
    refused = []
    for alias, dump in chosen.databases.items():
        store = get_store(alias)
        progress(alias, 0)
        try:
            store.drop_tables()
            refused += store.load(folder / dump.file, partial(progress, alias))
            refuse_difference(store, dump)
            missing_roles[alias] = store.restore_grants(folder / dump.file)
        except EtlError as error:
            rest = " ".join(f"--only {left}" for left in chosen.databases if left not in missing_roles)
            error.args = (f"{error} Restored before that: {', '.join(missing_roles) or 'nothing'}; continue with {rest}.",)
            raise
    return missing_roles, refused


def try_backup(folder: Path, chosen: Manifest, progress: Progress = ignore_progress) -> tuple[list[str], list[str]]:
    """Restore the structure of each database into a throwaway one on its server: what this server refuses, it refuses here.

    Return sentences about what it refused besides tables, and about servers where this user may not try.
    """
    refused, untried = [], []
    for alias, dump in chosen.databases.items():
        progress(alias, 0)
        try:
            with get_store(alias).create_throwaway() as throwaway:
                refused += throwaway.load(folder / dump.file, partial(progress, alias), all_rows=False)
        except ThrowawayRefused as error:
            untried.append(str(error))
    return refused, untried


def refuse_difference(store: Store, dump: Dump) -> None:
    if differences := find_differences(dump.tables, store.measure()):
        raise BackupDamaged(f"{store.place} was restored, but differs from the manifest: {'; '.join(differences[:NAMES_SHOWN])}.")


def verify_backup(folder: Path, chosen: Manifest, progress: Progress = ignore_progress) -> tuple[list[str], list[str]]:
    """Restore each database into a throwaway one on its own server.

    Return the differences from the manifest, and sentences about what besides tables the servers refused.
    """
    differences, refused = [], []
    for alias, dump in chosen.databases.items():
        progress(alias, 0)
        with get_store(alias).create_throwaway() as throwaway:
            refused += throwaway.load(folder / dump.file, partial(progress, alias))
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
