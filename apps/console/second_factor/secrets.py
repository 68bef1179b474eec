"""Encrypts what second factors store by a key of SECRET_KEY, which no database and no backup holds."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

CONTEXT = b"techmarket second factor"


class UnreadableSecret(Exception):
    """SECRET_KEY has been replaced, and the earlier key is not among SECRET_KEY_FALLBACKS."""


def encrypt(text: str) -> str:
    return build_cipher().encrypt(text.encode()).decode()


def decrypt(encrypted: str) -> str:
    """Return the text, encrypted by SECRET_KEY or by one of SECRET_KEY_FALLBACKS. Raises UnreadableSecret."""
    try:
        return build_cipher().decrypt(encrypted.encode()).decode()
    except InvalidToken:
        raise UnreadableSecret from None


def renew(encrypted: str) -> str:
    """Return the text encrypted by SECRET_KEY, so that a fallback is needed no longer."""
    return encrypt(decrypt(encrypted))


def build_cipher() -> MultiFernet:
    return MultiFernet([Fernet(derive_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def derive_key(secret: str) -> bytes:
    return urlsafe_b64encode(HKDF(SHA256(), 32, salt=None, info=CONTEXT).derive(secret.encode()))
