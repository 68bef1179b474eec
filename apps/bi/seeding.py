"""Everything of ours in Metabase, made, brought up to date, or removed: a database, a collection, questions in it, a dashboard of them.

Each carries a mark in its description with its slug and a digest of what we made it of (the database: in its connection's options). What
has the mark is ours; what has the same digest is left alone, as people may have changed it since; what has lost the mark is theirs.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from apps.bi.board import NAME, PLACES, Document, card, dashcards, parameters
from apps.bi.client import Metabase, Refused
from apps.bi.questions import Question, questions
from techmarket.errors import EtlError, Misconfigured

COLLECTION, DASHBOARD = "collection", "dashboard"
DATABASE_MARK = "ApplicationName=techmarket-bi"  # an option of PostgreSQL's JDBC driver; the server's list of sessions shows it
UNFINISHED = "unfinished"


@dataclass
class Outcome:
    """How many objects were made, changed, left as they were, removed; `kept`: what stays at --clear, and why."""

    made: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    kept: list[str] = field(default_factory=list)
    address: str = ""


def seed(metabase: Metabase, warehouse: dict[str, Any]) -> Outcome:
    """`warehouse`: Django's settings of it as bi_reader reaches it, from where Metabase is."""
    outcome = Outcome()
    database = put_database(metabase, warehouse, outcome)
    collection = put_collection(metabase, outcome)
    present = ours(items(metabase, collection))
    asked = questions()
    ids = {each.slug: put_question(metabase, each, database, collection, present.get(each.slug), outcome) for each in asked}
    dashboard = put_dashboard(metabase, asked, ids, collection, present.get(DASHBOARD), outcome)
    for question in asked:
        answered(metabase, question, ids[question.slug])
    outcome.address = f"{metabase.url}/dashboard/{dashboard}"
    return outcome


def clear(metabase: Metabase) -> Outcome:
    """A database goes with every question on it, a collection with all that is in it: while anything of others is there, they stay."""
    outcome = Outcome()
    if collection := our_collection(metabase):
        mine = ours(items(metabase, collection))
        for each in mine.values():
            metabase("DELETE", f"{each['model']}/{each['id']}")
            outcome.removed += 1
        if others := len(metabase("GET", f"collection/{collection}/items")["data"]):
            outcome.kept.append(f"the collection, which holds {others} of others")
        else:
            metabase("PUT", f"collection/{collection}", {"archived": True})
            outcome.removed += 1
    if database := our_database(metabase):
        if others := sum(metabase("GET", f"database/{database['id']}/usage_info").values()):
            outcome.kept.append(f"the database, which {others} of others use")
        else:
            metabase("DELETE", f"database/{database['id']}")
            outcome.removed += 1
    return outcome


# --- The database ---


def our_database(metabase: Metabase) -> Document | None:
    found = metabase("GET", "database")["data"]
    return first(each for each in found if (each.get("details") or {}).get("additional-options") == DATABASE_MARK)


def put_database(metabase: Metabase, warehouse: dict[str, Any], outcome: Outcome) -> int:
    """Metabase never shows the password again, so it is told each time."""
    details = connection(warehouse)
    try:
        if present := our_database(metabase):
            metabase("PUT", f"database/{present['id']}", {"details": details})
            differs = [name for name, value in details.items() if name != "password" and present["details"].get(name) != value]
            counted(outcome, changed=bool(differs))
            return int(present["id"])
        made = metabase("POST", "database", {"name": _("TechMarket warehouse"), "engine": "postgres", "details": details})
    except Refused as error:
        if error.status == 400:
            raise Misconfigured(f"DWH_BI_URL: {error} It must be the warehouse's address as Metabase reaches it. Correct it.") from None
        raise
    outcome.made += 1
    return int(made["id"])


def connection(warehouse: dict[str, Any]) -> Document:
    mode = warehouse.get("OPTIONS", {}).get("sslmode", "")
    encrypted: Document = {"ssl": True, "ssl-mode": mode} if mode in ("require", "verify-ca", "verify-full") else {"ssl": False}
    return encrypted | {
        "host": warehouse["HOST"],
        "port": int(warehouse["PORT"] or 5432),
        "dbname": warehouse["NAME"],
        "user": warehouse["USER"],
        "password": warehouse["PASSWORD"],
        "advanced-options": True,
        "additional-options": DATABASE_MARK,
    }


# --- The collection and what is in it ---


def our_collection(metabase: Metabase) -> int | None:
    found = first(each for each in metabase("GET", "collection") if mark(each)[0] == COLLECTION)
    return int(found["id"]) if found else None


def put_collection(metabase: Metabase, outcome: Outcome) -> int:
    if present := our_collection(metabase):
        outcome.unchanged += 1
        return present
    outcome.made += 1
    return int(metabase("POST", "collection", {"name": "TechMarket", "description": described(COLLECTION, "1")})["id"])


def items(metabase: Metabase, collection: int) -> list[Document]:
    """Its questions and dashboards, those in the trash left out."""
    return list(metabase("GET", f"collection/{collection}/items?models=card&models=dashboard")["data"])


def ours(found: Iterable[Document]) -> dict[str, Document]:
    """By slug. Of two with one mark the later is somebody's copy."""
    return {mark(each)[0]: each for each in sorted(found, key=lambda each: -int(each["id"])) if mark(each)[0]}


def put_question(metabase: Metabase, question: Question, database: int, collection: int, present: Document | None, outcome: Outcome) -> int:
    wanted = card(question, database)
    edition = digest(wanted)
    wanted["description"] = described(question.slug, edition)
    if not present:
        outcome.made += 1
        return int(metabase("POST", "card", wanted | {"collection_id": collection})["id"])
    changed = mark(present)[1] != edition
    if changed:
        metabase("PUT", f"card/{present['id']}", wanted)
    counted(outcome, changed)
    return int(present["id"])


def put_dashboard(
    metabase: Metabase, asked: list[Question], ids: dict[str, int], collection: int, present: Document | None, outcome: Outcome
) -> int:
    """A new one is made empty first: the API wants it so. Until its cards are on it, its mark says so."""
    wanted = {"name": NAME, "parameters": parameters(ids["regions"])}
    edition = digest([wanted, dashcards(asked, ids, {})])
    if present and mark(present)[1] == edition:
        outcome.unchanged += 1
        return int(present["id"])
    if present:
        outcome.changed += 1
    else:
        present = metabase("POST", "dashboard", wanted | {"collection_id": collection, "description": described(DASHBOARD, UNFINISHED)})
        outcome.made += 1
    path = f"dashboard/{present['id']}"
    board = metabase("GET", path)
    tabs = [{"id": tab["id"], "name": tab["name"]} for tab in board.get("tabs") or []]
    cards = {"dashcards": dashcards(asked, ids, board), "tabs": tabs}
    metabase("PUT", path, wanted | cards | {"description": described(DASHBOARD, edition)})
    stands = {each["card_id"] for each in metabase("GET", path)["dashcards"]}
    if missing := [slug for slug in PLACES if ids[slug] not in stands]:
        raise EtlError(f"Metabase took the dashboard, but not its cards {', '.join(missing)}. Run it again with a newer Metabase.")
    return int(present["id"])


def answered(metabase: Metabase, question: Question, id: int) -> None:
    answer = metabase("POST", f"card/{id}/query", {"parameters": []})
    if answer.get("status") != "completed":
        said = " ".join(str(answer.get("error")).split())[:300].rstrip(".")
        raise EtlError(f"Metabase has the question {question.slug}, but no answer: {said}. Run `manage.py migrate_all`, then this again.")


# --- Marks ---


def described(slug: str, edition: str) -> str:
    return _("Set up by TechMarket: manage.py seed_metabase.") + f" [techmarket {slug} {edition}]"


def mark(found: Document) -> tuple[str, str]:
    """Slug and edition; empty where it is not ours."""
    words = re.search(r"\[techmarket (\S+) (\S+)\]$", found.get("description") or "")
    return (words[1], words[2]) if words else ("", "")


def digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def first(found: Iterable[Document]) -> Document | None:
    return min(found, key=lambda each: int(each["id"]), default=None)


def counted(outcome: Outcome, changed: bool) -> None:
    if changed:
        outcome.changed += 1
    else:
        outcome.unchanged += 1
