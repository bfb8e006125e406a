"""How the app registration proves itself to Entra: the part of a token request that differs, and when it runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.util import urlsafe_b64encode

from connectors.api import Misconfigured, Secret, Services
from connectors.keyfiles import read_certificates, read_private_key
from connectors.transport import read_secret
from ra.challenge.intune.options import (
    CertificateCredential,
    CredentialOptions,
    FederatedCredential,
    SecretCredential,
)

WARN_BEFORE = timedelta(days=30)
"""So long before it runs out the operator is told."""

_ASSERTION_LIFETIME = timedelta(minutes=10)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Form = dict[str, str | Secret]


class Credential(Protocol):
    """One way to prove it. What is in files is read anew for every token: it may be replaced while we run."""

    def form(self, audience: str) -> Form:
        """The fields that prove it to the token endpoint of that URL.

        Raises:
            Misconfigured: a file is missing, or does not do.
        """

    def ends_at(self) -> datetime | None:
        """When it runs out (UTC); None: nobody can tell.

        Raises:
            Misconfigured: as `form` does.
        """


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A secret that is sent."""

    options: SecretCredential
    services: Services = field(repr=False)

    def form(self, audience: str) -> Form:  # noqa: ARG002 - as Credential has it
        secret = read_secret(self.options.client_secret, self.services)
        if not secret.reveal():
            raise Misconfigured(f"{self.options.client_secret} is empty")
        return {"client_secret": secret}

    def ends_at(self) -> datetime | None:
        return self.options.expires_at


@dataclass(frozen=True, slots=True)
class Federated:
    """A token of another identity provider, handed on (RFC 7523 §2.2)."""

    options: FederatedCredential
    services: Services = field(repr=False)

    def form(self, audience: str) -> Form:  # noqa: ARG002 - as Credential has it
        token = read_secret(self.options.token, self.services)
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": token}

    def ends_at(self) -> datetime | None:
        return None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A JWT that the certificate's key signs (RFC 7523 §2.2), as Entra wants it: PS256, named by SHA-256."""

    options: CertificateCredential
    client_id: str
    services: Services = field(repr=False)

    def form(self, audience: str) -> Form:
        own = self.options
        passphrase = read_secret(own.key_passphrase, self.services) if own.key_passphrase else None
        key = read_private_key(self.services.directory / own.key, passphrase)
        certificate = read_certificates(self.services.directory / own.certificate)[0]
        if not isinstance(key, rsa.RSAPrivateKey):
            raise Misconfigured(f"{own.key} is no RSA key, and Entra takes no other")
        if certificate.public_key() != key.public_key():
            raise Misconfigured(f"{own.key} is not the key of {own.certificate}")
        now = self.services.now()
        fingerprint = urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode("ascii")
        claims = {
            "aud": audience,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": str(uuid4()),
            "nbf": int(now.timestamp()),
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_LIFETIME).timestamp()),
        }
        header = {"alg": "PS256", "x5t#S256": fingerprint}
        assertion = jwt.encode(header, claims, RSAKey.import_key(key), algorithms=["PS256"])
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": Secret(assertion)}

    def ends_at(self) -> datetime | None:
        return read_certificates(self.services.directory / self.options.certificate)[0].not_valid_after_utc


def credential_of(options: CredentialOptions, client_id: str, services: Services) -> Credential:
    """The credential that a configuration names, which is read once to see that it can be.

    Raises:
        Misconfigured: it cannot.
    """
    credential: Credential
    match options:
        case SecretCredential():
            credential = ClientSecret(options, services)
        case CertificateCredential():
            credential = Certificate(options, client_id, services)
        case FederatedCredential():
            return Federated(options, services)  # whoever issues it may not have begun yet
    credential.form("")
    return credential


@dataclass(frozen=True, slots=True)
class Noted:
    """A credential whose end is told whenever it is used, because its files may be replaced meanwhile."""

    credential: Credential
    tell: Callable[[datetime], None]

    def form(self, audience: str) -> Form:
        self.ends_at()
        return self.credential.form(audience)

    def ends_at(self) -> datetime | None:
        ends_at = self.credential.ends_at()
        if ends_at is not None:
            self.tell(ends_at)
        return ends_at


def expiry_warning(credential: Credential, now: datetime) -> str | None:
    """What the operator should know of when it runs out; None: nothing yet.

    Raises:
        Misconfigured: it cannot be read.
    """
    ends_at = credential.ends_at()
    if ends_at is None or ends_at - now > WARN_BEFORE:
        return None
    if ends_at <= now:
        return f"the credential of the app registration has expired ({ends_at:%Y-%m-%d}): no device can enrol"
    days = (ends_at - now).days
    return (
        f"the credential of the app registration expires in {days} days ({ends_at:%Y-%m-%d}): then no device can enrol"
    )
