"""Signed JSON as JOSE has it, as far as a challenge needs: a compact JWS against the public keys of a JWKS. No I/O.

RFC 7515, 7517, 7518, 8037. The caller names the algorithms; each goes with one kind of key, so that no token chooses.
There is neither `none` nor any algorithm under a shared secret, and no header can bring a key along.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

MIN_RSA_BITS = 2048
MAX_TOKEN_CHARACTERS = 8192

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Algorithm(StrEnum):
    """What a token may be signed with (RFC 7518 §3.1, RFC 8037 §3.1)."""

    RS256 = "RS256"
    PS256 = "PS256"
    ES256 = "ES256"
    ES384 = "ES384"
    EDDSA = "EdDSA"


_CURVES: dict[str, tuple[type[ec.SECP256R1 | ec.SECP384R1], int]] = {
    "P-256": (ec.SECP256R1, 32),
    "P-384": (ec.SECP384R1, 48),
}
_ECDSA: dict[Algorithm, tuple[str, hashes.HashAlgorithm, int]] = {
    Algorithm.ES256: ("secp256r1", hashes.SHA256(), 32),
    Algorithm.ES384: ("secp384r1", hashes.SHA384(), 48),
}


class BadToken(Exception):
    """A token that is none, or whose signature does not verify; the message repeats nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicJwk:
    """One public key of a JWKS. `alg` is what the set says it is for, if it does."""

    kid: str | None
    alg: str | None
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token in its parts; nothing of it is proved yet."""

    algorithm: Algorithm
    kid: str | None
    signed: bytes
    signature: bytes
    payload: bytes


def read_jwks(document: Any) -> tuple[PublicJwk, ...]:
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
    parts = text.split(".")
    if len(parts) != 3 or len(text) > MAX_TOKEN_CHARACTERS:  # noqa: PLR2004 - header, payload, signature
        raise BadToken("it is no JWT")
    header = _object(_decoded(parts[0]))
    if "crit" in header:
        raise BadToken("it demands an extension (crit)")
    algorithm = next((each for each in allowed if each.value == header.get("alg")), None)
    if algorithm is None:
        raise BadToken("its algorithm is not among those allowed")
    kid = header.get("kid")
    return Token(
        algorithm=algorithm,
        kid=kid if isinstance(kid, str) else None,
        signed=f"{parts[0]}.{parts[1]}".encode("ascii", "replace"),
        signature=_decoded(parts[2]),
        payload=_decoded(parts[1]),
    )


def candidates(token: Token, keys: Sequence[PublicJwk]) -> list[PublicJwk]:
    """The keys that may have signed it: of its kid, where it has one, and of its algorithm."""
    return [
        each
        for each in keys
        if (token.kid is None or each.kid == token.kid)
        and each.alg in {None, token.algorithm.value}
        and _goes_with(each.key, token.algorithm)
    ]


def verified_claims(token: Token, keys: Sequence[PublicJwk]) -> dict[str, Any]:
    """The claims, once one of the keys has verified the signature.

    Raises:
        BadToken: none does.
    """
    if not any(_verifies(each.key, token) for each in candidates(token, keys)):
        raise BadToken("no key of the issuer verifies its signature")
    return _object(token.payload)


def _verifies(key: Key, token: Token) -> bool:
    try:
        match key:
            case rsa.RSAPublicKey() if token.algorithm is Algorithm.RS256:
                key.verify(token.signature, token.signed, padding.PKCS1v15(), hashes.SHA256())
            case rsa.RSAPublicKey():
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
                key.verify(token.signature, token.signed, pss, hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                _, digest, octets = _ECDSA[token.algorithm]
                key.verify(_der_signature(token.signature, octets), token.signed, ec.ECDSA(digest))
            case ed25519.Ed25519PublicKey():
                key.verify(token.signature, token.signed)
    except InvalidSignature:
        return False
    return True


def _goes_with(key: Key, algorithm: Algorithm) -> bool:
    match key:
        case rsa.RSAPublicKey():
            return algorithm in {Algorithm.RS256, Algorithm.PS256}
        case ec.EllipticCurvePublicKey():
            return algorithm in _ECDSA and key.curve.name == _ECDSA[algorithm][0]
        case _:
            return algorithm is Algorithm.EDDSA


def _der_signature(raw: bytes, octets: int) -> bytes:
    """RFC 7518 §3.4: r and s, each of a fixed length."""
    if len(raw) != 2 * octets:
        raise InvalidSignature
    return encode_dss_signature(int.from_bytes(raw[:octets]), int.from_bytes(raw[octets:]))


def _read_jwk(jwk: Any) -> PublicJwk | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    try:
        key = _read_key(jwk)
    except (BadToken, KeyError, ValueError, TypeError, AttributeError):
        return None
    kid, alg = jwk.get("kid"), jwk.get("alg")
    return PublicJwk(kid=kid if isinstance(kid, str) else None, alg=alg if isinstance(alg, str) else None, key=key)


def _read_key(jwk: dict[str, Any]) -> Key:
    match jwk["kty"]:
        case "RSA":
            key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
            if key.key_size < MIN_RSA_BITS:
                raise BadToken("a short key")
            return key
        case "EC":
            curve, octets = _CURVES[jwk["crv"]]
            x, y = _decoded(jwk["x"]), _decoded(jwk["y"])
            if {len(x), len(y)} != {octets}:
                raise BadToken("a coordinate of the wrong length")
            return ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve()).public_key()
        case "OKP" if jwk["crv"] == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_decoded(jwk["x"]))
        case _:
            raise BadToken("a key of another kind")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadToken("a part of it is no JSON") from None
    if not isinstance(value, dict):
        raise BadToken("a part of it is no JSON object")
    return value


def _decoded(text: str) -> bytes:
    """Base64url without padding (RFC 7515 §2)."""
    if not text.isascii() or set(text) & set("+/="):
        raise BadToken("a part of it is no base64url")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise BadToken("a part of it is no base64url") from None


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text))
