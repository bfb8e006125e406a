"""What of JOSE a token for step-ca takes: a key out of an encrypted JWK, its thumbprint, a signature. No I/O."""

from __future__ import annotations

import binascii
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import DecodeError, JoseError, UnsupportedHeaderError
from joserfc.jwe import JWERegistry, decrypt_compact
from joserfc.jwk import ECKey, OctKey, RSAKey, import_key
from joserfc.registry import Header

from connectors.keyfiles import PrivateKey

_MOST_ITERATIONS = 10_000_000
_MOST_BY_THE_LIBRARY = 300_000

_ECDSA = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
"""The `alg` that goes with a curve (RFC 7518 §3.4)."""


class _Registry(JWERegistry):
    """Takes as many iterations as `step` writes (600,000).

    The library stops short of that, for fear of strangers' tokens: this one is a file of the operator's, opened once.
    """

    def check_header(self, header: Header, check_more: bool = False) -> None:
        if header["p2c"] > _MOST_ITERATIONS:
            raise UnsupportedHeaderError("p2c")
        super().check_header({**header, "p2c": min(header["p2c"], _MOST_BY_THE_LIBRARY)}, check_more)


_REGISTRY = _Registry(
    algorithms=[
        *("PBES2-HS256+A128KW", "PBES2-HS384+A192KW", "PBES2-HS512+A256KW"),
        *("A128GCM", "A192GCM", "A256GCM"),
    ],
    strict_check_header=False,
)


def decrypt_jwk(text: str, passphrase: bytes) -> dict[str, Any]:
    """The JWK inside a JWE, in either of the forms that the `step` command writes (RFC 7516 §7).

    Raises:
        ValueError: it is no such JWE, is encrypted otherwise, or the passphrase is wrong.
    """
    key = OctKey(passphrase, passphrase)  # import_key takes it for a key, and has a say in its length
    try:
        plain = decrypt_compact(_compact(text), key, registry=_REGISTRY).plaintext
    except (DecodeError, binascii.Error) as error:
        raise ValueError("it is damaged, or the passphrase is wrong") from error
    except JoseError as error:
        raise ValueError("it is encrypted in a way that is not read here") from error
    jwk = json.loads(plain or b"")
    if not isinstance(jwk, dict):
        raise TypeError("there is no JWK inside")
    return jwk


def private_key(jwk: dict[str, Any]) -> PrivateKey:
    """The RSA or EC key of a private JWK (RFC 7518 §6).

    Raises:
        ValueError: it is of another kind, or contradicts itself.
    """
    try:
        key = import_key(jwk)
    except (JoseError, KeyError) as error:
        raise ValueError("it is of a kind that is not used here") from error
    if not isinstance(key, RSAKey | ECKey) or key.private_key is None:
        raise ValueError("it is neither RSA nor EC, or has no private half")
    return key.private_key


def thumbprint(key: PrivateKey) -> str:
    """RFC 7638 with SHA-256: the key id that step-ca gives to a key."""
    return _jwk(key).thumbprint()


def algorithm(key: PrivateKey) -> str:
    """The `alg` of a signature (RFC 7518 §3.1)."""
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else _ECDSA[key.curve.name]


def sign(header: dict[str, Any], claims: dict[str, Any], key: PrivateKey) -> str:
    """A JWT in the compact form (RFC 7519 §3)."""
    return jwt.encode(header, claims, _jwk(key), algorithms=[algorithm(key)])


def _jwk(key: PrivateKey) -> RSAKey | ECKey:
    return RSAKey.import_key(key) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(key)


def _compact(text: str) -> str:
    """Of the JSON form, because the library would write the header anew, and may write it otherwise than it is signed."""
    if not text.startswith("{"):
        compact = text
    else:
        jwe = json.loads(text)
        compact = ".".join(jwe[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))
    if compact.count(".") != 4:  # noqa: PLR2004 - RFC 7516 §3.1
        raise ValueError("it is no JWE")
    return compact
