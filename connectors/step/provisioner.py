"""Who we are to step-ca: a provisioner, whose key signs one token for every request."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.util import urlsafe_b64encode
from pydantic import BaseModel, ConfigDict, Field

from connectors.api import Misconfigured, Secret, Services
from connectors.keyfiles import PrivateKey, read_certificates, read_private_key
from connectors.step import jose
from connectors.transport import SecretReference, read_secret

_LIFE = timedelta(minutes=5)
"""step-ca wants tokens that do not live longer."""


class _Provisioner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1)]
    """The provisioner's, as step-ca has it."""
    key: Path
    """PEM, or for a JWK provisioner the encrypted JWK that `step` writes."""
    key_passphrase: SecretReference | None = None
    """`file:PATH` or `env:NAME`; exactly when the key is encrypted."""


class JwkProvisioner(_Provisioner):
    """`key` is an encrypted JWK (JWE, as `step` writes it) or PEM."""

    type: Literal["jwk"]
    """Tokens that the provisioner's own key signs."""


class X5cProvisioner(_Provisioner):
    """`key` is PEM, and belongs to `certificate`."""

    type: Literal["x5c"]
    """Tokens that are signed with a certificate which the provisioner trusts."""
    certificate: Path
    """PEM: ours first, then its chain, without the root that the provisioner trusts. It needs digitalSignature and
    clientAuth, and no certificate outlives it."""


Provisioner = Annotated[JwkProvisioner | X5cProvisioner, Field(discriminator="type")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A provisioner with its key.

    Attributes:
        header: of every token.
        origin: of the CA, as its own name for itself: scheme, host, port.
        fragment: of the audience, or nothing.
    """

    name: str
    key: PrivateKey = field(repr=False)
    header: dict[str, Any]
    origin: str
    fragment: str

    def token(self, path: str, subject: str, claims: dict[str, Any], now: datetime) -> Secret:
        """A token for one request of `path`; it can be used once."""
        seconds = int(now.timestamp())
        named = {
            "iss": self.name,
            "aud": f"{self.origin}{path}{self.fragment}",
            "sub": subject,
            "iat": seconds,
            "nbf": seconds,
            "exp": seconds + int(_LIFE.total_seconds()),
            "jti": secrets.token_hex(32),
        }
        return Secret(jose.sign(self.header, {**named, **claims}, self.key))


def open_provisioner(options: JwkProvisioner | X5cProvisioner, url: str, services: Services) -> Signer:
    """Reads key and certificate.

    Raises:
        Misconfigured: one cannot be read, or they do not go together.
    """
    reference = options.key_passphrase
    passphrase = read_secret(reference, services) if reference else None
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if isinstance(options, X5cProvisioner):
        key = _on_known_curve(read_private_key(services.directory / options.key, passphrase), options.key)
        chain = _chain_of(services.directory / options.certificate, key)
        header = {"alg": jose.algorithm(key), "x5c": chain}
        fragment = "#x5c/" + quote(options.name, safe="/@!$&'()*+,;=:?~")
        return Signer(name=options.name, key=key, header=header, origin=origin, fragment=fragment)
    key, key_id = _jwk_of(services.directory / options.key, passphrase)
    header = {"alg": jose.algorithm(key), "kid": key_id}
    return Signer(name=options.name, key=key, header=header, origin=origin, fragment="")


def confirmation(csr: bytes) -> dict[str, str]:
    """The claim `cnf`, which makes a token good for this CSR (DER) alone."""
    return {"x5rt#S256": urlsafe_b64encode(hashlib.sha256(csr).digest()).decode("ascii")}


def _jwk_of(path: Path, passphrase: Secret | None) -> tuple[PrivateKey, str]:
    """The key, and the id that step-ca knows it by."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the provisioner's key {path} cannot be read as text: {error}") from error
    if text.startswith("-----BEGIN"):
        key = _on_known_curve(read_private_key(path, passphrase), path)
        return key, jose.thumbprint(key)
    if passphrase is None:
        raise Misconfigured(f"the provisioner's key {path} is no PEM file; an encrypted JWK needs key_passphrase")
    try:
        jwk = jose.decrypt_jwk(text, passphrase.reveal().encode())
        key = _on_known_curve(jose.private_key(jwk), path)
        return key, str(jwk.get("kid") or jose.thumbprint(key))
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        why = error.args[0] if isinstance(error, ValueError) and error.args else "it is no encrypted JWK"
        raise Misconfigured(f"the provisioner's key {path} cannot be opened: {why}") from None


def _on_known_curve(key: PrivateKey, path: Path) -> PrivateKey:
    try:
        jose.algorithm(key)
    except KeyError:
        raise Misconfigured(f"the provisioner's key {path} is on a curve that JOSE has no name for") from None
    return key


def _chain_of(path: Path, key: PrivateKey) -> list[str]:
    """The claim x5c (RFC 7515 §4.1.6): base64, not base64url."""
    chain: tuple[x509.Certificate, ...] = read_certificates(path)
    if chain[0].public_key() != key.public_key():
        raise Misconfigured(f"the provisioner's key does not belong to the first certificate of {path}")
    return [b64encode(each.public_bytes(Encoding.DER)).decode("ascii") for each in chain]
