"""The Decision: what an authenticated request may have, and the only proof of it that `submit` takes. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from connectors.api import ApprovedContents, NameAttribute, San
from ra.errors import Reason, Refused
from ra.policy.grant import Grant
from ra.policy.names import approved_kind
from ra.policy.profile import Profile
from ra.policy.rules import RULES, granted_extended_key_usage, granted_key_usage, granted_sid
from ra.policy.sid import SID_EXTENSION, read_sid
from ra.scep.csr import Csr, SubjectAttribute
from ra.scep.messages import Enrolment

_SEAL = object()

_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_SPECIAL = str.maketrans({character: f"\\{character}" for character in ',+"\\<>;='})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A yes to one request, and what its certificate is to say. Made by `decide` alone.

    Attributes:
        contents: rebuilt from the profile's allow-lists, not copied from the CSR.
        decided_at: UTC.

    Raises:
        TypeError: anybody else tries to make one.
    """

    enrolment: Enrolment
    grant: Grant
    profile: Profile
    contents: ApprovedContents
    decided_at: datetime
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Decision is made by ra.policy.decide.decide alone")

    @property
    def kind(self) -> Literal["enrolment", "renewal"]:
        """A renewal where the signer's certificate, and no challenge, let the request in."""
        return "renewal" if self.grant.method == "renewal" else "enrolment"

    @property
    def subject_text(self) -> str:
        """The subject for people, in the request's order, escaped as RFC 4514 §2.4 has it."""
        return ",".join(
            "+".join(f"{_SHORT_NAMES.get(each.oid, each.oid)}={each.value.translate(_SPECIAL)}" for each in rdn)
            for rdn in self.contents.subject
        )


def decide(
    enrolment: Enrolment, grant: Grant, profile: Profile, now: datetime, *, explicit_contents: bool = True
) -> Decision:
    """What an authenticated request may have.

    Without `explicit_contents` the connector copies from the CSR and leaves nothing out: everything that would be left
    out is refused instead.

    Raises:
        Refused: a rule says no.
    """
    strict = (
        profile
        if explicit_contents
        else replace(profile, unapproved_extensions="refuse", privileged_extensions="refuse")
    )
    _check_grant(enrolment, grant, profile)
    for rule in RULES:
        rule(enrolment, strict)
    contents = _contents(enrolment.csr, profile)
    return Decision(enrolment=enrolment, grant=grant, profile=profile, contents=contents, decided_at=now, seal=_SEAL)


def _check_grant(enrolment: Enrolment, grant: Grant, profile: Profile) -> None:
    """A renewal is signed by the key that is being replaced (RFC 8894 §2.3), so that `same` cannot hold for it."""
    if grant.method == "none" and profile.challenge_password_required:
        raise Refused(Reason.CHALLENGE_REFUSED, "nothing granted this request, and a challenge is required")
    if profile.signer_key == "same" and grant.method != "renewal" and enrolment.outer.signer.spki != enrolment.csr.spki:
        raise Refused(Reason.SIGNER_KEY_DIFFERS)


def _contents(csr: Csr, profile: Profile) -> ApprovedContents:
    return ApprovedContents(
        subject=tuple(tuple(NameAttribute(each.oid, each.value, each.tag) for each in rdn) for rdn in csr.subject),
        subject_alternative_names=_names(csr),
        spki=csr.spki,
        key_usage=granted_key_usage(csr, profile),
        extended_key_usage=granted_extended_key_usage(csr, profile),
        validity=timedelta(days=profile.default_validity_days),
        sid=granted_sid(csr, profile),
    )


def _names(csr: Csr) -> tuple[San, ...]:
    kinds = ((approved_kind(name.kind), name.value) for name in csr.subject_alternative_names)
    return tuple(dict.fromkeys(San(kind, value) for kind, value in kinds if kind is not None))


def names_digest(contents: ApprovedContents) -> bytes:
    """SHA-256 over the names of a certificate, by which the journal knows them again.

    The subject counts in its order, alternative names in any; string types do not count. A Microsoft SID is a name.
    """
    names = ((name.kind.value, name.value) for name in contents.subject_alternative_names)
    return _digest(contents.subject, names, contents.sid)


def requested_names_digest(csr: Csr) -> bytes:
    """The digest of what a CSR asks for: that of its certificate, unless a SID is asked for that the profile strips."""
    names = ((name.kind.value, name.value) for name in csr.subject_alternative_names)
    sid = next((read_sid(each.value) for each in csr.extensions if each.oid == SID_EXTENSION), None)
    return _digest(csr.subject, names, sid)


def _digest(
    subject: Iterable[Iterable[NameAttribute | SubjectAttribute]], names: Iterable[tuple[str, str]], sid: str | None
) -> bytes:
    rdns = [sorted((each.oid, each.value) for each in rdn) for rdn in subject]
    return hashlib.sha256(json.dumps([rdns, sorted(set(names)), sid]).encode()).digest()
