"""Container registries, asked by the OCI distribution API which digest a tag stands for, with the tokens that Docker Hub demands."""

import hashlib
import json
import re
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

TIMEOUT_S = 20
LARGEST_ANSWER = 4 * 2**20  # bytes: no registry has to accept a larger manifest
# Lists of several platforms first: their digest is the one for all of them.
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
PARAMETER = re.compile(r'(\w+)="([^"]*)"')
SCHEMES = ("http", "https")


class Unanswered(Exception):
    """A registry does not answer what a tag stands for; the message says why, in one line."""


class Registry:
    """A registry, read without an account."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.host = urlsplit(url).netloc
        self.opener = build_opener(urlsplit(url).hostname or "")
        self.tokens: dict[str, str] = {}
        self.silence = ""  # why it does not answer at all: each of ten images would wait for it again

    def read_digest(self, repository: str, tag: str) -> str:
        """Return `sha256:...` of what the tag stands for. Raises Unanswered.

        It is calculated from the answer: clients shall not depend on the header Docker-Content-Digest. Where it is there, it must agree.
        """
        body, headers = self.get_manifest(repository, tag)
        if headers.get_content_type() not in MANIFESTS:
            raise Unanswered(f"{self.host} answers with no manifest of an image but with {headers.get_content_type()}")
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        stated = headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and stated != digest:
            raise Unanswered(f"{self.host} answers with a manifest that does not match its digest; it was damaged on the way")
        return digest

    def get_manifest(self, repository: str, tag: str) -> tuple[bytes, Any]:
        url = f"{self.url}/v2/{repository}/manifests/{tag}"
        try:
            return self.get(url, self.tokens.get(repository))
        except HTTPError as error:
            with error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not challenge.lower().startswith("bearer "):
                    raise Unanswered(self.explain(error)) from None
        self.tokens[repository] = self.get_token(challenge, repository)
        try:
            return self.get(url, self.tokens[repository])
        except HTTPError as error:
            with error:
                raise Unanswered(self.explain(error)) from None

    def get_token(self, challenge: str, repository: str) -> str:
        """Return a token from the server that the registry names in its answer 401."""
        fields = dict(PARAMETER.findall(challenge))
        realm = fields.get("realm", "")
        if urlsplit(realm).scheme not in SCHEMES:
            raise Unanswered(f"{self.host} names no server that gives tokens")
        query = {"service": fields.get("service", ""), "scope": fields.get("scope") or f"repository:{repository}:pull"}
        try:
            answer = json.loads(self.get(f"{realm}?{urlencode(query)}")[0])
            return str(answer.get("token") or answer["access_token"])
        except HTTPError as error:
            with error:
                raise Unanswered(self.explain(error, urlsplit(realm).netloc)) from None
        except (ValueError, KeyError, AttributeError):
            raise Unanswered(f"{urlsplit(realm).netloc} answers with no token") from None

    def get(self, url: str, token: str | None = None) -> tuple[bytes, Any]:
        """Return the body and the headers. Raises HTTPError, and Unanswered where nobody answers."""
        if self.silence:
            raise Unanswered(self.silence)
        request = Request(url, headers={"Accept": ", ".join(MANIFESTS)})  # noqa: S310  the opener knows http and https only
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with self.opener.open(request, timeout=TIMEOUT_S) as response:
                body = response.read(LARGEST_ANSWER + 1)
                headers = response.headers
        except HTTPError:
            raise
        except (OSError, HTTPException) as error:
            self.silence = f"{urlsplit(url).netloc} does not answer ({name_cause(error)})"
            raise Unanswered(self.silence) from None
        if len(body) > LARGEST_ANSWER:
            raise Unanswered(f"{urlsplit(url).netloc} answers with more than {LARGEST_ANSWER // 2**20} MB")
        return body, headers

    def explain(self, error: HTTPError, host: str = "") -> str:
        host = host or self.host
        if error.code == 429:
            wait = error.headers.get("Retry-After", "")
            self.silence = f"{host} refuses so many requests; try again {f'in {wait} s' if wait.isdigit() else 'in some hours'}"
            return self.silence
        if error.code == 404:
            return f"{host} has no such image or tag"
        if error.code in (401, 403):
            return f"{host} has no such image, or shows it only to those who log in"
        return f"{host} answers {error.code}"


def build_opener(host: str) -> OpenerDirector:
    """Return an opener for http and https alone; to this machine without a proxy."""
    opener = OpenerDirector()
    for handler in (HTTPHandler, HTTPSHandler, HTTPRedirectHandler, HTTPErrorProcessor, HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    opener.add_handler(ProxyHandler({} if is_own_machine(host) else None))
    return opener


def is_own_machine(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def name_cause(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "time limit"
    return " ".join(str(getattr(reason, "strerror", None) or reason or type(reason).__name__).split())
