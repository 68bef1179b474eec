"""The audit log: every deed leaves its entry, in the transaction of the deed, and nobody changes or loses one unnoticed."""

import csv
import io
import os
import pwd
import threading
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit.actor import os_user
from apps.audit.chain import HEAD_ID, compute_hash, compute_seals, record, verify
from apps.audit.models import ActorKind, Deed, Entry, Head
from apps.audit.protection import POSTGRESQL, delete_old_entries, protect, verify_protection
from apps.console.groups import ADMINISTRATOR, OPERATOR
from apps.orchestration.models import Run
from techmarket.commands import ExitCode
from tests import emptying
from tests.console.conftest import SignIn
from tests.orchestration.harness import FakeBroker
from tests.security.deeds import DEEDS, Stage, log_in, set_stage, start

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
# test_commands.py runs these commands.
ELSEWHERE = {Deed.BACKUP_MADE, Deed.BACKUP_ACCEPTED, Deed.BACKUP_RESTORED, Deed.DATABASES_MIGRATED, Deed.METABASE_SEEDED}
BELOW = {Deed.AUDIT_DELETED, Deed.SEAL_BROKEN}  # have tests below
ON_SERVERS = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL: needs the servers of `make test`")


@pytest.fixture
def stage(schedules: None, broker: FakeBroker, tmp_path: Any, settings: Any) -> Stage:
    settings.ENVIRONMENT_HASHES = {"DWH_URL": "0123456789ab"}
    return set_stage(tmp_path)


# --- Each deed ---


def test_every_kind_of_deed_is_tried() -> None:
    assert set(DEEDS) | ELSEWHERE | BELOW == set(Deed) and len(DEEDS) >= 40


@pytest.mark.parametrize("deed", list(DEEDS))
def test_each_deed_leaves_its_entry(stage: Stage, deed: Deed) -> None:
    before = Entry.objects.count()
    DEEDS[deed](stage)
    entries = list(Entry.objects.filter(number__gt=before, deed=deed))
    assert entries, list(Entry.objects.filter(number__gt=before).values_list("deed", flat=True))
    entry = entries[0]
    assert entry.actor and abs(entry.at - timezone.now()) < timedelta(seconds=10)
    if entry.address:
        assert (entry.actor_kind, entry.request_id != "") == (ActorKind.USER, True)
    assert not [*verify(), *verify_protection()]


def test_entry_says_who_what_before_and_after_from_where_and_why(stage: Stage) -> None:
    stage.change_petro(email="petro@example.com")
    run = start(stage)
    changed, started = Entry.objects.get(deed=Deed.USER_CHANGED), Entry.objects.get(deed=Deed.RUN_STARTED)
    assert (changed.actor, changed.actor_id, changed.address) == ("olena", stage.olena.pk, "198.51.100.7")
    assert (changed.object_type, changed.object_id, changed.object_name) == ("auth.user", str(stage.petro.pk), "petro")
    assert (changed.before, changed.after) == ({"email": ""}, {"email": "petro@example.com"})
    assert (started.object_name, started.reason, started.after["mode"]) == (f"Run {run.pk}", "as planned", "incremental")


def test_passwords_are_in_no_entry(stage: Stage) -> None:
    DEEDS[Deed.PASSWORD_CHANGED](stage)
    log_in(Client(), "petro", "a-wrong-password")
    stage.petro.refresh_from_db()
    text = str(list(Entry.objects.values()))
    assert stage.petro.password not in text and "a-wrong-password" not in text and "another long" not in text


def test_entry_outlives_its_user(stage: Stage) -> None:
    start(stage)
    stage.olena.delete()
    assert Entry.objects.get(deed=Deed.RUN_STARTED).actor == "olena"


def test_deed_and_entry_are_of_one_transaction(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        User.objects.create_user("nobody")
        raise RuntimeError
    assert not Entry.objects.filter(object_name="nobody").exists()
    monkeypatch.setattr("apps.audit.chain.compute_hash", lambda entry: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        api_start(stage)
    assert not Run.objects.exists(), "no run without its entry"


def api_start(stage: Stage) -> None:
    stage.root.raise_request_exception = True
    stage.root.post(reverse("admin:orchestration_run_start"), {"mode": "full"})


def test_commands_are_attributed_to_the_systems_user(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    expected = pwd.getpwuid(os.getuid()).pw_name
    User.objects.create_superuser("olena")
    entry = Entry.objects.get(deed=Deed.USER_ADDED)
    assert (entry.actor, entry.actor_kind, os_user()) == (expected, ActorKind.OPERATING_SYSTEM, expected)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    assert os_user() == f"uid {os.getuid()}"


def test_names_cannot_forge_lines(transactional_db: None, client: Client) -> None:
    log_in(client, "x\n2026-01-01 olena logged in\u202e", "wrong")
    assert Entry.objects.get(deed=Deed.LOGIN_FAILED).actor == "x\\n2026-01-01 olena logged in\\u202e"


# --- The address from which a request came ---


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        ([], "203.0.113.9", "10.0.0.2"),
        (["10.0.0.0/8"], "203.0.113.9", "203.0.113.9"),
        (["10.0.0.0/8"], "1.1.1.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.5", "10.0.0.5"),
        (["10.0.0.0/8"], "", "10.0.0.2"),
        (["192.0.2.0/24"], "203.0.113.9", "10.0.0.2"),
        (["10.0.0.0/8"], "nonsense", "10.0.0.2"),
    ],
)
def test_forwarded_address_is_believed_from_a_trusted_proxy(
    transactional_db: None, settings: Any, proxies: list[str], forwarded: str, expected: str
) -> None:
    settings.TRUSTED_PROXIES = [ip_network(proxy) for proxy in proxies]
    client = Client(REMOTE_ADDR="10.0.0.2", headers={"X-Forwarded-For": forwarded, "X-Request-ID": "from-the-proxy"})
    answer = log_in(client, "petro", "wrong")
    entry = Entry.objects.get(deed=Deed.LOGIN_FAILED)
    assert entry.address == expected and entry.request_id == answer["X-Request-ID"]
    assert (entry.request_id == "from-the-proxy") == (proxies == ["10.0.0.0/8"])


# --- Ways to change or lose an entry: each is refused, or found ---


@pytest.fixture
def entries(transactional_db: None) -> list[Entry]:
    for name in ("olena", "petro", "iryna", "oksana"):
        User.objects.create_user(name)
    assert not [*verify(), *verify_protection()]
    return list(Entry.objects.order_by("number"))


REFUSAL = r"append-only|permission denied"
REFUSED = {
    "update": "UPDATE audit_entry SET actor = 'nobody' WHERE number = 2",
    "delete": "DELETE FROM audit_entry WHERE number = 2",
    "delete all": "DELETE FROM audit_entry",
}


@pytest.mark.parametrize("way", list(REFUSED))
def test_change_is_refused(entries: list[Entry], way: str) -> None:
    before = list(Entry.objects.order_by("number").values())
    with pytest.raises(DatabaseError, match=REFUSAL), connection.cursor() as cursor:
        cursor.execute(REFUSED[way])
    assert list(Entry.objects.order_by("number").values()) == before


@ON_SERVERS
def test_truncate_is_refused_and_the_right_to_is_taken(entries: list[Entry]) -> None:
    with pytest.raises(DatabaseError, match=REFUSAL), connection.cursor() as cursor:
        cursor.execute("TRUNCATE audit_entry")
    with connection.cursor() as cursor:
        query = (
            "SELECT privilege_type FROM information_schema.role_table_grants WHERE table_name = 'audit_entry' AND grantee = current_user"
        )
        cursor.execute(query)
        assert not {"UPDATE", "DELETE", "TRUNCATE"} & {name for (name,) in cursor.fetchall()}


def tamper(statement: str, *values: Any) -> None:
    """Write to the log's table as its owner can who has switched the protection off, and switch it on again."""
    emptying.unprotect()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("GRANT UPDATE, DELETE ON audit_entry TO CURRENT_USER")
        cursor.execute(statement, values)
    protect()


def rewrite(number: int) -> None:
    """Change an entry, and the hash of every later one with it, as somebody who knows the code would."""
    previous = ""
    for entry in Entry.objects.filter(number__gte=number).order_by("number"):
        entry.actor = "nobody" if entry.number == number else entry.actor
        entry.previous_hash = previous or entry.previous_hash
        entry.hash = previous = compute_hash(entry)
        values = (entry.actor, entry.previous_hash, entry.hash, entry.number)
        tamper("UPDATE audit_entry SET actor = %s, previous_hash = %s, hash = %s WHERE number = %s", *values)
    Head.objects.filter(pk=HEAD_ID).update(hash=previous)


def lose_head() -> None:
    Head.objects.all().delete()


def lose_everything() -> None:
    tamper("DELETE FROM audit_entry")
    lose_head()


def cut_and_move_head() -> None:
    tamper("DELETE FROM audit_entry WHERE number > 2")
    Head.objects.update(number=2, hash=Entry.objects.get(number=2).hash)


def slip_in() -> None:
    entry = Entry.objects.get(number=4)
    entry.number, entry.actor, entry.previous_hash = 5, "nobody", entry.hash
    entry.hash = compute_hash(entry)
    entry.save(force_insert=True)


def seal_with_another_key(settings: Any) -> None:
    head = Head.objects.get()
    key, settings.SECRET_KEY = settings.SECRET_KEY, "x" * 50
    Head.objects.update(seal=compute_seals(head)[0])
    settings.SECRET_KEY = key


FOUND: dict[str, tuple[Callable[[], Any], str]] = {
    "an entry changed": (lambda: tamper("UPDATE audit_entry SET actor = 'nobody' WHERE number = 2"), "Entry 2 has been changed"),
    "its time changed": (lambda: tamper("UPDATE audit_entry SET at = '2020-01-01' WHERE number = 2"), "Entry 2 has been changed"),
    "an entry deleted": (lambda: tamper("DELETE FROM audit_entry WHERE number = 2"), "Entry 2 is missing"),
    "the first deleted": (lambda: tamper("DELETE FROM audit_entry WHERE number = 1"), "Entry 1 is missing"),
    "the last deleted": (lambda: tamper("DELETE FROM audit_entry WHERE number = 4"), "Entry 4 is missing"),
    "all deleted": (lambda: tamper("DELETE FROM audit_entry"), "Entries 1 to 4 are missing"),
    "two exchanged": (lambda: tamper("UPDATE audit_entry SET number = 5 - number + 100 WHERE number IN (2, 3)"), "missing"),
    "rewritten with all hashes": (lambda: rewrite(2), "seal does not fit"),
    "the last deleted, and the head moved": (cut_and_move_head, "seal does not fit"),
    "the head deleted": (lose_head, "The head is missing"),
    "everything deleted": (lose_everything, "The head is missing"),
    "an entry slipped in": (slip_in, "Entry 5 was slipped in"),
}


@pytest.mark.parametrize("way", list(FOUND))
def test_change_is_found(entries: list[Entry], capsys: pytest.CaptureFixture[str], way: str) -> None:
    act, finding = FOUND[way]
    act()
    found = list(verify())
    assert [text for text in found if finding in text], found
    with pytest.raises(SystemExit) as stopped:
        call_command("audit", "--verify")
    assert stopped.value.code == ExitCode.DIFFERENT and "Traceback" not in capsys.readouterr().err


def test_broken_seal_is_not_laundered_by_the_next_deed(entries: list[Entry]) -> None:
    rewrite(2)
    User.objects.create_user("mariia")
    assert Entry.objects.filter(deed=Deed.SEAL_BROKEN).count() == 1
    assert [text for text in verify() if "the seal was broken before" in text]


def test_missing_head_is_not_laundered_by_the_next_deed(entries: list[Entry]) -> None:
    tamper("DELETE FROM audit_entry WHERE number > 2")
    lose_head()
    User.objects.create_user("mariia")
    assert Entry.objects.filter(deed=Deed.SEAL_BROKEN).count() == 1 and list(verify())


@pytest.mark.parametrize("lose", [lose_everything, cut_and_move_head])
def test_nothing_launders_what_was_lost(entries: list[Entry], lose: Callable[[], None]) -> None:
    """Neither the next deed nor the deletion of old entries, which both seal the head anew."""
    tamper("UPDATE audit_entry SET at = '2020-01-01' WHERE number = 1")
    lose()
    delete_old_entries()
    User.objects.create_user("mariia")
    assert Entry.objects.filter(deed=Deed.SEAL_BROKEN).exists() and [text for text in verify() if "seal was broken" in text]


def test_seal_by_another_key_is_found_and_one_by_an_earlier_key_is_not(entries: list[Entry], settings: Any) -> None:
    seal_with_another_key(settings)
    assert [text for text in verify() if "seal does not fit" in text]
    settings.SECRET_KEY_FALLBACKS = ["x" * 50]
    assert not list(verify())
    User.objects.create_user("mariia")
    settings.SECRET_KEY_FALLBACKS = []
    assert not list(verify()), "sealed anew by the present key"


@pytest.mark.parametrize("trigger", [0, 1])
def test_missing_protection_is_found(entries: list[Entry], trigger: int) -> None:
    names = ("audit_entry_changed", "audit_entry_truncated" if connection.vendor == "postgresql" else "audit_entry_deleted")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {names[trigger]}{' ON audit_entry' if connection.vendor == 'postgresql' else ''}")
    try:
        assert [text for text in verify_protection() if names[trigger] in text]
    finally:
        protect()
    assert not list(verify_protection())


@ON_SERVERS
def test_disabled_protection_is_found(entries: list[Entry]) -> None:
    assert "ENABLE ALWAYS" in POSTGRESQL, "a session in the role of a replica must not pass either"
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_changed")
    try:
        assert len(list(verify_protection())) == 1
    finally:
        protect()


@ON_SERVERS
def test_many_who_act_at_once_leave_one_chain(transactional_db: None) -> None:
    def act(name: str) -> None:
        for number in range(10):
            User.objects.create_user(f"{name}{number}")
        connections.close_all()

    threads = [threading.Thread(target=act, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Entry.objects.count() == 40 and not list(verify())


# --- How long entries stay ---


def test_old_entries_are_deleted_and_the_rest_stays_whole(entries: list[Entry], settings: Any) -> None:
    with transaction.atomic():
        age_entries(2, timezone.now() - timedelta(days=settings.AUDIT_KEEP_DAYS + 1))
    assert delete_old_entries() == 2 and delete_old_entries() == 0
    assert list(Entry.objects.order_by("number").values_list("number", flat=True)) == [3, 4, 5]
    assert Entry.objects.get(number=5).after == {"entries": 2, "to": 2} and not [*verify(), *verify_protection()]
    with pytest.raises(DatabaseError, match=REFUSAL), connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_entry WHERE number = 5")


def age_entries(count: int, at: Any) -> None:
    """Date the first entries back, with their hashes and those of all later ones, as if they had been written then."""
    previous = ""
    for entry in Entry.objects.order_by("number"):
        entry.at = at if entry.number <= count else entry.at
        entry.previous_hash = previous or entry.previous_hash
        entry.hash = previous = compute_hash(entry)
        values = (entry.at, entry.previous_hash, entry.hash, entry.number)
        tamper("UPDATE audit_entry SET at = %s, previous_hash = %s, hash = %s WHERE number = %s", *values)
    head = Head.objects.get()
    head.hash = previous
    head.seal = compute_seals(head)[0]
    head.save()


# --- The page and the command ---


def test_administrators_read_filter_and_export_the_log(stage: Stage, sign_in: SignIn) -> None:
    start(stage)
    assert sign_in(OPERATOR).get(reverse("admin:audit_entry_changelist")).status_code == 403
    client = sign_in(ADMINISTRATOR)
    answer = client.get(reverse("admin:audit_entry_changelist"), {"deed__exact": Deed.RUN_STARTED})
    page = answer.content.decode()
    assert "Run started" in page and "as planned" in page and "198.51.100.7" in page
    assert [entry.deed for entry in answer.context["cl"].result_list] == [Deed.RUN_STARTED]
    entry = Entry.objects.get(deed=Deed.RUN_STARTED)
    assert entry.hash in client.get(reverse("admin:audit_entry_change", args=[entry.pk])).content.decode()
    rows = list(csv.DictReader(io.StringIO(b"".join(client.get(reverse("admin:audit_entry_csv"))).decode("utf-8-sig"))))
    assert len(rows) == Entry.objects.count() and rows[0]["number"] > rows[-1]["number"]
    for name in ("change", "delete"):
        assert client.post(reverse(f"admin:audit_entry_{name}", args=[entry.pk]), {"actor": "x", "post": "yes"}).status_code in (403, 405)
    assert client.get(reverse("admin:audit_entry_add")).status_code == 403
    assert Entry.objects.get(pk=entry.pk).actor == "olena"


def test_command_shows_the_last_entries_and_verifies(entries: list[Entry], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("audit", "--last", "2")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "4"] and "oksana" in lines[1]
    call_command("audit", "--verify")
    assert capsys.readouterr().out.startswith("Whole: 4 entries") and record(Deed.LOGOUT).number == 6


def test_settings_are_recorded_when_one_changes(stage: Stage, settings: Any) -> None:
    DEEDS[Deed.SETTINGS_SEEN](stage)
    DEEDS[Deed.SETTINGS_SEEN](stage)
    settings.ENVIRONMENT_HASHES = {"DWH_URL": "changed", "DEBUG": "new"}
    DEEDS[Deed.SETTINGS_SEEN](stage)
    last, first = Entry.objects.filter(deed=Deed.SETTINGS_SEEN)
    assert first.after["changed"] == ["DWH_URL"] and last.after["changed"] == ["DEBUG", "DWH_URL"]
    assert last.before == {"DWH_URL": "0123456789ab"}
