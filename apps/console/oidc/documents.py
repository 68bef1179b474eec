"""What the provider answers: its addresses, its keys and its tokens, each fetched with a limit of time and of size."""

import json
import time
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request

from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.core.cache import cache

from techmarket.outbound import open_url

TIMEOUT_S = 5  # of each read, and of all reads of one answer together
MAX_BYTES = 1_000_000  # a token that lists 5 000 groups has 150 000
DISCOVERY = "/.well-known/openid-configuration"
DISCOVERY_CACHED_S = 300  # otherwise every click of a stranger would be a request to the provider
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class ProviderDown(OAuth2Error):
    """The provider does not answer, or not as OpenID Connect has it."""


class Refused(OAuth2Error):
    """The provider, or what it says of the person, does not let them in."""


def discover() -> dict[str, Any]:
    """Return the provider's own description of itself."""
    key = f"oidc:{settings.OIDC_URL}"
    found: dict[str, Any] | None = cache.get(key)
    if found is None:
        found = fetch_json(Request(settings.OIDC_URL.rstrip("/") + DISCOVERY))  # noqa: S310  settings.py accepts http and https only
        check_discovery(found)
        cache.set(key, found, DISCOVERY_CACHED_S)
    return found


def check_discovery(found: Mapping[str, Any]) -> None:
    """Raise ProviderDown for a description of another issuer, or with an address that is none."""
    if found.get("issuer") != settings.OIDC_URL:
        raise ProviderDown("its issuer is not OIDC_URL, letter for letter")
    for name in ENDPOINTS:
        check_address(name, found.get(name))


def check_address(name: str, address: Any) -> None:
    schemes = ("https", "http") if urlsplit(settings.OIDC_URL).scheme == "http" else ("https",)
    try:
        is_good = isinstance(address, str) and urlsplit(address).scheme in schemes and bool(urlsplit(address).hostname)
    except ValueError:
        is_good = False
    if not is_good:
        raise ProviderDown(f"{name} is no address")


def fetch_keys() -> list[dict[str, Any]]:
    """Return the provider's public keys as of now: they rotate, and a login is rare enough."""
    keys = fetch_json(Request(discover()["jwks_uri"])).get("keys")  # noqa: S310
    if not isinstance(keys, list):
        raise ProviderDown("its keys are no list")
    return [key for key in keys if isinstance(key, dict)]


def exchange_code(code: str, verifier: str, callback: str) -> dict[str, Any]:
    """Return the tokens for the code of a login."""
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": callback}
    headers = {}
    methods = discover().get("token_endpoint_auth_methods_supported")
    if isinstance(methods, list) and "client_secret_post" in methods and "client_secret_basic" not in methods:
        form |= {"client_id": settings.OIDC_CLIENT_ID, "client_secret": settings.OIDC_CLIENT_SECRET}
    else:
        pair = f"{quote(settings.OIDC_CLIENT_ID, safe='')}:{quote(settings.OIDC_CLIENT_SECRET, safe='')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return fetch_json(Request(discover()["token_endpoint"], urlencode(form).encode(), headers))  # noqa: S310


def fetch_user_info(access_token: Any) -> dict[str, Any]:
    """Return what the provider says of the person beside the token; nothing where it does not offer that."""
    address = discover().get("userinfo_endpoint")
    if address is None or not isinstance(access_token, str) or not access_token.isascii() or not access_token.isprintable():
        return {}
    check_address("userinfo_endpoint", address)
    return fetch_json(Request(address, headers={"Authorization": f"Bearer {access_token}"}))  # noqa: S310


def fetch_json(request: Request) -> dict[str, Any]:
    request.add_header("Accept", "application/json")
    try:
        with open_url(request, TIMEOUT_S) as answer:
            content = json.loads(read_limited(answer))
    except HTTPError as error:
        error.close()
        if error.code in (400, 401, 403):
            raise Refused(f"the provider answered {error.code}") from None
        raise ProviderDown(f"it answered {error.code}") from None
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise ProviderDown(type(error).__name__) from None
    if not isinstance(content, dict):
        raise ProviderDown("its answer is no JSON object")
    return content


def read_limited(answer: Any) -> bytes:
    """Return the body. A timeout of the socket alone would let a byte every few seconds hold the page for hours."""
    deadline, parts, size = time.monotonic() + TIMEOUT_S, [], 0
    while part := answer.read1(65_536):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > MAX_BYTES:
            raise ValueError("too long")
    return b"".join(parts)
