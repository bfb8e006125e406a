"""The contract between a registration authority and a certificate authority's connector.

Values and Protocols only; nothing here does I/O and nothing here knows SCEP. A connector is a module with

    class Options(pydantic.BaseModel)                    its block of the configuration, unknown keys forbidden
    async def connect(options, services) -> Connector    no request is sent before the first call

The caller owns retries, the circuit breaker, the concurrency limit and the check of every certificate that comes back.
What a connector may raise is in connectors.errors, and is found here as well.
"""

# ruff: noqa: ARG002, PLC0414 - NoCapabilities refuses whatever the arguments; the errors are handed on by their names
from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import UUID

from connectors.errors import AuthFailed as AuthFailed
from connectors.errors import BackendUnavailable as BackendUnavailable
from connectors.errors import ConnectorError as ConnectorError
from connectors.errors import Misconfigured as Misconfigured
from connectors.errors import ProtocolViolation as ProtocolViolation
from connectors.errors import RateLimited as RateLimited


class Secret:
    """A secret string that does not show in a repr, a log or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def secret_reference(value: str) -> str:
    """Where a secret is kept, as a plugin's Options take it; its own place decides what it is.

    Raises:
        ValueError: for whatever is no reference; it may be the secret itself, and is not quoted.
    """
    if not value.startswith(("file:", "env:")):
        raise ValueError('a secret is never written here; write "file:PATH" or "env:NAME"')
    return value


class Capability(StrEnum):
    """What a connector can do beside issuing."""

    IDEMPOTENT = "idempotent"
    """Issuing twice for one idempotency key yields the same certificate."""
    EXPLICIT_CONTENTS = "explicit-contents"
    """The certificate is made from ApprovedContents, not copied from the CSR."""
    NOT_AFTER = "not-after"
    """ApprovedContents.validity is honoured."""
    SID = "sid"
    """ApprovedContents.sid is written, though no CSR asks for it."""
    RA_CERTIFICATE = "ra-certificate"
    """Can issue the RA's own certificates."""
    POLL = "poll"
    FIND_ISSUED = "find-issued"
    REVOKE = "revoke"
    CRL = "crl"
    GET_CERTIFICATE = "get-certificate"
    NEXT_CA = "next-ca"
    SIGN_NEXT_CA = "sign-next-ca"


class SanKind(StrEnum):
    """GeneralName kinds (RFC 5280 §4.2.1.6) that may be approved. UPN is the Microsoft otherName 1.3.6.1.4.1.311.20.2.3."""

    DNS = "dns"
    EMAIL = "email"
    URI = "uri"
    IP = "ip"
    UPN = "upn"


@dataclass(frozen=True, slots=True)
class San:
    """One approved subject alternative name; an IP address in its usual text form."""

    kind: SanKind
    value: str


@dataclass(frozen=True, slots=True)
class NameAttribute:
    """One attribute of a subject name: type (dotted OID), value, and the universal tag its string came in."""

    oid: str
    value: str
    tag: int = 0x0C


RdnSequence = tuple[tuple[NameAttribute, ...], ...]


class KeyUsage(StrEnum):
    """KeyUsage bits (RFC 5280 §4.2.1.3) that an end entity may have."""

    DIGITAL_SIGNATURE = "digitalSignature"
    CONTENT_COMMITMENT = "nonRepudiation"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    ENCIPHER_ONLY = "encipherOnly"
    DECIPHER_ONLY = "decipherOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedContents:
    """What the certificate is to say: the RA's decision, never the CSR's wish.

    Attributes:
        subject: in the CSR's order; may be empty when there is a subject alternative name.
        spki: SubjectPublicKeyInfo, DER.
        extended_key_usage: dotted OIDs, never empty.
        sid: Microsoft security identifier (extension 1.3.6.1.4.1.311.25.2), where the profile lets it through.
    """

    subject: RdnSequence
    subject_alternative_names: tuple[San, ...]
    spki: bytes
    key_usage: frozenset[KeyUsage]
    extended_key_usage: tuple[str, ...]
    validity: timedelta
    sid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRequest:
    """One certificate to issue.

    Attributes:
        csr: PKCS #10, DER, byte for byte as the device signed it. It may hold the challenge in clear: never log it.
        idempotency_key: random, stored before the first attempt, the same on every attempt.
        requested_at: when the request was approved, the same on every attempt (UTC).
    """

    csr: bytes = field(repr=False)
    contents: ApprovedContents
    profile: str
    idempotency_key: UUID
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate, DER, and the chain above it, issuer first, DER. Not yet verified by anyone."""

    certificate: bytes
    chain: tuple[bytes, ...]
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Accepted, not yet decided. `reference` is what `poll` needs, at most 4 KiB."""

    reference: str
    retry_after_seconds: int


class Rejection(StrEnum):
    """Why a backend said a final no, in the connectors' own words."""

    POLICY = "policy"
    NAME = "name"
    KEY = "key"
    CSR = "csr"
    VALIDITY = "validity"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A final no. `detail` is for the operator."""

    rejection: Rejection
    detail: str


IssueResult = Issued | Pending | Rejected


class RevocationReason(StrEnum):
    """CRLReason (RFC 5280 §5.3.1), as far as an RA may give it."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateState:
    """What the backend knows of a certificate; `certificate` is DER where the backend can give it."""

    certificate: bytes | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the backend can issue now. `ca_not_after` is the end of the issuing certificate (UTC)."""

    ready: bool
    detail: str
    ca_not_after: datetime | None = None
    fault: ConnectorError | None = None
    """What kept it from being asked."""

    @classmethod
    def failed(cls, error: ConnectorError, ca_not_after: datetime | None = None) -> Self:
        """The health of a backend that cannot be asked."""
        return cls(ready=False, detail=f"{type(error).__name__}: {error}", ca_not_after=ca_not_after, fault=error)


def _unobserved(_operation: str, _outcome: str, _seconds: float) -> None:
    """Nobody measures."""


def _unwatched(_point: str) -> None:
    """Nobody waits for a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a connector is given.

    Attributes:
        name: of the configured instance, for messages.
        directory: relative paths of the options resolve against it.
        now: the time, UTC and aware.
        read_secret: reads a secret reference, `file:PATH` (relative to `directory`) or `env:NAME`.
        observe: told of every call of the backend: operation, outcome (a status or an error's name), seconds.
        reached: told what is about to happen, or has just happened, where a crash would matter.
    """

    name: str
    directory: Path
    now: Callable[[], datetime]
    read_secret: Callable[[str], Secret]
    observe: Callable[[str, str, float], None] = _unobserved
    reached: Callable[[str], None] = _unwatched


class Connector(Protocol):
    """One certificate authority. Every method may be called concurrently and may be cancelled between awaits."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def ca_adds(self) -> frozenset[str]:
        """What this CA always puts into a certificate, approved or not.

        A key usage by its name; an extended key usage or an attribute of the subject dotted. What the CA does because
        it is set up so, is the operator's to declare.
        """

    @property
    def may_drop(self) -> frozenset[str]:
        """What this CA always leaves out, in the same words. A subject alternative name never may be missing."""

    async def issue(self, request: IssueRequest) -> IssueResult:
        """Asks for one certificate; never resubmits on its own what may have arrived.

        Raises:
            ConnectorError: see the tree above.
        """

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        """The present state of a Pending (capability POLL)."""

    async def find_issued(
        self, request: IssueRequest, since: datetime, others: frozenset[int] = frozenset()
    ) -> Issued | None:
        """The certificate an earlier attempt obtained, or a certain no (capability FIND_ISSUED).

        `others` are serial numbers that other requests have obtained: it is none of these. A CA that is asked by key
        and names finds them too, and the one that is looked for may stand behind them.
        """

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        """Revokes by certificate, DER; already revoked is success (capability REVOKE)."""

    async def ca_chain(self) -> tuple[bytes, ...]:
        """The issuing certificate first, then what is above it, DER; the root last where there is one."""

    async def next_ca(self) -> tuple[bytes, ...]:
        """The chain that follows, issuer first, DER; empty when there is none (capability NEXT_CA)."""

    async def sign_next_ca(self, content: bytes) -> bytes:
        """The SignedData of RFC 8894 §4.7.1 over `content`, signed by the CA's own key (capability SIGN_NEXT_CA)."""

    async def crl(self) -> bytes:
        """The current CRL, DER (capability CRL)."""

    async def get_certificate(self, serial: int) -> CertificateState | None:
        """What the backend knows of a serial number (capability GET_CERTIFICATE)."""

    async def health(self) -> Health:
        """Whether the backend can issue now; never raises ConnectorError."""

    async def rehearse(self) -> None:
        """Asks what an operator wants to know before the first device does, and `health` does not: nothing is issued.

        Raises:
            ConnectorError: an enrolment would meet it too.
        """

    async def aclose(self) -> None:
        """Gives up what is held open."""


class NoCapabilities:
    """What a connector inherits: every optional method refuses, until it is overridden and its capability named.

    Its CA does as it is told, neither more nor less.
    """

    @property
    def ca_adds(self) -> frozenset[str]:
        return frozenset()

    @property
    def may_drop(self) -> frozenset[str]:
        return frozenset()

    async def rehearse(self) -> None:
        """What `health` asks is all that can be asked."""

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        raise self._lacks(Capability.POLL)

    async def find_issued(
        self, request: IssueRequest, since: datetime, others: frozenset[int] = frozenset()
    ) -> Issued | None:
        raise self._lacks(Capability.FIND_ISSUED)

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        raise self._lacks(Capability.REVOKE)

    async def next_ca(self) -> tuple[bytes, ...]:
        raise self._lacks(Capability.NEXT_CA)

    async def sign_next_ca(self, content: bytes) -> bytes:
        raise self._lacks(Capability.SIGN_NEXT_CA)

    async def crl(self) -> bytes:
        raise self._lacks(Capability.CRL)

    async def get_certificate(self, serial: int) -> CertificateState | None:
        raise self._lacks(Capability.GET_CERTIFICATE)

    def _lacks(self, capability: Capability) -> Misconfigured:
        return Misconfigured(f"{type(self).__name__} cannot do {capability.value}: look at its capabilities first")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A connector's module, as the registry finds it."""

    kind: str
    options: type[Any]
    connect: Callable[..., Awaitable[Connector]] = field(repr=False)
