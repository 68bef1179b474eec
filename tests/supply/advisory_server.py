"""An index of advisories on a free port, which answers as OSV's API does, or wrongly."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NO_ADVISORIES: tuple[int, bytes] = (200, b"{}")


class AdvisoryServer(ThreadingHTTPServer):
    """`answer`: to every question about a package without `advisories`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/query"
        self.answer = NO_ADVISORIES
        self.advisories: dict[str, dict[str, Any]] = {}
        self.packages: set[tuple[str, str]] = set()

    def advise(self, package: str, name: str, alias: str, fixed: str) -> None:
        events = [{"introduced": "0"}, {"fixed": fixed}]
        affected = [{"package": {"name": package, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        self.advisories[package] = {"schema_version": "1.6.0", "id": name, "aliases": [alias], "summary": "a hole", "affected": affected}


class Handler(BaseHTTPRequestHandler):
    server: AdvisoryServer

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package = query["package"]["name"]
        self.server.packages.add((package, query["version"]))
        status, body = self.server.answer
        if package in self.server.advisories:
            body = json.dumps({"vulns": [self.server.advisories[package]]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def advisory_server() -> Iterator[AdvisoryServer]:
    with AdvisoryServer() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server
        server.shutdown()
