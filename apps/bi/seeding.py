"""Creates, updates and removes our objects in Metabase: a database, a collection, the questions in it and a dashboard of them.

The description of each object ends with a mark, its slug and a digest of the document that it was created from (the database has its mark
in the connection's options). An object with a mark is ours. While its digest is the same it is left alone, so that people may change it.
People who remove the mark make it theirs.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from apps.bi.board import LAYOUT, NAME, Document, build_card, build_dashcards, build_parameters
from apps.bi.client import Metabase, Refused
from apps.bi.questions import Question, questions
from techmarket.diagnosis import MIGRATE
from techmarket.errors import EtlError, Misconfigured
from techmarket.pending import can_migrate

COLLECTION, DASHBOARD = "collection", "dashboard"
COLLECTION_EDITION = "1"
DATABASE_MARK = "ApplicationName=techmarket-bi"  # an option of PostgreSQL's JDBC driver; the server's list of sessions shows it
UNFINISHED = "unfinished"


@dataclass
class Outcome:
    """How many objects were created, updated, left unchanged or removed. `retained`: what `clear` left there, and why."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    retained: list[str] = field(default_factory=list)
    address: str = ""

    def count(self, updated: bool) -> None:
        if updated:
            self.updated += 1
        else:
            self.unchanged += 1


def seed(metabase: Metabase, warehouse: dict[str, Any]) -> Outcome:
    """Bring everything up to date. `warehouse`: Django's settings for it, with bi_reader and the address that Metabase uses."""
    outcome = Outcome()
    database = put_database(metabase, warehouse, outcome)
    collection = put_collection(metabase, outcome)
    present = find_ours(list_items(metabase, collection))
    wanted = questions()
    card_ids = {
        question.slug: put_question(metabase, question, database, collection, present.get(question.slug), outcome) for question in wanted
    }
    dashboard = put_dashboard(metabase, wanted, card_ids, collection, present.get(DASHBOARD), outcome)
    for question in wanted:
        check_answer(metabase, question, card_ids[question.slug])
    outcome.address = f"{metabase.url}/dashboard/{dashboard}"
    return outcome


def clear(metabase: Metabase) -> Outcome:
    """Remove what is ours. The collection and the database stay while others use them, whose objects Metabase would remove too."""
    outcome = Outcome()
    if collection := find_collection(metabase):
        for item in find_ours(list_items(metabase, collection)).values():
            metabase("DELETE", f"{item['model']}/{item['id']}")
            outcome.removed += 1
        if others := len(metabase("GET", f"collection/{collection}/items")["data"]):
            outcome.retained.append(f"the collection (other items in it: {others})")
        else:
            metabase("PUT", f"collection/{collection}", {"archived": True})
            outcome.removed += 1
    if database := find_database(metabase):
        if others := sum(metabase("GET", f"database/{database['id']}/usage_info").values()):
            outcome.retained.append(f"the database (other items that use it: {others})")
        else:
            metabase("DELETE", f"database/{database['id']}")
            outcome.removed += 1
    return outcome


# --- The database ---


def find_database(metabase: Metabase) -> Document | None:
    databases = metabase("GET", "database")["data"]
    return first(each for each in databases if (each.get("details") or {}).get("additional-options") == DATABASE_MARK)


def put_database(metabase: Metabase, warehouse: dict[str, Any], outcome: Outcome) -> int:
    """Create or update the connection and return its id. The password is sent each time, since Metabase never shows the present one."""
    details = build_connection(warehouse)
    try:
        if present := find_database(metabase):
            metabase("PUT", f"database/{present['id']}", {"details": details})
            outcome.count(any(name != "password" and present["details"].get(name) != value for name, value in details.items()))
            return int(present["id"])
        created = metabase("POST", "database", {"name": _("TechMarket warehouse"), "engine": "postgres", "details": details})
    except Refused as error:
        if error.status == 400:
            raise Misconfigured(f"DWH_BI_URL: {error} It must be the warehouse's address as Metabase reaches it. Correct it.") from None
        raise
    outcome.created += 1
    return int(created["id"])


def build_connection(warehouse: dict[str, Any]) -> Document:
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


# --- The collection and its items ---


def find_collection(metabase: Metabase) -> int | None:
    found = first(each for each in metabase("GET", "collection") if read_mark(each)[0] == COLLECTION)
    return int(found["id"]) if found else None


def put_collection(metabase: Metabase, outcome: Outcome) -> int:
    if present := find_collection(metabase):
        outcome.unchanged += 1
        return present
    outcome.created += 1
    return int(metabase("POST", "collection", {"name": "TechMarket", "description": describe(COLLECTION, COLLECTION_EDITION)})["id"])


def list_items(metabase: Metabase, collection: int) -> list[Document]:
    """Return its questions and dashboards without those in the trash."""
    return list(metabase("GET", f"collection/{collection}/items?models=card&models=dashboard")["data"])


def find_ours(items: Iterable[Document]) -> dict[str, Document]:
    """Return the marked items by slug. Of two with the same mark the one with the higher id is somebody's copy."""
    return {read_mark(item)[0]: item for item in sorted(items, key=lambda item: -int(item["id"])) if read_mark(item)[0]}


def put_question(metabase: Metabase, question: Question, database: int, collection: int, present: Document | None, outcome: Outcome) -> int:
    wanted = build_card(question, database)
    edition = digest(wanted)
    wanted["description"] = describe(question.slug, edition)
    if not present:
        outcome.created += 1
        return int(metabase("POST", "card", wanted | {"collection_id": collection})["id"])
    differs = read_mark(present)[1] != edition
    if differs:
        metabase("PUT", f"card/{present['id']}", wanted)
    outcome.count(differs)
    return int(present["id"])


def put_dashboard(
    metabase: Metabase, wanted: list[Question], card_ids: dict[str, int], collection: int, present: Document | None, outcome: Outcome
) -> int:
    """Create or update the dashboard. The API creates only an empty one; its mark says unfinished until the cards are on it."""
    document = {"name": NAME, "parameters": build_parameters(card_ids["regions"])}
    edition = digest([document, build_dashcards(wanted, card_ids, {})])
    if present and read_mark(present)[1] == edition:
        outcome.unchanged += 1
        return int(present["id"])
    if present:
        outcome.updated += 1
    else:
        present = metabase("POST", "dashboard", document | {"collection_id": collection, "description": describe(DASHBOARD, UNFINISHED)})
        outcome.created += 1
    path = f"dashboard/{present['id']}"
    dashboard = metabase("GET", path)
    tabs = [{"id": tab["id"], "name": tab["name"]} for tab in dashboard.get("tabs") or []]
    cards = {"dashcards": build_dashcards(wanted, card_ids, dashboard), "tabs": tabs}
    metabase("PUT", path, document | cards | {"description": describe(DASHBOARD, edition)})
    placed = {dashcard["card_id"] for dashcard in metabase("GET", path)["dashcards"]}
    if missing := [slug for slug in LAYOUT if card_ids[slug] not in placed]:
        raise EtlError(f"Metabase saved the dashboard without its cards {', '.join(missing)}. Run this again with a newer Metabase.")
    return int(present["id"])


def check_answer(metabase: Metabase, question: Question, card_id: int) -> None:
    """Raise EtlError where Metabase cannot run the question's SQL."""
    answer = metabase("POST", f"card/{card_id}/query", {"parameters": []})
    if answer.get("status") != "completed":
        reason = " ".join(str(answer.get("error")).split())[:300].rstrip(".")
        step = MIGRATE if can_migrate("dwh") else "Check that bi_reader may read the views of the warehouse."
        raise EtlError(f"Metabase cannot answer the question {question.slug}: {reason}. {step} Then run this again.")


# --- Marks ---


def describe(slug: str, edition: str) -> str:
    return _("Set up by TechMarket: manage.py seed_metabase.") + f" [techmarket {slug} {edition}]"


def read_mark(document: Document) -> tuple[str, str]:
    """Return slug and edition; both empty where the object is not ours."""
    match = re.search(r"\[techmarket (\S+) (\S+)\]$", document.get("description") or "")
    return (match[1], match[2]) if match else ("", "")


def digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def first(documents: Iterable[Document]) -> Document | None:
    """Return the one with the lowest id."""
    return min(documents, key=lambda document: int(document["id"]), default=None)
