"""The Decision: what an authenticated request may have, and the only proof of it that `submit` takes. Pure."""

from __future__ import annotations

import hashlib
import json
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
from ra.scep.csr import Csr
from ra.scep.messages import Enrolment
from ra.scep.words import RDN_ATTRIBUTES

_SEAL = object()

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
            "+".join(f"{RDN_ATTRIBUTES.get(each.oid, each.oid)}={each.value.translate(_SPECIAL)}" for each in rdn)
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


def requested_names_digest(csr: Csr) -> bytes:
    """SHA-256 over the names a CSR asks for, by which the journal knows them again.

    The subject counts in its order, alternative names in any; string types do not count. A Microsoft SID is a name.
    """
    rdns = [sorted((each.oid, each.value) for each in rdn) for rdn in csr.subject]
    names = {(name.kind.value, name.value) for name in csr.subject_alternative_names}
    sid = next((read_sid(each.value) for each in csr.extensions if each.oid == SID_EXTENSION), None)
    return hashlib.sha256(json.dumps([rdns, sorted(names), sid]).encode()).digest()
