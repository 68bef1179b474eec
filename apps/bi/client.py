"""Metabase's HTTP API, as far as we need it: JSON there, JSON back, and what goes wrong as one of our errors."""

import json
import re
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from techmarket.errors import AccessDenied, EtlError, Misconfigured, Unreachable

TIMEOUT = 60  # seconds; Metabase tries a database's address itself before it answers
OLDEST = 50  # v0.50: a dashboard's cards go with the dashboard, and what is archived goes to the trash


class Refused(EtlError):
    """Metabase answers with an error. `status` is HTTP's."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Metabase:
    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.session = ""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """What it answers to `method` /api/`path`; None where it says nothing. Raises Refused, or Unreachable."""
        headers = {"Content-Type": "application/json"} | ({"X-Metabase-Session": self.session} if self.session else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            request = Request(f"{self.url}/api/{path}", data, headers, method=method)  # noqa: S310  settings.py takes http alone
            with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                words = answer.read()
            return json.loads(words) if words else None
        except HTTPError as error:
            with error:
                raise Refused(f"{self.url} refuses {method} /api/{path}: {reason(error)}", error.code) from None
        except (OSError, HTTPException) as error:
            raise Unreachable(f"METABASE_URL: {self.url} does not answer ({cause(error)}). Start Metabase, or correct it.") from None
        except ValueError:
            raise Misconfigured(f"METABASE_URL: what answers at {self.url} is not Metabase. Correct it.") from None

    def wait(self, seconds: float) -> None:
        """Until it is up: its first start takes a minute or two. Raises Unreachable when the time is over."""
        until = time.monotonic() + seconds
        while True:
            try:
                self("GET", "health")
                return
            except (Unreachable, Refused) as error:
                if time.monotonic() > until:
                    raise Unreachable(str(error)) from None
            time.sleep(1)

    def enter(self, user: str, password: str, set_up: bool) -> None:
        """Log in; with `set_up`, on a Metabase that has no user yet, as its administrator, who is made by that."""
        properties = self("GET", "session/properties")
        check_version(properties)
        if set_up and properties.get("setup-token") and not properties.get("has-user-setup"):
            who = {"email": user, "password": password, "first_name": "TechMarket", "last_name": "Administrator"}
            answer = self.first("setup", {"token": properties["setup-token"], "user": who, "prefs": {"site_name": "TechMarket"}})
        else:
            answer = self.first("session", {"username": user, "password": password})
        self.session = answer["id"]

    def first(self, path: str, body: Any) -> Any:
        try:
            return self("POST", path, body)
        except Refused as error:
            if error.status in (400, 401, 403):
                raise AccessDenied(f"METABASE_USER, METABASE_PASS: {error} Correct them.") from None
            raise

    def leave(self) -> None:
        if self.session:
            self("DELETE", "session")
            self.session = ""


def check_version(properties: Any) -> None:
    """Only what is known to be too old is refused: a build of somebody's own has no number."""
    version = properties.get("version") if isinstance(properties, dict) else None
    if not isinstance(version, dict):
        raise Misconfigured("METABASE_URL: what answers there is not Metabase. Correct it.")
    tag = str(version.get("tag"))
    number = re.match(r"v[01]\.(\d+)", tag)  # v0 is the open edition, v1 the other one
    if number and int(number[1]) < OLDEST:
        raise Misconfigured(f"Metabase {tag} is too old: seed_metabase needs v0.{OLDEST} or newer.")


def reason(error: HTTPError) -> str:
    """What Metabase says of it, in one line: {"errors": {field: text}}, {"message": text}, or text."""
    words = error.read(10_000).decode(errors="replace").strip()
    try:
        said = json.loads(words)
    except ValueError:
        said = words
    if isinstance(said, dict):
        errors = said.get("errors") or {}
        said = said.get("message") or "; ".join(f"{name}: {text}" for name, text in errors.items())
    return f"{error.code} {str(said)[:300].rstrip('.')}."


def cause(error: Exception) -> str:
    inner = getattr(error, "reason", error)  # urllib wraps them
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__).lower()
