"""The values that go into the journal and come out of it. Frozen; a digest is SHA-256, 32 bytes, a time is UTC."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from ra.journal.states import State
from ra.policy.grant import Grant, Notify


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestIdentity:
    """What makes two requests the same.

    The transaction is (profile, signer_key, transaction_id). The request is (profile, csr_key, names, renewal_signer),
    whatever its transactionID: a client that lost the answer comes back with another one (RFC 8894 §5.2).

    Attributes:
        signer_key: digest of the signer's SubjectPublicKeyInfo.
        transaction_id: raw, at most 255 bytes.
        csr_key: digest of the CSR's SubjectPublicKeyInfo.
        names: digest of subject and subject alternative names as requested.
        csr_info: digest of certificationRequestInfo, which stays the same when ECDSA signs anew.
        renewal_signer: digest of the signer's certificate where it is one of ours, else None.
    """

    profile: str
    signer_key: bytes
    transaction_id: bytes
    csr_key: bytes
    names: bytes
    csr_info: bytes
    renewal_signer: bytes | None

    @property
    def request_key(self) -> bytes:
        """One digest of what identifies the request; every part but the profile's name has a fixed length."""
        signer = self.renewal_signer or bytes(32)
        return hashlib.sha256(self.csr_key + self.names + signer + self.profile.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTransaction:
    """What `authorise` writes.

    Attributes:
        id: random; a Transaction that comes back under another id is an earlier one of the same request.
        state: SUBMITTING to ask the CA at once, AUTHORISED to ask it later, AWAITING_APPROVAL to ask a person first.
        idempotency_key: random, handed to the connector on every attempt.
        contents: digest of the contents that were approved.
        connector: name of the connector that is asked.
        subject: the approved subject, as text for lists and audit.
        renews: the transaction of the certificate that signed the request, where the journal knows it.
        request: the decision, sealed for `id`.
        due_at: nobody else takes it up before.
        expires_at: it is given up then, where the CA has not issued.
    """

    id: UUID
    state: State
    idempotency_key: UUID
    identity: RequestIdentity
    contents: bytes
    connector: str
    subject: str
    grant: Grant
    request: bytes = field(repr=False)
    due_at: datetime | None
    expires_at: datetime
    renews: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One enrolment, as committed.

    Attributes:
        created_at: when it was authorised; IssueRequest.requested_at on every attempt.
        due_at: when somebody has to look at it, and until when nobody else does; None: never.
        attempts: how often it was looked at since it came to its state, for the growing pause between; what goes back
            and forth between AUTHORISED and SUBMITTING is counted on.
        expires_at: it is given up then, where the CA has not issued.
        request: the decision, sealed; None once nobody needs it.
        notify: whom to tell of the outcome.
        csr_info: digest of the certificationRequestInfo that was submitted.
        contents: digest of the contents that were approved.
        renewal_signer: digest of the certificate that signed the request, where it is one of ours.
        renews: the transaction of that certificate, where the journal knew it.
        reference: the backend's, for polling and for the audit.
        reason: why it was rejected, quarantined, expired or left unknown: Reason.name or Rejection value; None elsewhere.
        detail: the same for the operator; never sent to a device.
        orphans: how often it was sent again without knowing what became of the time before.
        revocation: why it is to be revoked, a RevocationReason; of what is still RELEASED: that it will be, at `due_at`.
        delivered_at: when the certificate was first handed to the device.
        certificate: DER, from ISSUED on; only RELEASED may be handed out.
        chain: DER, issuer first.
        serial: of the certificate, lower-case hex.
        not_after: of the certificate.
    """

    id: UUID
    state: State
    idempotency_key: UUID
    profile: str
    connector: str
    signer_key: bytes
    transaction_id: bytes
    csr_key: bytes
    names: bytes
    csr_info: bytes
    contents: bytes
    renewal_signer: bytes | None
    subject: str
    grant_method: str
    grant_label: str
    grant_attributes: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    expires_at: datetime
    attempts: int = 0
    renews: UUID | None = None
    request: bytes | None = field(default=None, repr=False)
    notify: tuple[Notify, ...] = ()
    reference: str | None = None
    reason: str | None = None
    detail: str | None = None
    orphans: int = 0
    revocation: str | None = None
    delivered_at: datetime | None = None
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    serial: str | None = None
    not_after: datetime | None = None

    @property
    def grant(self) -> Grant:
        """What let it in; its one-time secret is spent."""
        return Grant(
            method=self.grant_method, label=self.grant_label, attributes=self.grant_attributes, notify=self.notify
        )

    def is_named_by(self, identity: RequestIdentity) -> bool:
        """Whether its own transactionID is the request's; where not, `remember` the other one while it is open."""
        return (self.signer_key, self.transaction_id) == (identity.signer_key, identity.transaction_id)

    def is_asked_again_by(self, identity: RequestIdentity) -> bool:
        """Whether the request is the one it was authorised for to the byte, its challenge included, signed with the same key."""
        return (self.signer_key, self.csr_info) == (identity.signer_key, identity.csr_info)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """A certificate the CA issued and the service has verified; `certificates.describe` reads it from an Issued.

    Attributes:
        certificate: DER.
        chain: DER, issuer first.
        reference: the backend's.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    serial: int
    not_after: datetime
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStray:
    """A certificate that came and that nobody may have.

    Attributes:
        certificate: DER, or whatever the CA has sent in its place.
        serial: None where the CA has not signed it.
        revoke: whether the CA is to be asked to revoke it, from now on.
    """

    certificate: bytes
    serial: int | None
    revoke: bool


class Occasion(StrEnum):
    """What there is to tell."""

    ISSUED = "issued"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What somebody is told of an enrolment that he has let in.

    Attributes:
        id: the same on every attempt, so that whoever gets it twice can tell.
        transaction: None where the request was refused before there was one.
        transaction_id: as the device sent it.
        attributes: those of the Grant.
        csr: PKCS #10, DER; it may hold the challenge in clear.
        certificate: DER, when it was issued.
        chain: DER, issuer first.
        reason: why it failed: Reason.name or Rejection value.
        detail: the same for the operator.
    """

    id: UUID
    occasion: Occasion
    profile: str
    transaction: UUID | None
    transaction_id: str
    attributes: Mapping[str, str]
    csr: bytes = field(repr=False)
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeSecret:
    """A secret that lets one request in, as minted.

    Attributes:
        key: the journal key's digest of it; the secret itself is kept nowhere.
        method: the validator that minted it.
        label: what lists and audit call it.
        profile: the only profile it is good for; None: any that asks this validator.
        names: what the request must ask for, and nothing else, by the validator's own words; None: whatever the profile
            allows.
        expires_at: the request must have arrived by then.
        spent_by: the transaction that it let in; None while it is unused, and again when it was given back.
        spent_key: digest of the SubjectPublicKeyInfo that transaction is for.
    """

    key: bytes
    method: str
    label: str
    profile: str | None
    names: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    spent_by: UUID | None = None
    spent_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that was refused, or put off, before anything was committed.

    Attributes:
        reason: Reason.name, or UNAVAILABLE.
        detail: for the operator; names no secret.
        transaction_id: raw as received, where there was one.
        asked_for: the names of subject and alternative names, where the request could be opened; as the device wrote them.
    """

    at: datetime
    profile: str
    reason: str
    detail: str
    transaction_id: bytes | None = None
    signer_key: bytes | None = None
    asked_for: str | None = None


UNAVAILABLE = "UNAVAILABLE"
"""Reason of a Refusal that is none: the device was told to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counted from the start of the journal."""

    issued: int
    renewals: int
