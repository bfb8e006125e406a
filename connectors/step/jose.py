"""What of JOSE a token for step-ca takes: a key out of an encrypted JWK, its thumbprint, a signature. No I/O."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from connectors.keyfiles import PrivateKey

_PBES2: dict[str, tuple[type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512], int]] = {
    "PBES2-HS256+A128KW": (hashes.SHA256, 16),
    "PBES2-HS384+A192KW": (hashes.SHA384, 24),
    "PBES2-HS512+A256KW": (hashes.SHA512, 32),
}
_MOST_ITERATIONS = 10_000_000

_CURVES: dict[str, tuple[type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1], str, hashes.HashAlgorithm, int]] = {
    "secp256r1": (ec.SECP256R1, "P-256", hashes.SHA256(), 32),
    "secp384r1": (ec.SECP384R1, "P-384", hashes.SHA384(), 48),
    "secp521r1": (ec.SECP521R1, "P-521", hashes.SHA512(), 66),
}
"""By the library's name: curve, JOSE's name, the hash of its signatures (RFC 7518 §3.4), octets of a coordinate."""


def encode(value: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decrypt_jwk(text: str, passphrase: bytes) -> dict[str, Any]:
    """The JWK inside a JWE, in either of the forms that the `step` command writes (RFC 7516 §7).

    Raises:
        ValueError: it is no such JWE, is encrypted otherwise, or the passphrase is wrong.
    """
    protected, wrapped, iv, ciphertext, tag = _parts(text)
    header = json.loads(_decode(protected))
    alg, iterations = header["alg"], header["p2c"]
    if alg not in _PBES2 or header["enc"] not in {"A128GCM", "A192GCM", "A256GCM"} or iterations > _MOST_ITERATIONS:
        raise ValueError("it is encrypted in a way that is not read here")
    algorithm, length = _PBES2[alg]
    # RFC 7518 §4.8.1.1: "(UTF8(Alg) || 0x00 || Salt Input)"
    salt = alg.encode() + b"\0" + _decode(header["p2s"])
    derived = PBKDF2HMAC(algorithm(), length, salt, iterations).derive(passphrase)
    try:
        key = aes_key_unwrap(derived, _decode(wrapped))
        plain = AESGCM(key).decrypt(_decode(iv), _decode(ciphertext) + _decode(tag), protected.encode("ascii"))
    except (InvalidUnwrap, InvalidTag) as error:
        raise ValueError("the passphrase is wrong") from error
    jwk = json.loads(plain)
    if not isinstance(jwk, dict):
        raise TypeError("there is no JWK inside")
    return jwk


def private_key(jwk: dict[str, Any]) -> PrivateKey:
    """The RSA or EC key of a private JWK (RFC 7518 §6).

    Raises:
        ValueError: it is of another kind, or contradicts itself.
    """
    match jwk["kty"]:
        case "EC":
            curve = next((each for each, name, _, _ in _CURVES.values() if name == jwk["crv"]), None)
            if curve is None:
                raise ValueError("it is on a curve that is not used here")
            return ec.EllipticCurvePrivateNumbers(
                _number(jwk["d"]), ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), curve())
            ).private_key()
        case "RSA":
            public = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"]))
            p, q, d, dp, dq, qi = (_number(jwk[name]) for name in ("p", "q", "d", "dp", "dq", "qi"))
            return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()
        case _:
            raise ValueError("it is neither RSA nor EC")


def thumbprint(key: PrivateKey) -> str:
    """RFC 7638 with SHA-256: the key id that step-ca gives to a key."""
    canonical = json.dumps(_public_jwk(key), sort_keys=True, separators=(",", ":"))
    return encode(hashlib.sha256(canonical.encode()).digest())


def algorithm(key: PrivateKey) -> str:
    """The `alg` of a signature (RFC 7518 §3.1)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}[key.curve.name]


def sign(header: dict[str, Any], claims: dict[str, Any], key: PrivateKey) -> str:
    """A JWT in the compact form (RFC 7519 §3)."""
    signed = ".".join(encode(json.dumps(each, separators=(",", ":")).encode()) for each in (header, claims))
    return f"{signed}.{encode(_signature(key, signed.encode('ascii')))}"


def _signature(key: PrivateKey, content: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    _, _, digest, octets = _CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(digest)))
    return r.to_bytes(octets) + s.to_bytes(octets)


def _public_jwk(key: PrivateKey) -> dict[str, str]:
    """The members that a thumbprint is made of."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {"e": _text(public.e), "kty": "RSA", "n": _text(public.n)}
    point = key.public_key().public_numbers()
    _, name, _, octets = _CURVES[key.curve.name]
    return {"crv": name, "kty": "EC", "x": encode(point.x.to_bytes(octets)), "y": encode(point.y.to_bytes(octets))}


def _parts(text: str) -> list[str]:
    if text.startswith("{"):
        jwe = json.loads(text)
        return [jwe[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag")]
    parts = text.split(".")
    if len(parts) != 5:  # noqa: PLR2004 - RFC 7516 §3.1
        raise ValueError("it is no JWE")
    return parts


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_decode(text))


def _text(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8))
