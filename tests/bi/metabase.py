"""An in-memory fake of Metabase: the part of its API that seed_metabase calls, with the validation of the real one.

After https://www.metabase.com/docs/v0.56/api, its list of breaking changes (docs/developers-guide/api-changelog.md), and the schemas in
Metabase's own code, of which the strictest were taken: since about v0.60 a key that the API does not know is an error.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
# Required and optional keys of a body, by method and path.
SCHEMAS: dict[str, tuple[set[str], set[str]]] = {
    "POST setup": ({"token", "user", "prefs"}, {"database"}),
    "POST session": ({"username", "password"}, {"remember"}),
    "POST database": (
        {"name", "engine", "details"},
        {"is_full_sync", "is_on_demand", "schedules", "auto_run_queries", "cache_ttl", "connection_source"},
    ),
    "PUT database": (set(), {"name", "engine", "details", "description", "schedules", "settings", "cache_ttl", "auto_run_queries"}),
    "POST collection": ({"name"}, {"description", "parent_id", "namespace", "authority_level"}),
    "PUT collection": (set(), {"name", "description", "archived", "parent_id", "authority_level"}),
    "POST card": (
        {"name", "dataset_query", "display", "visualization_settings"},
        {"type", "description", "parameters", "parameter_mappings", "collection_id", "collection_position", "result_metadata", "cache_ttl"},
    ),
    "PUT card": (
        set(),
        {"name", "dataset_query", "display", "visualization_settings", "type", "description", "parameters", "collection_id", "archived"},
    ),
    "POST card/query": (set(), {"parameters", "ignore_cache", "dashboard_id", "collection_preview"}),
    "POST dashboard": ({"name"}, {"description", "parameters", "cache_ttl", "collection_id", "collection_position"}),
    "PUT dashboard": (set(), {"name", "description", "parameters", "collection_id", "archived", "dashcards", "tabs", "width"}),
}
DASHCARD = (
    {"id", "size_x", "size_y", "row", "col"},
    {"card_id", "action_id", "dashboard_tab_id", "parameter_mappings", "visualization_settings", "series", "inline_parameters"},
)
HIDDEN = "**MetabasePass**"


class ApiError(Exception):
    def __init__(self, status: int, body: Any):
        self.status, self.body = status, body


def render_query(sql: str, values: Json) -> tuple[str, list[Any]]:
    """Return SQL and parameters for psycopg, rendered as Metabase does: an optional part is dropped if its variable has no value."""

    def optional(part: re.Match[str]) -> str:
        return part[1] if set(re.findall(r"{{(\w+)}}", part[1])) <= values.keys() else ""

    sql = re.sub(r"\[\[(.*?)\]\]", optional, sql, flags=re.DOTALL).replace("%", "%%")
    names = re.findall(r"{{(\w+)}}", sql)
    if missing := set(names) - values.keys():
        raise ApiError(400, f"You'll need to pick a value for {missing} before this query can run.")
    return re.sub(r"{{\w+}}", "%s", sql), [values[name] for name in names]


def check_connection(details: Json) -> None:
    if details["password"] != "bi's":
        raise ApiError(400, {"message": 'FATAL: password authentication failed for user "bi_reader"', "errors": {"password": "check it"}})


class FakeMetabase:
    """The fake's data. `answer` executes a native query; `starting` is how often /api/health still responds with 503."""

    def __init__(self, answer: Callable[[str], Any] = lambda sql: []):
        self.answer = answer
        self.version = "v0.56.6"
        self.starting = 0
        self.setup_token: str | None = "setup-token"
        self.users: dict[str, str] = {}
        self.sessions: set[str] = set()
        self.rows: dict[str, dict[int, Json]] = {"database": {}, "collection": {}, "card": {}, "dashboard": {}}
        self.dashcards: dict[int, list[Json]] = {}
        self.last = 100
        self.requests: list[str] = []

    def add(self, kind: str, **columns: Any) -> int:
        self.last += 1
        self.rows[kind][self.last] = {"id": self.last, "archived": False, "description": None} | columns
        if kind == "dashboard":
            self.dashcards[self.last] = []
        return self.last

    def get_row(self, kind: str, id: str) -> Json:
        if int(id) not in self.rows[kind]:
            raise ApiError(404, "Not found.")
        return self.rows[kind][int(id)]

    # --- Without a session ---

    def health(self) -> Json:
        if self.starting:
            self.starting -= 1
            raise ApiError(503, {"status": "initializing", "progress": 0.5})
        return {"status": "ok"}

    def properties(self) -> Json:
        return {"setup-token": self.setup_token, "has-user-setup": bool(self.users), "version": {"tag": self.version}}

    def setup(self, body: Json) -> Json:
        if self.users:
            raise ApiError(403, "The /api/setup route can only be used to create the first user, however a user currently exists.")
        if body["token"] != self.setup_token:
            raise ApiError(400, {"errors": {"token": "Token does not match the setup token."}})
        check_keys(body["user"], {"email", "password"}, {"first_name", "last_name", "site_name", "password_confirm"})
        check_keys(body["prefs"], {"site_name"}, {"site_locale", "allow_tracking"})
        if not re.fullmatch(r"\S+@\S+\.\S+", body["user"]["email"]):
            raise ApiError(400, {"errors": {"user": {"email": "value must be a valid email address."}}})
        if len(body["user"]["password"]) < 6 or not re.search(r"\d", body["user"]["password"]):
            raise ApiError(400, {"errors": {"user": {"password": "password is too common."}}})
        self.users[body["user"]["email"]] = body["user"]["password"]
        self.setup_token = None
        return self.session({"username": body["user"]["email"], "password": body["user"]["password"]})

    def session(self, body: Json) -> Json:
        if self.users.get(body["username"]) != body["password"]:
            raise ApiError(401, {"errors": {"password": "did not match stored password"}})
        self.last += 1
        self.sessions.add(f"session-{self.last}")
        return {"id": f"session-{self.last}"}

    # --- Databases ---

    def create_database(self, body: Json) -> Json:
        assert body["engine"] == "postgres"
        check_connection(body["details"])
        return self.rows["database"][self.add("database", **body)]

    def put_database(self, row: Json, body: Json) -> None:
        if body.get("details", {}).get("password") == HIDDEN:
            body["details"]["password"] = row["details"]["password"]
        check_connection(body.get("details", row["details"]))
        row.update(body)

    def hide_password(self, row: Json) -> Json:
        return row | {"details": row.get("details", {}) | {"password": HIDDEN}}

    def count_usage(self, id: str) -> Json:
        """Count the questions of the database, archived ones included."""
        cards = [card for card in self.rows["card"].values() if card["dataset_query"]["database"] == int(id)]
        return {"question": len(cards), "dataset": 0, "metric": 0, "segment": 0}

    # --- Questions and dashboards ---

    def put_collection(self, row: Json, body: Json) -> None:
        """Update the collection; archive its items with it."""
        row.update(body)
        for kind in ("card", "dashboard"):
            for each in self.rows[kind].values():
                if body.get("archived") and each.get("collection_id") == row["id"]:
                    each["archived"] = True

    def list_items(self, id: str, models: list[str]) -> list[Json]:
        self.get_row("collection", id)
        found = [(kind, row) for kind in ("card", "dashboard") if not models or kind in models for row in self.rows[kind].values()]
        shown = ("id", "name", "description", "collection_id", "archived")
        inside = [(kind, row) for kind, row in found if row["collection_id"] == int(id) and not row["archived"]]
        return [{"model": kind} | {name: row[name] for name in shown} for kind, row in inside]

    def check_card(self, body: Json) -> None:
        query = body["dataset_query"]
        self.get_row("database", str(query["database"]))
        assert query["type"] == "native" and body["name"].strip() and body.get("description", "x").strip()
        used = set(re.findall(r"{{(\w+)}}", query["native"]["query"]))
        tags = query["native"]["template-tags"]
        assert used == set(tags) and all({"id", "name", "display-name", "type"} <= set(tag) for tag in tags.values())
        assert all({"id", "type"} <= set(parameter) for parameter in body.get("parameters", []))

    def put_dashboard(self, row: Json, body: Json) -> None:
        """Update the dashboard. Cards that the body does not name are removed; cards with a negative or unknown id are created."""
        dashcards = body.pop("dashcards", None)
        body.pop("tabs", None)
        row.update(body)
        for parameter in row.get("parameters", []):
            assert {"id", "type", "name", "slug"} <= set(parameter)
            if source := parameter.get("values_source_config"):
                self.get_row("card", str(source["card_id"]))
        if dashcards is None:
            return
        if len({card["id"] for card in dashcards}) != len(dashcards):
            raise ApiError(400, {"errors": {"dashcards": "value must be seq of maps in which ids are unique"}})
        present = {card["id"]: card for card in self.dashcards[row["id"]]}
        self.dashcards[row["id"]] = [self.dashcard(row, card, present) for card in dashcards]

    def dashcard(self, row: Json, card: Json, present: dict[int, Json]) -> Json:
        check_keys(card, *DASHCARD)
        if card.get("card_id"):
            question = self.get_row("card", str(card["card_id"]))
            tags = question["dataset_query"]["native"]["template-tags"]
            known = {parameter["id"]: parameter for parameter in row["parameters"]}
            for mapping in card.get("parameter_mappings", []):
                (kind, (what, tag)), parameter = mapping["target"], known[mapping["parameter_id"]]
                assert (kind, what, mapping["card_id"]) == ("variable", "template-tag", card["card_id"])
                assert tags[tag]["type"] == ("date" if parameter["type"] == "date/single" else "text")
        assert card["col"] + card["size_x"] <= 24
        if card["id"] not in present:
            self.last += 1
        defaults = {"card_id": None, "dashboard_tab_id": None, "series": [], "parameter_mappings": [], "visualization_settings": {}}
        return defaults | card | {"id": card["id"] if card["id"] in present else self.last}

    def delete(self, kind: str, id: str) -> None:
        """Delete a row. A question is also removed from its dashboards, and a database deletes its questions."""
        self.get_row(kind, id)
        del self.rows[kind][int(id)]
        self.dashcards.pop(int(id), None)
        if kind == "database":
            for number in [each["id"] for each in self.rows["card"].values() if each["dataset_query"]["database"] == int(id)]:
                self.delete("card", str(number))
        for board, cards in self.dashcards.items():
            self.dashcards[board] = [card for card in cards if kind != "card" or card["card_id"] != int(id)]

    def query(self, card: Json) -> Json:
        sql, values = render_query(card["dataset_query"]["native"]["query"], {})
        assert not values
        try:
            return {"status": "completed", "data": {"rows": self.answer(sql)}}
        except Exception as error:
            return {"status": "failed", "error": str(error)}

    # --- HTTP ---

    def handle(self, method: str, address: str, session: str | None, body: Any) -> Any:
        url = urlsplit(address)
        path = url.path.removeprefix("/api/")
        self.requests.append(f"{method} {path}")
        if body is not None:
            kind, _, rest = path.partition("/")
            check_keys(body, *SCHEMAS[f"{method} {kind}{'/query' if rest.endswith('/query') else ''}"])
        match method, path.split("/"):
            case "GET", ["health"]:
                return self.health()
            case "GET", ["session", "properties"]:
                return self.properties()
            case "POST", ["setup"]:
                return self.setup(body)
            case "POST", ["session"]:
                return self.session(body)
        if session not in self.sessions:
            raise ApiError(401, "Unauthenticated")
        return self.handle_as_user(method, path.split("/"), parse_qs(url.query), session, body)

    def handle_as_user(self, method: str, path: list[str], query: dict[str, list[str]], session: str, body: Any) -> Any:
        match method, path:
            case "DELETE", ["session"]:
                self.sessions.discard(session)
            case "GET", ["database"]:
                return {"data": [self.hide_password(row) for row in self.rows["database"].values()], "total": len(self.rows["database"])}
            case "POST", ["database"]:
                return self.hide_password(self.create_database(body))
            case "GET", ["database", id, "usage_info"]:
                self.get_row("database", id)
                return self.count_usage(id)
            case "GET", ["collection"]:
                return [{"id": "root", "name": "Our analytics"}, *(row for row in self.rows["collection"].values() if not row["archived"])]
            case "POST", ["collection"]:
                return self.rows["collection"][self.add("collection", **body)]
            case "GET", ["collection", id, "items"]:
                found = self.list_items(id, query.get("models", []))
                return {"data": found, "total": len(found)}
            case "POST", ["card"]:
                self.check_card(body)
                return self.rows["card"][self.add("card", **body)]
            case "POST", ["card", id, "query"]:
                return self.query(self.get_row("card", id))
            case "POST", ["dashboard"]:
                return self.rows["dashboard"][self.add("dashboard", **body)]
            case "GET", ["dashboard", id]:
                return self.get_row("dashboard", id) | {"dashcards": self.dashcards[int(id)], "tabs": []}
            case "PUT", ["database" | "collection" | "dashboard" as kind, id]:
                getattr(self, f"put_{kind}")(self.get_row(kind, id), body)
            case "PUT", ["card", id]:
                self.check_card(self.get_row("card", id) | body)
                self.get_row("card", id).update(body)
            case "DELETE", ["card" | "dashboard" | "database" as kind, id]:
                self.delete(kind, id)
            case _:
                raise ApiError(404, "API endpoint does not exist.")
        return None


def check_keys(body: Json, needed: set[str], allowed: set[str]) -> None:
    if wrong := (needed - body.keys()) | (body.keys() - needed - allowed):
        raise ApiError(400, {"errors": dict.fromkeys(sorted(wrong), "missing, or not known")})


@contextmanager
def serve(state: FakeMetabase) -> Iterator[str]:
    """Serve the fake over HTTP and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            try:
                body = json.loads(self.rfile.read(size)) if size else None
                self.reply(200, state.handle(self.command, self.path, self.headers.get("X-Metabase-Session"), body))
            except ApiError as error:
                self.reply(error.status, error.body)
            except Exception as error:
                self.reply(500, {"message": f"{type(error).__name__}: {error}"})

        do_POST = do_PUT = do_DELETE = do_GET

        def reply(self, status: int, body: Any) -> None:
            words = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(204 if body is None else status)
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
