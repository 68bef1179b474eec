"""The signature of a manifest, by a key that is in no backup: the one that seals the audit log, too."""

import hmac
import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

SALT = "techmarket.backups.manifest"


def compute_signatures(document: Mapping[str, Any]) -> list[str]:
    """Return the signature by SECRET_KEY, and by each of SECRET_KEY_FALLBACKS."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [salted_hmac(SALT, text, secret=key, algorithm="sha256").hexdigest() for key in keys]


def is_signed(document: Mapping[str, Any], signature: str) -> bool:
    return any(hmac.compare_digest(signature.encode(), each.encode()) for each in compute_signatures(document))
