"""A backup back into databases that hold nothing yet, and into throwaway ones, to see that it could be."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.backups import manifest
from apps.backups.backup import Listener, silent
from apps.backups.manifest import Dump, Manifest
from apps.backups.measure import differences
from apps.backups.stores import Store, store
from apps.orchestration.requests import describe_active_run, find_active_run
from techmarket.diagnosis import diagnosed
from techmarket.errors import BackupDamaged, EtlError, Misconfigured, NotMigrated, Usage

SHOWN = 3


class RunActive(Usage):
    """A run is active. Cancel it, or wait until it has ended."""


def check(folder: Path, only: Sequence[str] = ()) -> Manifest:
    """What of the backup is to be restored, seen to be whole and to fit, servers and programs at hand; nothing has been touched."""
    held = manifest.read(folder)
    if unknown := [alias for alias in only if alias not in held.databases]:
        raise Usage(f"{folder.name} holds no {', '.join(unknown)}; it holds {', '.join(held.databases)}.")
    chosen = {alias: dump for alias, dump in held.databases.items() if alias in (only or held.databases)}
    if strangers := chosen.keys() - settings.DATABASES.keys():
        raise Misconfigured(f"{folder.name} holds {', '.join(sorted(strangers))}, which no setting names.")
    for alias, dump in chosen.items():
        manifest.check(folder, dump)
        one = store(alias)
        one.ready()
        if dump.vendor != one.vendor:
            raise Misconfigured(
                f"{folder.name} has {alias} of {dump.server}, and {settings.VARIABLES[alias]} names another kind of server."
            )
    return Manifest(held.began, held.ended, held.code, chosen)


def refuse_active_run() -> None:
    with suppress(NotMigrated), diagnosed("default"):
        if run := find_active_run():
            raise RunActive(f"Active: {describe_active_run(run)}. Wait, or `manage.py run_etl --cancel {run.pk}`; then restore.")


def refuse_used(chosen: Manifest) -> None:
    """Nothing that somebody may need is ever overwritten."""
    used = {store(alias).place: tables for alias in chosen.databases if (tables := store(alias).used())}
    if used:
        named = "; ".join(f"{place} has rows in {shown(tables)}" for place, tables in used.items())
        raise Misconfigured(f"Not empty: {named}. Drop and create such a database anew, or name an empty one in its setting.")


def shown(tables: list[str]) -> str:
    more = len(tables) - SHOWN
    return ", ".join(tables[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def restore(folder: Path, chosen: Manifest, listener: Listener = silent) -> dict[str, list[str]]:
    """One database after another. Returns, by alias, the roles that the dump grants rights to and that are not here."""
    done: dict[str, list[str]] = {}
    for alias, dump in chosen.databases.items():
        one = store(alias)
        listener(alias, 0)
        try:
            one.clear()
            one.load(folder / dump.file, partial(listener, alias))
            equal(one, dump)
            done[alias] = one.grant(folder / dump.file)
        except EtlError as error:
            rest = " ".join(f"--only {left}" for left in chosen.databases if left not in done)
            error.args = (f"{error} Restored before that: {', '.join(done) or 'nothing'}; go on with {rest}.",)
            raise
    return done


def equal(one: Store, dump: Dump) -> None:
    if wrong := differences(dump.tables, one.measure()):
        raise BackupDamaged(f"{one.place} was restored, and differs from the manifest: {'; '.join(wrong[:SHOWN])}.")


def verify(folder: Path, chosen: Manifest, listener: Listener = silent) -> list[str]:
    """Each database into a throwaway one on its own server, which is dropped again: what differs from the manifest."""
    said = []
    for alias, dump in chosen.databases.items():
        listener(alias, 0)
        with store(alias).another() as throwaway:
            throwaway.load(folder / dump.file, partial(listener, alias))
            said += [f"{alias}: {sentence}" for sentence in differences(dump.tables, throwaway.measure())]
    return said
