"""The Decision: what an authenticated request may have, and the only proof of it that `submit` takes. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from connectors.api import ApprovedContents, KeyUsage, NameAttribute, San, SanKind
from ra.errors import Reason, Refused
from ra.policy.grant import Grant
from ra.policy.names import approved_kind
from ra.policy.profile import Profile
from ra.policy.rules import RULES, asked_sids, granted_extended_key_usage, granted_key_usage, granted_sid
from ra.policy.sid import SID_EXTENSION, is_sid, read_sid
from ra.scep.csr import Csr
from ra.scep.messages import Enrolment
from ra.scep.words import RDN_ATTRIBUTES

_SEAL = object()

_SPECIAL = str.maketrans({character: f"\\{character}" for character in ',+"\\<>;='})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A yes to one request, and what its certificate is to say. Made by `decide` alone, and kept by `freeze`.

    Attributes:
        csr: PKCS #10, DER, byte for byte as the device signed it. It may hold the challenge in clear: never log it.
        contents: rebuilt from the profile's allow-lists, not copied from the CSR.
        profile: its name.
        decided_at: UTC.
        seals_reply: the reply is sealed with the CSR's challenge, which has to be kept until it is handed out.

    Raises:
        TypeError: anybody else tries to make one.
    """

    csr: bytes = field(repr=False)
    contents: ApprovedContents
    grant: Grant
    profile: str
    decided_at: datetime
    seals_reply: bool = False
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
    enrolment: Enrolment,
    grant: Grant,
    profile: Profile,
    now: datetime,
    *,
    explicit_contents: bool = True,
    explicit_validity: bool = True,
) -> Decision:
    """What an authenticated request may have.

    Without `explicit_contents` the connector copies from the CSR and leaves nothing out: everything that would be left
    out is refused instead. Without `explicit_validity` it decides itself how long a certificate is valid, and a wish of the
    grant counts for nothing.

    Raises:
        Refused: a rule says no.
    """
    if grant.strips_sid:
        profile = replace(profile, allow_sid_extension=False)
    strict = (
        profile
        if explicit_contents
        else replace(profile, unapproved_extensions="refuse", privileged_extensions="refuse")
    )
    _check_grant(enrolment, grant, profile)
    _check_reply(enrolment, grant, profile)
    judged = _without_sid(enrolment) if grant.strips_sid and explicit_contents else enrolment
    sid = _found_sid(judged.csr, grant, profile, explicit_contents=explicit_contents)
    if sid is not None:
        strict = replace(strict, allow_sid_extension=True)  # to ask for what it gets anyway is no fault
    for rule in RULES:
        rule(judged, strict)
    return Decision(
        csr=enrolment.csr.der,
        contents=_contents(judged.csr, profile, grant.validity if explicit_validity else None, sid),
        grant=grant,
        profile=profile.name,
        decided_at=now,
        seals_reply=not enrolment.outer.signer.is_sealed_to,
        seal=_SEAL,
    )


def freeze(decision: Decision) -> bytes:
    """A decision as bytes, so that it outlives the process. It holds the CSR: keep it sealed."""
    contents = decision.contents
    said = {
        "subject": [[(each.oid, each.value, each.tag) for each in rdn] for rdn in contents.subject],
        "subject_alternative_names": [(each.kind, each.value) for each in contents.subject_alternative_names],
        "spki": contents.spki.hex(),
        "key_usage": sorted(contents.key_usage),
        "extended_key_usage": contents.extended_key_usage,
        "validity_seconds": contents.validity.total_seconds(),
        "sid": contents.sid,
        "profile": decision.profile,
        "decided_at": decision.decided_at.isoformat(),
        "seals_reply": decision.seals_reply,
    }
    return json.dumps(said, separators=(",", ":")).encode() + b"\0" + decision.csr


def thaw(frozen: bytes, grant: Grant) -> Decision:
    """The decision that `freeze` kept, with the grant it rests on; only for bytes that nobody else can have made."""
    head, _, csr = frozen.partition(b"\0")  # JSON writes no zero byte
    said = json.loads(head)
    contents = ApprovedContents(
        subject=tuple(tuple(NameAttribute(*each) for each in rdn) for rdn in said["subject"]),
        subject_alternative_names=tuple(San(SanKind(kind), value) for kind, value in said["subject_alternative_names"]),
        spki=bytes.fromhex(said["spki"]),
        key_usage=frozenset(map(KeyUsage, said["key_usage"])),
        extended_key_usage=tuple(said["extended_key_usage"]),
        validity=timedelta(seconds=said["validity_seconds"]),
        sid=said["sid"],
    )
    decided_at = datetime.fromisoformat(said["decided_at"])
    return Decision(
        csr=csr,
        contents=contents,
        grant=grant,
        profile=said["profile"],
        decided_at=decided_at,
        seals_reply=said.get("seals_reply", False),  # a journal of before has none
        seal=_SEAL,
    )


def _check_grant(enrolment: Enrolment, grant: Grant, profile: Profile) -> None:
    """A renewal is signed by the key that is being replaced (RFC 8894 §2.3), so that `same` cannot hold for it."""
    if grant.method == "none" and profile.challenge_password_required:
        raise Refused(Reason.CHALLENGE_REFUSED, "nothing granted this request, and a challenge is required")
    if profile.signer_key == "same" and grant.method != "renewal" and enrolment.outer.signer.spki != enrolment.csr.spki:
        raise Refused(Reason.SIGNER_KEY_DIFFERS)


def _without_sid(enrolment: Enrolment) -> Enrolment:
    kept = tuple(each for each in enrolment.csr.extensions if each.oid != SID_EXTENSION)
    return replace(enrolment, csr=replace(enrolment.csr, extensions=kept))


def _check_reply(enrolment: Enrolment, grant: Grant, profile: Profile) -> None:
    """Whether the reply can be sealed is known before anything is issued. A renewal has no challenge to seal it with."""
    if enrolment.outer.signer.is_sealed_to:
        return
    if not profile.password_recipient or not enrolment.csr.challenge_password:
        raise Refused(
            Reason.SIGNER_CANNOT_RECEIVE, "the signer's key is not RSA, and there is no challenge to seal with"
        )
    if not grant.is_strong:
        raise Refused(Reason.SIGNER_CANNOT_RECEIVE, "the signer's key is not RSA, and the challenge could be guessed")


def _found_sid(csr: Csr, grant: Grant, profile: Profile, *, explicit_contents: bool) -> str | None:
    """The SID that the challenge has found, where it goes into the certificate. No other is ever asked for beside it."""
    if grant.sid is None:
        return None
    if not is_sid(grant.sid):
        raise Refused(Reason.EXTENSION_NOT_ALLOWED, f"the challenge has found what is no SID: {grant.sid[:100]!a}")
    asked = asked_sids(csr)
    if others := sorted(asked - {grant.sid}):
        detail = f"asked for the SID {', '.join(others)[:200]}, where the challenge has found {grant.sid}"
        raise Refused(Reason.EXTENSION_NOT_ALLOWED, detail)
    if not profile.sid_from_challenge:
        return None
    if not explicit_contents and all(each.oid != SID_EXTENSION for each in csr.extensions):
        detail = "the CA copies from the request, and can add no SID that this does not ask for"
        raise Refused(Reason.EXTENSION_NOT_ALLOWED, detail)
    return grant.sid


def _contents(csr: Csr, profile: Profile, wish: timedelta | None, sid: str | None) -> ApprovedContents:
    longest = timedelta(days=profile.default_validity_days)
    return ApprovedContents(
        subject=tuple(tuple(NameAttribute(each.oid, each.value, each.tag) for each in rdn) for rdn in csr.subject),
        subject_alternative_names=_names(csr),
        spki=csr.spki,
        key_usage=granted_key_usage(csr, profile),
        extended_key_usage=granted_extended_key_usage(csr, profile),
        validity=longest if wish is None else min(wish, longest),
        sid=sid or granted_sid(csr, profile),
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
