"""What a browser may do with our pages: nothing from another origin, and no script or style sheet that is written into a page."""

import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# The theme needs two exceptions. Alpine, which its menus and filters are written in, evaluates its attributes as expressions, which is
# 'unsafe-eval'; and it sets style attributes from them. Neither lets a script or a style sheet in that somebody has written into a page.
SOURCES = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self'",
    "style-src-attr": "'unsafe-inline'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# The theme's own style elements: its colours, and the first column of a list without actions. They are allowed by their hashes.
STYLES = re.compile(
    rb'<style id="unfold-theme-colors">(.*?)</style>|<style>(\s*#changelist table thead th:first-child \{width: inherit\}\s*)</style>',
    re.DOTALL,
)
MAX_STYLES = 2
UNUSED = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone", "midi", "payment", "usb")
PERMISSIONS = ", ".join(f"{feature}=()" for feature in UNUSED)


class BrowserPolicyMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not (settings.DEBUG and response.status_code >= 500):  # Django's own page of an error, with its scripts
            response["Content-Security-Policy"] = build_policy(b"" if response.streaming else response.content)  # type: ignore[attr-defined]
            response["Permissions-Policy"] = PERMISSIONS
        return response


@cache
def read_error_style() -> bytes:
    """Return the style of the error pages, which stand alone: static files may be what has failed."""
    return (settings.BASE_DIR / "templates" / "error.html").read_bytes().partition(b"<style>")[2].partition(b"</style>")[0]


def build_policy(page: bytes) -> str:
    found = [next(filter(None, match.groups())) for match in STYLES.finditer(page)][:MAX_STYLES]
    found += [read_error_style()] if read_error_style() in page else []
    hashes = [f"'sha256-{b64encode(sha256(style).digest()).decode()}'" for style in found]
    sources = SOURCES | {"style-src": " ".join([SOURCES["style-src"], *hashes])}
    return "; ".join(f"{directive} {allowed}" for directive, allowed in sources.items())
