"""HTTP requests to other servers: through the proxy of HTTP_PROXY and HTTPS_PROXY, but directly to addresses of the own network."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener, urlopen

LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".svc")


def open_url(request: Request, timeout: float) -> Any:
    """Open the request's address. A proxy outside cannot know a name of this network, and NO_PROXY seldom lists them all."""
    if is_local(urlsplit(request.full_url).hostname or ""):
        return build_opener(ProxyHandler({})).open(request, timeout=timeout)
    return urlopen(request, timeout=timeout)  # nosec B310 # noqa: S310  settings.py accepts http and https only


def is_local(host: str) -> bool:
    """Return True for a loopback or private address, a name without a dot (`metabase`) and a name of a cluster."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.rstrip(".").endswith(LOCAL_SUFFIXES)
