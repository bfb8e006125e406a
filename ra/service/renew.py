"""What a request's signer is to the RA: a certificate of ours, and whether it stands in for the challenge.

The rules are the policy's (ra/policy/renewal.py); here is found out what they need to know. Whether the certificate is
revoked is asked of the CA that has issued it, and of nobody where something else speaks against it already.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from connectors.api import Capability, CertificateState
from ra.challenge.api import demands_challenge_on_renewal
from ra.errors import Misconfigured, Unavailable
from ra.journal.certificates import holder_of
from ra.journal.database import Journal
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.succession import lineage
from ra.policy import renewal
from ra.policy.grant import Grant
from ra.policy.profile import Profile
from ra.policy.renewal import Predecessor, Revocation
from ra.scep.certificate import is_issued_by, read_facts
from ra.scep.messages import Enrolment, SignerCertificate
from ra.service.asking import ask
from ra.service.backend import Backend
from ra.service.crls import Crl, Crls, NoCrl, read_crl
from ra.service.endpoint import Authority, Endpoint
from ra.service.gate import Overloaded
from ra.service.ports import Metrics

ASK_SECONDS = 10.0
"""How long a CA is given to say whether it has revoked; a device waits meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A signer's certificate that is one of ours.

    Attributes:
        holder: the transaction that it was issued for, where the journal knows it.
    """

    certificate: bytes
    serial: int
    holder: Transaction | None

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.certificate).digest()

    @property
    def transaction(self) -> UUID | None:
        return None if self.holder is None else self.holder.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwaived:
    """Why the challenge is needed all the same, for the operator; `may_change` where the CA could not be asked just now."""

    detail: str
    may_change: bool = False


class Renewals:
    """Recognises renewals, and says whether they need a challenge."""

    def __init__(self, *, journal: Journal, crls: Crls, metrics: Metrics) -> None:
        self._journal = journal
        self._crls = crls
        self._metrics = metrics

    async def origin(self, endpoint: Endpoint, signer: SignerCertificate) -> Origin | None:
        """The certificate that signed, where it is one of ours: the journal knows it, or a CA of the profile has signed it.

        What names itself as its issuer is not looked for: that is how a first request is signed.
        """
        named = signer.certificate_id
        if named.issuer == signer.subject:
            return None
        holder = await self._journal.read(lambda c: holder_of(c, signer.der, named.serial))
        if holder is None and not any(is_issued_by(signer.der, each) for each in _known_authorities(endpoint)):
            return None
        return Origin(certificate=signer.der, serial=named.serial, holder=holder)

    async def waive(self, endpoint: Endpoint, request: Enrolment, origin: Origin, now: datetime) -> Grant | Unwaived:
        """The Grant of a renewal that needs no challenge, or why it needs one."""
        if _is_demanded(endpoint):
            return Unwaived(detail="the challenge of this profile is needed on renewal too")
        issuer = _issuer(endpoint, origin)
        predecessor = _predecessor(endpoint, origin, issuer)
        faults = renewal.examine(request, predecessor, endpoint.profile, now)
        if faults or issuer is None:
            return Unwaived(detail="; ".join(faults))
        try:
            revocation = await self._revocation(issuer, origin, now)
        except Unavailable as error:
            may_change = isinstance(issuer, Authority) or can_tell(issuer)
            return Unwaived(detail=f"{Revocation.UNKNOWN.value}: {error}", may_change=may_change)
        if revocation is not Revocation.NONE:
            return Unwaived(detail=revocation.value)
        return renewal.waiver(predecessor)

    async def earlier_keys(self, origin: Origin) -> frozenset[bytes]:
        """Digests of the keys that the device has had certified before, as far as the journal knows."""
        which = origin.transaction
        return frozenset() if which is None else await self._journal.read(lambda c: lineage(c, which))

    async def _revocation(self, issuer: Backend | Authority, origin: Origin, now: datetime) -> Revocation:
        """What the CA says of it by serial number, else its CRL.

        Raises:
            Unavailable: neither can be had.
        """
        if isinstance(issuer, Authority):
            crl = await asyncio.to_thread(_read_crl, issuer, now)
        else:
            if issuer.can(Capability.GET_CERTIFICATE):
                said = await self._ask(issuer, origin)
                if said is not Revocation.UNKNOWN:
                    return said
            crl = await self._crls.current(issuer)
        facts = read_facts(origin.certificate)
        if crl.issuer != facts.issuer:
            raise Unavailable("the CRL there is of another CA")
        if crl.revocation(origin.serial) is not None:
            return Revocation.REVOKED
        return Revocation.NONE if crl.covers(facts.not_after, now) else Revocation.UNKNOWN

    async def _ask(self, backend: Backend, origin: Origin) -> Revocation:
        try:
            permit = await backend.gate.enter(ASK_SECONDS)
        except Overloaded:
            return Revocation.UNKNOWN
        asking = backend.connector.get_certificate(origin.serial)
        match await ask(backend, permit, asking, self._metrics, ASK_SECONDS):
            case CertificateState(certificate=certificate) if certificate not in {None, origin.certificate}:
                return Revocation.UNKNOWN  # another CA of that backend has given the number away too
            case CertificateState(revoked_at=None):
                return Revocation.NONE
            case CertificateState():
                return Revocation.REVOKED
            case _:
                return Revocation.UNKNOWN


def _known_authorities(endpoint: Endpoint) -> Iterator[bytes]:
    yield from (each.ca_chain[0] for each in endpoint.issuers)
    yield from (each.certificate for each in endpoint.renewal_authorities)


def can_tell(backend: Backend) -> bool:
    """Whether the CA says of a certificate that it is revoked, without which no challenge is waived."""
    return backend.can(Capability.GET_CERTIFICATE) or backend.can(Capability.CRL)


def insist_on_revoking(profile: Profile, issuers: Iterable[Backend]) -> None:
    """Lets a profile pass whose wish to revoke what was replaced can be met.

    Raises:
        Misconfigured: a connector cannot revoke.
    """
    for each in issuers:
        if profile.revoke_on_replace and not each.can(Capability.REVOKE):
            raise Misconfigured(f"revoke_on_replace: connectors.{each.name} cannot revoke")


def insist_on_naming_sids(profile: Profile, issuer: Backend, *, has_challenge: bool) -> None:
    """Lets a profile pass whose wish to name a SID that no request asks for can be met.

    Raises:
        Misconfigured: there is no challenge to find one, or the connector cannot write it.
    """
    if profile.sid_from_challenge and not has_challenge:
        raise Misconfigured("sid_from_challenge: the profile has no challenge")
    if profile.sid_from_challenge and not issuer.can(Capability.SID):
        raise Misconfigured(f"sid_from_challenge: connectors.{issuer.name} cannot put a SID into a certificate")


def can_renew(endpoint: Endpoint) -> bool:
    """Whether there are requests at all that this endpoint lets in by the certificate that signs them."""
    profile = endpoint.profile
    has_window = profile.renewal_threshold_days > 0 or profile.renewal_grace_days > 0
    is_told = any(map(can_tell, endpoint.issuers)) or bool(endpoint.renewal_authorities)
    return has_window and not _is_demanded(endpoint) and is_told


def _is_demanded(endpoint: Endpoint) -> bool:
    """Whether a renewal needs the challenge too: its validator says so, or nobody else can say which SID goes into it."""
    if endpoint.validator is None:
        return False
    return endpoint.profile.sid_from_challenge or demands_challenge_on_renewal(endpoint.validator)


def _issuer(endpoint: Endpoint, origin: Origin) -> Backend | Authority | None:
    """Who has issued it, of those whose certificates the profile renews.

    Of what the journal does not know, a CA that is named for renewal comes first; of what it knows, the connector.
    """
    certificate, holder = origin.certificate, origin.holder
    named = (each for each in endpoint.renewal_authorities if is_issued_by(certificate, each.certificate))
    asked = (
        each
        for each in endpoint.issuers
        if (holder is None or holder.connector == each.name) and is_issued_by(certificate, each.ca_chain[0])
    )
    if holder is None:
        return next(named, None) or next(asked, None)
    return next(asked, None) or next(named, None)


def _predecessor(endpoint: Endpoint, origin: Origin, issuer: Backend | Authority | None) -> Predecessor:
    holder, own = origin.holder, {each for one in endpoint.identities for each in one.certificates}
    fault = "it is the RA's own" if origin.certificate in own else None
    if holder is None:
        is_named = isinstance(issuer, Authority)
        fault = fault or (None if is_named else "the journal does not know it")
        return Predecessor(
            certificate=origin.certificate, authorities=_certificates(issuer), is_known=False, fault=fault
        )
    return Predecessor(
        certificate=origin.certificate,
        authorities=_certificates(issuer),
        is_known=True,
        profile=holder.profile,
        names=holder.names,
        fault=fault or _fault_of(holder),
    )


def _certificates(issuer: Backend | Authority | None) -> tuple[bytes, ...]:
    match issuer:
        case Authority(certificate=certificate):
            return (certificate,)
        case Backend(ca_chain=chain):
            return chain[:1]
        case None:
            return ()


def _fault_of(holder: Transaction) -> str | None:
    if holder.state is not State.RELEASED:
        return f"its transaction is {holder.state}"
    return "it was never delivered" if holder.delivered_at is None else None


def _read_crl(authority: Authority, now: datetime) -> Crl:
    try:
        return read_crl(authority.read_crl(), authority.certificate, now)
    except (OSError, ValueError, NoCrl) as error:
        raise Unavailable(f"there is no CRL of that CA: {error}") from error
