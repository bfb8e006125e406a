"""Signed JSON as JOSE has it, as far as a challenge needs: a compact JWS against the public keys of a JWKS. No I/O.

RFC 7515, 7517, 7518, 8037. The caller names the algorithms; each goes with one kind of key, so that no token chooses.
There is neither `none` nor any algorithm under a shared secret, and no header can bring a key along.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import Key, RSAKey, import_key
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact
from joserfc.util import urlsafe_b64decode

MIN_RSA_BITS = 2048
MAX_TOKEN_CHARACTERS = 8192

_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError)
"""What joserfc raises of what is no token or key: it minds its own errors, and not every type that JSON has."""


class Algorithm(StrEnum):
    """What a token may be signed with (RFC 7518 §3.1, RFC 8037 §3.1)."""

    RS256 = "RS256"
    PS256 = "PS256"
    ES256 = "ES256"
    ES384 = "ES384"
    EDDSA = "EdDSA"


class BadToken(Exception):
    """A token that is none, or whose signature does not verify; the message repeats nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token in its parts; nothing of it is proved yet."""

    algorithm: Algorithm
    kid: str | None
    parts: CompactSignature = field(repr=False)


class _Sizes(JWSRegistry):
    """The length of the whole is what bounds it: some issuers put their certificates into the header."""

    max_header_length = max_payload_length = max_signature_length = MAX_TOKEN_CHARACTERS


def read_jwks(document: Any) -> tuple[Key, ...]:
    """The keys that can be used; others are passed over, as RFC 7517 §5 has it.

    Raises:
        BadToken: it is no JWKS.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise BadToken("it is no JWKS")
    return tuple(each for each in map(_read_jwk, keys) if each is not None)


def read_token(text: str, allowed: Collection[Algorithm]) -> Token:
    """The parts of a compact JWS (RFC 7515 §7.1).

    Raises:
        BadToken: it is none, or its algorithm is not allowed.
    """
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise BadToken("it is no JWT")
    try:
        parts = extract_compact(text.encode("ascii"), registry=_Sizes())
        header = dict(parts.headers())
    except (*_UNREADABLE, RecursionError):
        raise BadToken("it is no JWT") from None
    if "crit" in header:
        raise BadToken("it demands an extension (crit)")
    algorithm = next((each for each in allowed if each.value == header["alg"]), None)
    if algorithm is None:
        raise BadToken("its algorithm is not among those allowed")
    kid = header.get("kid")
    return Token(algorithm=algorithm, kid=kid if isinstance(kid, str) else None, parts=parts)


def candidates(token: Token, keys: Sequence[Key]) -> list[Key]:
    """The keys that may have signed it: of its kid, where it has one, and of its algorithm."""
    return [each for each in keys if (token.kid is None or each.kid == token.kid) and _goes_with(each, token.algorithm)]


def verified_claims(token: Token, keys: Sequence[Key]) -> dict[str, Any]:
    """The claims, once one of the keys has verified the signature.

    Raises:
        BadToken: none does.
    """
    if not any(_verifies(each, token) for each in candidates(token, keys)):
        raise BadToken("no key of the issuer verifies its signature")
    try:
        claims = json.loads(token.parts.payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise BadToken("what it says is no JSON object")
    return claims


def _verifies(key: Key, token: Token) -> bool:
    """By the algorithm itself, for `EdDSA` out of a registry warns every time that RFC 9864 has other names for it."""
    segments = token.parts.segments
    signed = segments["header"] + b"." + segments["payload"]
    try:
        return JWSRegistry.algorithms[token.algorithm].verify(signed, urlsafe_b64decode(segments["signature"]), key)
    except (JoseError, ValueError):
        return False


def _goes_with(key: Key, algorithm: Algorithm) -> bool:
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
    except JoseError:
        return False
    return True


def _read_jwk(jwk: Any) -> Key | None:
    """What no algorithm of ours goes with is none of ours; a private key that everybody can read proves nothing."""
    if not isinstance(jwk, dict) or "d" in jwk:
        return None
    try:
        key = import_key(jwk)
    except _UNREADABLE:
        return None
    is_short = isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS
    return None if is_short or not any(_goes_with(key, each) for each in Algorithm) else key
