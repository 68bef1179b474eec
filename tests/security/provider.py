"""A stand-in for a company's OpenID provider: a small server with real signatures, which also misbehaves in the ways that a test names."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "techmarket", "c4nary-of-the-client"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_number(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


@dataclass
class Key:
    name: str
    private: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65_537, 2_048))

    def describe(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA", "kid": self.name, "use": "sig", "alg": "RS256", "n": encode_number(numbers.n), "e": encode_number(numbers.e),
        }  # fmt: skip

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, text: bytes) -> bytes:
        return self.private.sign(text, padding.PKCS1v15(), hashes.SHA256())


def build_token(claims: dict[str, Any], header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    text = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encode(sign(text.encode()))}"


@dataclass
class Provider:
    """What it says of whoever logs in: `claims`. `change` edits the claims of a token, `token` replaces it, `answer` a whole document."""

    url: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "user-1", "groups": ["shop-analysts"]})
    user_info: dict[str, Any] = field(default_factory=dict)
    key: Key = field(default_factory=lambda: Key("first"))
    published: list[Key] | None = None
    change: Callable[[dict[str, Any]], None] = lambda claims: None
    token: Callable[["Provider", dict[str, Any]], str] | None = None
    answer: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def discovery(self) -> dict[str, Any]:
        paths = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys", "userinfo_endpoint": "/userinfo"}
        return {"issuer": self.url, **{name: self.url + path for name, path in paths.items()}}

    def authorize(self, address: str) -> str:
        """Do what the provider's login page does once the person has given their password: return the address that it sends them to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code" and query["client_id"] == CLIENT and query["code_challenge_method"] == "S256"
        assert query["code_challenge"] and len(query["nonce"]) >= 20 and len(query["state"]) >= 16 and "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Return the tokens for a code, once, to the client that has its secret and the verifier of its challenge."""
        started = self.codes.pop(form.get("code", ""), None)
        if started is None or authorization != f"Basic {base64.b64encode(f'{CLIENT}:{SECRET}'.encode()).decode()}":
            return None
        challenge = encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if challenge != started["code_challenge"] or form["redirect_uri"] != started["redirect_uri"]:
            return None
        return {"access_token": "opaque", "token_type": "Bearer", "id_token": self.issue(started["nonce"])}

    def issue(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce} | self.claims
        self.change(claims)
        if self.token:
            return self.token(self, claims)
        return build_token(claims, {"alg": "RS256", "kid": self.key.name, "typ": "JWT"}, self.key.sign)


def sign_by_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    """Return a token that whoever knows the public key can make: it is the secret of HS256."""
    header = {"alg": "HS256", "kid": provider.key.name, "typ": "JWT"}
    return build_token(claims, header, lambda text: hmac.new(provider.key.public_pem(), text, hashlib.sha256).digest())


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        documents = {
            "/.well-known/openid-configuration": self.provider.discovery,
            "/keys": lambda: {"keys": [key.describe() for key in self.provider.published or [self.provider.key]]},
            "/userinfo": lambda: self.provider.user_info,
        }
        if path == "/authorize":
            self.send_response(302)
            self.send_header("Location", self.provider.authorize(self.path))
            self.end_headers()
        elif path in documents:
            self.send_document(path, documents[path]())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        tokens = self.provider.exchange(form, self.headers.get("Authorization", ""))
        self.send_document("/token", tokens or {"error": "invalid_grant"}, 200 if tokens else 400)

    def send_document(self, path: str, content: Any, status: int = 200) -> None:
        self.provider.requests.append(path)
        if path in self.provider.answer:
            self.provider.answer[path](self)
            return
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def run_provider() -> Iterator[Provider]:
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHandler", (Handler,), {"provider": provider}))
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
