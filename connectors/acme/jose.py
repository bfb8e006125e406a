"""JSON Web Signatures as RFC 8555 §6.2 wants them, and the account's key in its file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey, OctKey
from joserfc.jws import FlattenedJSONSerialization, JWSRegistry, serialize_json
from joserfc.util import urlsafe_b64encode

from connectors.api import Misconfigured, Secret
from connectors.keyfiles import make_key, read_private_key, write_private_key

_REGISTRY = JWSRegistry(algorithms=["ES256", "HS256"], strict_check_header=False)
"""RFC 8555 §6.4 and §6.5 have headers of their own: `url`, `nonce`."""


def base64url(data: bytes) -> str:
    """Without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).decode("ascii")


class AccountKey:
    """The EC P-256 key by which the server knows us."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = ECKey.import_key(key)
        self.jwk = self._key.as_dict(private=False)

    @property
    def thumbprint(self) -> str:
        """RFC 7638 §3."""
        return self._key.thumbprint()

    def key_authorization(self, token: str) -> str:
        """What a dns-01 challenge wants to find: the digest of RFC 8555 §8.4."""
        return base64url(hashlib.sha256(f"{token}.{self.thumbprint}".encode()).digest())

    def sign(self, protected: Mapping[str, Any], payload: Mapping[str, Any] | None) -> FlattenedJSONSerialization:
        """A flattened JWS, ES256; without a payload a POST-as-GET (RFC 8555 §6.3)."""
        body = b"" if payload is None else json.dumps(payload)
        return serialize_json({"protected": {"alg": "ES256", **protected}}, body, self._key, registry=_REGISTRY)

    def binding(self, key_id: str, mac_key: bytes, url: str) -> FlattenedJSONSerialization:
        """The externalAccountBinding for a newAccount at `url` (RFC 8555 §7.3.4)."""
        protected = {"alg": "HS256", "kid": key_id, "url": url}
        key = OctKey(mac_key, mac_key)  # as the CA made it: import_key would have a say in its length
        return serialize_json({"protected": protected}, json.dumps(self.jwk), key, registry=_REGISTRY)


def mac_key(secret: Secret) -> bytes:
    """The HMAC key of an external account, which servers hand out in base64url.

    Raises:
        Misconfigured: it is something else.
    """
    text = secret.reveal().rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Misconfigured("eab_hmac_key leads to what is no base64url; take it as the CA shows it")
    return key


def read_account_key(path: Path) -> AccountKey:
    """The key in a PEM file of mode 0600.

    Raises:
        Misconfigured: it cannot be read, or is not EC P-256.
    """
    key = read_private_key(path, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured(f"account_key: {path} is no EC P-256 key")
    return AccountKey(key)


def obtain_account_key(path: Path) -> AccountKey:
    """The key in the file, made now if there is none; whichever process is first, all of them get the same.

    Raises:
        Misconfigured: it can be neither read nor written.
    """
    if not path.exists():
        try:
            with TemporaryDirectory(dir=path.parent, prefix=".account-") as directory:
                made = Path(directory) / "key"
                write_private_key(made, make_key("ec:p256"), None)
                _link_unless_there(made, path)
        except OSError as error:
            raise Misconfigured(f"account_key: {path} cannot be written: {error.strerror}") from error
    return read_account_key(path)


def _link_unless_there(made: Path, path: Path) -> None:
    """Nobody sees half a key, and nobody's key is replaced."""
    try:
        os.link(made, path)
    except FileExistsError:
        return
