"""Whether the certificate that signed a request stands in for the challenge. Pure.

A request is a renewal because a certificate of ours signed it, whatever its messageType says (RFC 8894 §2.3; most
clients send PKCSReq, Q28). That waives the challenge where nothing speaks against it, and does nothing else: every rule
of the profile holds for a renewal as for the first request, and a valid challenge still authorises where the waiver is
denied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from ra.policy.decide import requested_names_digest
from ra.policy.grant import Grant
from ra.policy.profile import Profile
from ra.policy.rules import capable_usages, granted_extended_key_usage, granted_key_usage
from ra.policy.sid import SID_EXTENSION, read_sid
from ra.scep.certificate import CertificateFacts, is_issued_by, read_facts
from ra.scep.csr import GeneralName, Subject
from ra.scep.errors import Malformed
from ra.scep.messages import Enrolment

METHOD = "renewal"
"""Of the Grant; no validator may be named so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The certificate of ours that signed a request, and what the RA itself knows of it.

    Attributes:
        certificate: DER, as the request carried it.
        authorities: DER; the CAs whose certificates this profile renews.
        is_known: the journal knows it, and so its profile and names; where not, it comes from a CA that the profile
            names for renewal.
        profile: that it was issued under.
        names: digest of the names that were approved for it.
        fault: why the RA counts it as withdrawn, or not as the device's; None: it does not.
    """

    certificate: bytes = field(repr=False)
    authorities: tuple[bytes, ...] = field(repr=False)
    is_known: bool
    profile: str | None = None
    names: bytes | None = None
    fault: str | None = None


class Revocation(Enum):
    """What the CA says of a certificate."""

    NONE = "it is not revoked"
    REVOKED = "the CA has revoked it"
    UNKNOWN = "whether it is revoked cannot be found out"


def examine(enrolment: Enrolment, predecessor: Predecessor, profile: Profile, now: datetime) -> tuple[str, ...]:
    """What speaks against the waiver, for the operator; nothing: only the CA's word on revocation is wanting."""
    try:
        case = _Case(enrolment, predecessor, read_facts(predecessor.certificate), profile, now)
        return tuple(said for check in _CHECKS if (said := check(case)))
    except Malformed as error:
        return (f"it cannot be read: {error}",)


def waiver(predecessor: Predecessor) -> Grant:
    """The Grant of a certificate that nothing speaks against: of which `examine` finds no fault and that is not revoked."""
    return Grant(method=METHOD, label=f"serial {read_facts(predecessor.certificate).serial:x}")


@dataclass(frozen=True, slots=True)
class _Case:
    enrolment: Enrolment
    predecessor: Predecessor
    facts: CertificateFacts
    profile: Profile
    now: datetime


def _no_device(case: _Case) -> str | None:
    if case.facts.is_ca or "keyCertSign" in (case.facts.key_usage or ()):
        return "it is a CA's"
    return case.predecessor.fault


def _of_another_ca(case: _Case) -> str | None:
    """A CA that has expired vouches for nothing any more, and one that was followed by another only where it is named."""
    signers = [each for each in case.predecessor.authorities if is_issued_by(case.predecessor.certificate, each)]
    if not signers:
        return "it is of no CA whose certificates this profile renews"
    valid = [read_facts(each) for each in signers]
    if not any(each.not_before <= case.now <= each.not_after for each in valid):
        return "the certificate of its CA has expired"
    return None


def _of_another_profile(case: _Case) -> str | None:
    if case.predecessor.is_known and case.predecessor.profile != case.profile.name:
        return f"it was issued under the profile {case.predecessor.profile!r}"
    return None


def _not_valid(case: _Case) -> str | None:
    if case.now < case.facts.not_before:
        return "it is not valid yet"
    if case.now > case.facts.not_after + timedelta(days=case.profile.renewal_grace_days):
        return f"it has expired at {case.facts.not_after:%Y-%m-%d %H:%M} UTC"
    return None


def _too_early(case: _Case) -> str | None:
    begins = case.facts.not_after - timedelta(days=case.profile.renewal_threshold_days)
    return f"it can be renewed from {begins:%Y-%m-%d %H:%M} UTC on" if case.now < begins else None


def _other_names(case: _Case) -> str | None:
    """CAs rewrite names: those that were approved count, and those that the certificate has."""
    csr = case.enrolment.csr
    if case.predecessor.names == requested_names_digest(csr):
        return None
    sid = next((each.value for each in csr.extensions if each.oid == SID_EXTENSION), None)
    asked = _names(csr.subject, csr.subject_alternative_names, sid)
    certified = _names(
        case.facts.subject, case.facts.subject_alternative_names, case.facts.extensions.get(SID_EXTENSION)
    )
    return None if asked == certified else "other names are asked for than it has"


def _names(
    subject: Subject, names: tuple[GeneralName, ...], sid: bytes | None
) -> tuple[list[tuple[str, str]], set[GeneralName], str | None]:
    attributes = sorted((each.oid, each.value) for rdn in subject for each in rdn)
    return attributes, set(names), None if sid is None else read_sid(sid) or sid.hex()


def _wider_usage(case: _Case) -> str | None:
    """A usage that the key before was not capable of is none that was withheld."""
    csr, facts = case.enrolment.csr, case.facts
    granted = granted_key_usage(csr, case.profile) & capable_usages(case.enrolment.outer.signer.public_key)
    more = sorted(each.value for each in granted if each not in (facts.key_usage or ()))
    more += sorted({*granted_extended_key_usage(csr, case.profile)} - {*(facts.extended_key_usage or ())})
    return f"it is not good for {', '.join(more)[:200]}" if more else None


_CHECKS: tuple[Callable[[_Case], str | None], ...] = (
    _no_device,
    _of_another_ca,
    _of_another_profile,
    _not_valid,
    _too_early,
    _other_names,
    _wider_usage,
)
