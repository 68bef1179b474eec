"""A container registry on a free port: manifests of several platforms behind tokens, as Docker Hub has them, and faults to choose from."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def build_manifest(kind: str, image: str, build: int) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "annotations": {"image": image, "build": str(build)}}).encode()


class RegistryServer(ThreadingHTTPServer):
    """Has every image that is asked for. `builds`: how often an image was built anew; `faults`: what goes wrong with an image."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.tokens_at_store: list[str | None] = []
        self.builds: dict[str, int] = {}
        self.faults: dict[str, str] = {}
        self.released = threading.Event()  # ends the answers that hang

    def digest(self, image: str) -> str:
        """Return the digest of the list of all platforms, which the other ones differ from."""
        return f"sha256:{hashlib.sha256(build_manifest(INDEX, image, self.builds.get(image, 1))).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        address = urlsplit(self.path)
        if address.path == "/token":
            self.give_token(parse_qs(address.query))
        elif address.path.startswith("/store/"):
            self.server.tokens_at_store.append(self.headers["Authorization"])
            self.give_manifest(address.path.removeprefix("/store/"))
        else:
            repository, _, tag = address.path.removeprefix("/v2/").partition("/manifests/")
            self.give_image(repository, f"{repository}:{tag}")

    def give_token(self, query: dict[str, list[str]]) -> None:
        repository = query["scope"][0].split(":")[1]
        faults = {fault for image, fault in self.server.faults.items() if image.startswith(f"{repository}:")}
        if "no token" in faults:
            return self.answer(200, b"<html>", "text/html")
        if "no more tokens" in faults:
            return self.answer(429, b"", "text/plain")
        assert query["service"] == ["stand-in"]
        return self.answer(200, json.dumps({"token": f"to read {repository}"}).encode(), "application/json")

    def give_image(self, repository: str, image: str) -> None:
        fault = self.server.faults.get(image, "")
        if fault in STATUSES:
            return self.answer(*STATUSES[fault])
        if fault in ("closed", "silent"):
            self.server.released.wait(60 if fault == "silent" else 0)
            return None
        if self.headers["Authorization"] != f"Bearer to read {repository}" or fault == "private":
            realm = "file:///etc" if fault == "file" else f"{self.server.url}/token"
            challenge = f'Bearer realm="{realm}",service="stand-in",scope="repository:{repository}:pull"'
            return self.answer(401, b"{}", "application/json", {"WWW-Authenticate": challenge})
        if fault == "elsewhere":
            return self.answer(307, b"", "text/plain", {"Location": f"{self.server.url.replace('127.0.0.1', 'localhost')}/store/{image}"})
        return self.give_manifest(image, is_damaged=fault == "damaged")

    def give_manifest(self, image: str, is_damaged: bool = False) -> None:
        kind = INDEX if INDEX in self.headers["Accept"] else MANIFEST
        body = build_manifest(kind, image, self.server.builds.get(image, 1))
        # The header is optional: images of a name with an odd number of letters come without.
        headers = {"Docker-Content-Digest": f"sha256:{hashlib.sha256(body).hexdigest()}"} if is_damaged or len(image) % 2 else {}
        self.answer(200, body + b" " * is_damaged, kind, headers)

    def answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


STATUSES: dict[str, tuple[int, bytes, str, dict[str, str]]] = {
    "missing": (404, b"{}", "application/json", {}),
    "forbidden": (403, b"{}", "application/json", {}),
    "login": (401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="login"'}),
    "too many": (429, b"{}", "application/json", {"Retry-After": "120"}),
    "broken": (503, b"<html>", "text/html", {}),
    "page": (200, b"<html>", "text/html", {}),
    "old": (200, b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", {}),
    "huge": (200, b" " * (4 * 2**20 + 1), INDEX, {}),
}


@contextmanager
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()
