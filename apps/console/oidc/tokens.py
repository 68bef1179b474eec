"""Verifies the token by which the provider says who somebody is."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from apps.console.oidc.documents import Refused

# Public keys alone: with HS256 among them, whoever knows the public key could sign a token by it, and `none` signs nothing.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
LEEWAY_S = 30  # between the clocks of the provider and of this machine
MAX_SUBJECT = 255  # as OpenID Connect has it


def verify_id_token(token: Any, issuer: str, client: str, nonce: str, keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the claims of a token that the issuer has signed, for this client, in answer to this login, and not long ago."""
    if not isinstance(token, str):
        raise Refused("the provider sent no id_token")
    try:
        key = find_key(jwt.get_unverified_header(token), keys)
        options: Any = {"require": REQUIRED, "strict_aud": False}
        claims: dict[str, Any] = jwt.decode(
            token, key.key, algorithms=[key.algorithm_name], audience=client, issuer=issuer, leeway=LEEWAY_S, options=options
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise Refused(f"the id_token is not valid: {type(error).__name__}") from None
    check_claims(claims, client, nonce)
    return claims


def find_key(header: Mapping[str, Any], keys: Sequence[Mapping[str, Any]]) -> jwt.PyJWK:
    """Return the key that the header names; without a name, the only one."""
    algorithm, name = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise jwt.InvalidAlgorithmError
    fitting = [key for key in keys if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm]
    named = [key for key in fitting if key.get("kid") == name] if name is not None else fitting
    if len(named) != 1:
        raise jwt.InvalidKeyError
    return jwt.PyJWK(dict(named[0]), algorithm=algorithm)


def check_claims(claims: Mapping[str, Any], client: str, nonce: str) -> None:
    """Raise Refused for a token of another login, or one that another client has been given."""
    if not nonce or not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Refused("the id_token is not valid: nonce")
    audience = claims["aud"]
    if claims.get("azp", client) != client or (isinstance(audience, list) and len(audience) > 1 and "azp" not in claims):
        raise Refused("the id_token is not valid: azp")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise Refused("the id_token is not valid: sub")
