"""Gives every request an id and the client's address, and attributes to its user what is recorded meanwhile."""

import re
import uuid
from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from structlog.contextvars import bound_contextvars

from apps.audit.actor import acting_as
from apps.audit.settings_seen import record_settings_once

HOP_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](:[0-9]+)?|(?P<v4>[0-9.]+):[0-9]+")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


class AuditMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.client_address = find_client_address(request)  # type: ignore[attr-defined]
        request.id = find_request_id(request)  # type: ignore[attr-defined]
        with acting_as(request), bound_contextvars(request=request.id):  # type: ignore[attr-defined]
            record_settings_once("web")
            response = self.get_response(request)
        response["X-Request-ID"] = request.id  # type: ignore[attr-defined]
        return response


def find_client_address(request: HttpRequest) -> str:
    """Return the address of the client: the last hop of X-Forwarded-For that is no proxy of TRUSTED_PROXIES, else the peer's own.

    What is no address in the header says nothing: then it is that of the last proxy that spoke of a client.
    """
    address = parse_address(str(request.META.get("REMOTE_ADDR", "")))
    hops = [hop for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    while hops and is_trusted_proxy(address) and (hop := parse_address(hops.pop())):
        address = hop
    return address


def parse_address(hop: str) -> str:
    """Return the address in its one spelling, without the port that some proxies add, or ""."""
    text = hop.strip()
    if found := HOP_WITH_PORT.fullmatch(text):
        text = found["v6"] or found["v4"]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_trusted_proxy(address: str) -> bool:
    """Return True for an address of TRUSTED_PROXIES. The empty one is a proxy's, too: it comes by a socket of this machine."""
    if not address:
        return bool(settings.TRUSTED_PROXIES)
    return any(ip_address(address) in network for network in settings.TRUSTED_PROXIES)


def find_request_id(request: HttpRequest) -> str:
    """Return the id that a trusted proxy has given the request, else a new one: anybody else could repeat another's."""
    given = request.headers.get("X-Request-ID", "")
    trusted = is_trusted_proxy(parse_address(str(request.META.get("REMOTE_ADDR", ""))))
    return given if trusted and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
