"""Codes of an authenticator app, computed from RFC 6238 by `cryptography`, which shares no code with what verifies them."""

import base64
from datetime import UTC, datetime

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP


def compute_code(secret: str, at: float) -> str:
    """Return the code that an app shows at a time."""
    return TOTP(base64.b32decode(secret), 6, SHA1(), 30).generate(int(datetime.fromtimestamp(at, UTC).timestamp())).decode()
