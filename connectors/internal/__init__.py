"""A CA of its own: RSA or EC, its key in an encrypted PEM file. For laboratories, tests and small sites.

```toml
type = "internal"
certificate = "ca.pem"                         # the issuing CA first, then its chain
key = "ca.key"                                 # encrypted PEM, mode 0600
key_passphrase = "file:ca.passphrase"
state = "ca.db"                                # revocations and CRL numbers (SQLite)
crl_urls = ["http://ra.example.org/ca.crl"]
max_validity_days = 825
```

Issues what was approved and nothing else. It keeps no list of what it issued: issuing again for the same idempotency
key and contents yields the same certificate, as long as the CA and the options above stay as they are.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.api import (
    BackendUnavailable,
    Capability,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    Misconfigured,
    NoCapabilities,
    Rejected,
    RevocationReason,
    Services,
    secret_reference,
)
from connectors.internal.authority import Authority, NotIssuable, Rules, check
from connectors.internal.revocations import Revocations
from connectors.keyfiles import read_certificates, read_private_key

Url = Annotated[str, Field(pattern=r"^(https?|ldap)://[!-~]+$")]
Days = Annotated[int, Field(ge=1, le=36500)]


class Options(BaseModel):
    """One internal CA."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    certificate: Path = Path("ca.pem")
    """PEM: the issuing CA first, then its chain."""
    key: Path = Path("ca.key")
    """Encrypted PEM, readable by its owner alone."""
    key_passphrase: Annotated[str, AfterValidator(secret_reference)] = "file:ca.passphrase"  # noqa: S105 - where it is
    """`file:PATH` or `env:NAME`."""
    state: Path = Path("ca.db")
    """SQLite file of revocations and CRL numbers; every process of the RA shares it."""
    digest: Literal["sha256", "sha384", "sha512"] | None = None
    """Of signatures; SHA-256, or SHA-384 for a P-384 key, where nothing is said."""
    aia_url: Url | None = None
    """Where the CA's certificate is, for devices that miss it: a URL of http, https or ldap."""
    ocsp_url: Url | None = None
    """Where devices ask whether a certificate is revoked: a URL of http, https or ldap."""
    crl_urls: tuple[Url, ...] = ()
    """Where the CRL is; somebody has to publish it there."""
    crl_lifetime_hours: Annotated[int, Field(ge=1, le=8784)] = 168
    """From thisUpdate to nextUpdate; a new CRL is made when half of it has passed, or with a revocation."""
    max_validity_days: Days = 825
    """No certificate is valid for longer, whatever was approved."""
    backdate_minutes: Annotated[int, Field(ge=0, le=1440)] = 5
    """How far notBefore lies in the past, for devices whose clock is slow."""


async def connect(options: Options, services: Services) -> InternalCa:
    """Reads the CA's files and opens its state; no request leaves the machine.

    Raises:
        Misconfigured: a file is missing, or they do not go together.
    """
    chain = read_certificates(services.directory / options.certificate)
    key = read_private_key(services.directory / options.key, services.read_secret(options.key_passphrase))
    check(chain, key)
    lifetime = timedelta(hours=options.crl_lifetime_hours)
    revocations = Revocations(path=services.directory / options.state, lifetime=lifetime)
    try:
        revocations.prepare()
    except BackendUnavailable as error:
        raise Misconfigured(str(error)) from error
    return InternalCa(chain, Authority(chain[0], key, _rules(options)), revocations, services)


def _rules(options: Options) -> Rules:
    return Rules(
        digest=options.digest,
        max_validity=timedelta(days=options.max_validity_days),
        backdate=timedelta(minutes=options.backdate_minutes),
        aia_url=options.aia_url,
        ocsp_url=options.ocsp_url,
        crl_urls=options.crl_urls,
    )


class InternalCa(NoCapabilities):
    """The connector. Signing runs inline: it lets other threads run, and a thread would cost more than it frees."""

    capabilities = frozenset(
        {
            Capability.IDEMPOTENT,
            Capability.EXPLICIT_CONTENTS,
            Capability.NOT_AFTER,
            Capability.SID,
            Capability.RA_CERTIFICATE,
            Capability.REVOKE,
            Capability.CRL,
            Capability.SIGN_NEXT_CA,
        }
    )

    def __init__(
        self, chain: tuple[x509.Certificate, ...], authority: Authority, revocations: Revocations, services: Services
    ) -> None:
        self._chain = tuple(each.public_bytes(Encoding.DER) for each in chain)
        self._authority = authority
        self._revocations = revocations
        self._services = services

    async def issue(self, request: IssueRequest) -> IssueResult:
        try:
            certificate, serial = self._authority.issue(request)
        except NotIssuable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        return Issued(certificate=certificate, chain=self._chain, reference=f"{serial:x}")

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        revoked = self._own(certificate)
        await asyncio.to_thread(self._revocations.add, revoked, reason, self._services.now())

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self._chain

    async def crl(self) -> bytes:
        return await asyncio.to_thread(self._revocations.crl, self._authority.sign_crl, self._services.now())

    async def sign_next_ca(self, content: bytes) -> bytes:
        return self._authority.sign_message(content)

    async def health(self) -> Health:
        not_after = self._authority.certificate.not_valid_after_utc
        if self._services.now() >= not_after:
            return Health(ready=False, detail=f"the CA certificate ran out at {not_after}", ca_not_after=not_after)
        return Health(ready=True, detail="the CA's key is loaded", ca_not_after=not_after)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _own(self, certificate: bytes) -> x509.Certificate:
        try:
            loaded = x509.load_der_x509_certificate(certificate)
            loaded.verify_directly_issued_by(self._authority.certificate)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise Misconfigured(f"{self._services.name} cannot revoke what it has not issued") from error
        return loaded
