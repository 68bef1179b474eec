"""A client of Metabase's HTTP API: sends and receives JSON, and raises our own errors."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from techmarket.errors import AccessDenied, EtlError, Misconfigured, Unreachable
from techmarket.outbound import open_url

TIMEOUT_S = 60  # Metabase tries a database's address itself before it answers
NOT_METABASE = "METABASE_URL: what answers at {url} is not Metabase. Correct it."
UNLIKE_METABASE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
OLDEST_VERSION = 50  # from v0.50 on, cards are saved with their dashboard, and archived objects go to the trash


class Refused(EtlError):
    """Metabase answered with an HTTP error; `status` is its code."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Metabase:
    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.session = ""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to `method` /api/`path`, None if it is empty. Raises Refused, Unreachable or Misconfigured."""
        headers = {"Content-Type": "application/json"} | ({"X-Metabase-Session": self.session} if self.session else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            request = Request(f"{self.url}/api/{path}", data, headers, method=method)  # noqa: S310  settings.py accepts http and https only
            with open_url(request, TIMEOUT_S) as response:
                body_text = response.read()
            return json.loads(body_text) if body_text else None
        except HTTPError as error:
            with error:
                reason = hide_passwords(read_reason(error), body)
            raise Refused(f"{self.url} refuses {method} /api/{path}: {reason}", error.code) from None
        except (OSError, HTTPException) as error:
            raise Unreachable(f"METABASE_URL: {self.url} does not answer ({name_cause(error)}). Start Metabase, or correct it.") from None
        except (ValueError, RecursionError):
            raise Misconfigured(NOT_METABASE.format(url=self.url)) from None

    def wait(self, seconds: float) -> None:
        """Wait until Metabase answers; its first start takes a minute or two. Raises Unreachable after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self("GET", "health")
                return
            except (Unreachable, Refused) as error:
                if time.monotonic() > deadline:
                    raise Unreachable(str(error)) from None
            time.sleep(1)

    def log_in(self, user: str, password: str, set_up: bool) -> None:
        """Log in. With `set_up`, a Metabase that has no user yet gets this one as its administrator."""
        properties = self("GET", "session/properties")
        check_version(properties)
        if set_up and properties.get("setup-token") and not properties.get("has-user-setup"):
            administrator = {"email": user, "password": password, "first_name": "TechMarket", "last_name": "Administrator"}
            answer = self.authenticate(
                "setup", {"token": properties["setup-token"], "user": administrator, "prefs": {"site_name": "TechMarket"}}
            )
        else:
            answer = self.authenticate("session", {"username": user, "password": password})
        self.session = str(answer["id"])

    def authenticate(self, path: str, body: Any) -> Any:
        try:
            return self("POST", path, body)
        except Refused as error:
            if error.status in (400, 401, 403):
                raise AccessDenied(f"METABASE_USER, METABASE_PASS: {error} Correct them.") from None
            raise

    def log_out(self) -> None:
        if self.session:
            self("DELETE", "session")
            self.session = ""


@contextmanager
def understood(metabase: Metabase) -> Iterator[None]:
    """Raise Misconfigured where an answer inside has not the form that Metabase's API documents."""
    try:
        yield
    except UNLIKE_METABASE as error:
        raise Misconfigured(NOT_METABASE.format(url=metabase.url)) from error


def check_version(properties: Any) -> None:
    """Refuse versions that are known to be too old; a custom build has no number and passes."""
    version = properties.get("version") if isinstance(properties, dict) else None
    if not isinstance(version, dict):
        raise Misconfigured("METABASE_URL: what answers there is not Metabase. Correct it.")
    tag = str(version.get("tag"))
    number = re.match(r"v[01]\.([0-9]{1,9})", tag)  # v0 is the open-source edition, v1 the commercial one
    if number and int(number[1]) < OLDEST_VERSION:
        raise Misconfigured(f"Metabase {tag} is too old: seed_metabase needs v0.{OLDEST_VERSION} or newer.")


def read_reason(error: HTTPError) -> str:
    """Return Metabase's explanation in one line. Its body is {"errors": {field: text}}, {"message": text}, or text."""
    try:
        text = error.read(10_000).decode(errors="replace").strip()
    except (OSError, HTTPException):  # the connection broke in the middle of it
        text = ""
    answer = text
    with suppress(ValueError, RecursionError):
        answer = json.loads(text)
    if isinstance(answer, dict):
        errors = answer.get("errors") or {}
        details = [f"{name}: {detail}" for name, detail in errors.items()] if isinstance(errors, dict) else [str(errors)]
        answer = answer.get("message") or "; ".join(details)
    return f"{error.code} {' '.join(str(answer)[:300].split()).rstrip('.')}."


def hide_passwords(text: str, body: Any) -> str:
    """Return the text without the passwords and tokens that were sent: a server may repeat what it refuses."""
    for name, value in body.items() if isinstance(body, dict) else ():
        if isinstance(value, dict):
            text = hide_passwords(text, value)
        elif name in ("password", "token") and value:
            text = text.replace(str(value), "***").replace(json.dumps(value)[1:-1], "***")
    return text


def name_cause(error: Exception) -> str:
    inner = getattr(error, "reason", error)  # urllib wraps the original error
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__).lower()
