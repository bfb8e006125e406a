"""What a request may ask for: one small rule per fault, and the tuple that `decide` walks.

A rule is `(Enrolment, Profile) -> None` and raises Refused. Three kinds of wishes are told apart:

- names: never altered. A name outside the profile refuses the request, because a certificate for less than the device
  asked for is a certificate for somebody else.
- harmless extensions and usages: left out (`unapproved_extensions`). Windows sends its template and its application
  policies by itself, so that an Intune device must not fail for them.
- power (`privileged_extensions`): CA:TRUE, certificate signing, usages that open other doors, a Microsoft SID, which
  Intune does not look at. Nobody asks for those by accident: refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from connectors.api import KeyUsage
from ra.errors import Reason, Refused
from ra.policy.key_quality import rsa_weakness
from ra.policy.names import check_subject, check_subject_alternative_names
from ra.policy.profile import ANY_EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGES, Curve, Handling, Profile
from ra.policy.sid import SID_EXTENSION, claims_sid, read_sid, uri_sid
from ra.scep.ciphers import PublicKey, legacy_word
from ra.scep.csr import Csr
from ra.scep.messages import Enrolment

Rule = Callable[[Enrolment, Profile], None]

_CURVES = {"secp256r1": Curve.P256, "secp384r1": Curve.P384, "secp521r1": Curve.P521}

_READ_EXTENSIONS = frozenset({"2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37", SID_EXTENSION})
"""keyUsage, subjectAltName, basicConstraints, extendedKeyUsage and the SID have rules of their own."""

_PRIVILEGED_EXTENSIONS = {
    "2.5.29.30": "nameConstraints",
    "2.5.29.33": "policyMappings",
    "2.5.29.36": "policyConstraints",
    "2.5.29.54": "inhibitAnyPolicy",
    "1.3.6.1.5.5.7.48.1.5": "ocspNoCheck",
    "2.16.840.1.113730.1.1": "nsCertType",
}

_PRIVILEGED_KEY_USAGES = frozenset({"keyCertSign", "cRLSign"})

_PRIVILEGED_EXTENDED_KEY_USAGES = {
    ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
    **{
        EXTENDED_KEY_USAGES[name]: name
        for name in ("codeSigning", "timeStamping", "ocspSigning", "smartcardLogon", "enrollmentAgent", "pkinitKdc")
    },
    "1.3.6.1.4.1.311.10.3.1": "Microsoft trust list signing",
    "1.3.6.1.4.1.311.10.3.4.1": "Microsoft file recovery",
    "1.3.6.1.4.1.311.10.3.10": "Microsoft qualified subordination",
    "1.3.6.1.4.1.311.10.3.11": "Microsoft key recovery",
    "1.3.6.1.4.1.311.10.12.1": "Microsoft any application policy",
    "1.3.6.1.4.1.311.21.5": "Microsoft CA exchange",
    "1.3.6.1.4.1.311.21.6": "Microsoft key recovery agent",
}

_SIGNING = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.CONTENT_COMMITMENT})
_ENCRYPTION = frozenset({KeyUsage.KEY_ENCIPHERMENT, KeyUsage.DATA_ENCIPHERMENT})
_AGREEMENT = frozenset({KeyUsage.KEY_AGREEMENT, KeyUsage.ENCIPHER_ONLY, KeyUsage.DECIPHER_ONLY})


def capable_usages(key: PublicKey) -> frozenset[KeyUsage]:
    """Key usages that make sense for a key of this type (RFC 3279 §2.3.1, RFC 8813 §3, RFC 8410 §5)."""
    if isinstance(key, RSAPublicKey):
        return _SIGNING | _ENCRYPTION
    if isinstance(key, EllipticCurvePublicKey):
        return _SIGNING | _AGREEMENT
    return _SIGNING


def granted_key_usage(csr: Csr, profile: Profile) -> frozenset[KeyUsage]:
    """What is granted of the key usage asked for; the default where none is asked for."""
    if csr.key_usage is None:
        return profile.default_key_usage & capable_usages(csr.public_key)
    allowed = profile.allowed_key_usage & capable_usages(csr.public_key)
    return frozenset(usage for usage in allowed if usage in csr.key_usage)


def granted_extended_key_usage(csr: Csr, profile: Profile) -> tuple[str, ...]:
    """What is granted of the extended key usage asked for, in its order; the default where none is asked for."""
    if csr.extended_key_usage is None:
        return profile.default_extended_key_usage
    return tuple(oid for oid in dict.fromkeys(csr.extended_key_usage) if oid in profile.allowed_extended_key_usage)


def granted_sid(csr: Csr, profile: Profile) -> str | None:
    """The Microsoft SID of the extension, where the profile lets it through."""
    if not profile.allow_sid_extension:
        return None
    return next((read_sid(each.value) for each in csr.extensions if each.oid == SID_EXTENSION), None)


def asked_sids(csr: Csr) -> frozenset[str]:
    """Every Microsoft SID that reads, in an extension or in a URI."""
    extensions = (read_sid(each.value) for each in csr.extensions if each.oid == SID_EXTENSION)
    names = (uri_sid(each.value) for each in csr.subject_alternative_names)
    return frozenset(sid for sid in (*extensions, *names) if sid is not None)


# ---------------------------------------------------------------- rules


def signature_is_strong(enrolment: Enrolment, profile: Profile) -> None:
    """The CSR's own signature proves possession of the key: SHA-1 and MD5 do by the profile's opt-in only."""
    digest = enrolment.csr.signature_digest
    needed = legacy_word(digest) if digest else None
    if needed and needed not in profile.legacy:
        raise Refused(Reason.ALGORITHM_NOT_ALLOWED, f"the CSR is signed with {needed}, which is not in `legacy`")


def key_is_allowed(enrolment: Enrolment, profile: Profile) -> None:
    key = enrolment.csr.public_key
    if isinstance(key, RSAPublicKey):
        _check_rsa(key, profile)
    elif (curve := _curve(key)) not in profile.curves:
        raise Refused(Reason.KEY_NOT_ALLOWED, f"a key on {curve or 'an unknown curve'} is not in `curves`")


def _check_rsa(key: RSAPublicKey, profile: Profile) -> None:
    if not profile.min_rsa_bits <= key.key_size <= profile.max_rsa_bits:
        raise Refused(Reason.KEY_NOT_ALLOWED, f"RSA-{key.key_size} is outside min_rsa_bits and max_rsa_bits")
    numbers = key.public_numbers()
    if numbers.e not in profile.rsa_exponents:
        raise Refused(Reason.KEY_NOT_ALLOWED, f"the RSA exponent {numbers.e:.20g} is not in `rsa_exponents`")
    if weakness := rsa_weakness(numbers.n):
        raise Refused(Reason.KEY_NOT_ALLOWED, weakness)


def _curve(key: EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey) -> Curve | None:
    if isinstance(key, EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    return Curve.ED25519 if isinstance(key, Ed25519PublicKey) else Curve.ED448


def subject_is_allowed(enrolment: Enrolment, profile: Profile) -> None:
    check_subject(enrolment.csr, profile)


def subject_alternative_names_are_allowed(enrolment: Enrolment, profile: Profile) -> None:
    check_subject_alternative_names(enrolment.csr.subject_alternative_names, profile)


def no_certificate_authority_is_asked_for(enrolment: Enrolment, profile: Profile) -> None:
    if enrolment.csr.basic_constraints_ca:
        _handle(profile.privileged_extensions, Reason.EXTENSION_NOT_ALLOWED, ["CA:TRUE"])


def key_usage_is_allowed(enrolment: Enrolment, profile: Profile) -> None:
    csr = enrolment.csr
    asked = csr.key_usage or frozenset()
    granted = granted_key_usage(csr, profile)
    power = asked & _PRIVILEGED_KEY_USAGES
    _handle(profile.privileged_extensions, Reason.USAGE_NOT_ALLOWED, power)
    _handle(profile.unapproved_extensions, Reason.USAGE_NOT_ALLOWED, asked - granted - power)
    if not granted:
        raise Refused(Reason.USAGE_NOT_ALLOWED, "no key usage remains")
    if granted & {KeyUsage.ENCIPHER_ONLY, KeyUsage.DECIPHER_ONLY} and KeyUsage.KEY_AGREEMENT not in granted:
        raise Refused(Reason.USAGE_NOT_ALLOWED, "encipherOnly and decipherOnly mean nothing without keyAgreement")


def extended_key_usage_is_allowed(enrolment: Enrolment, profile: Profile) -> None:
    """Never a certificate without any because all were refused: it would be good for everything."""
    asked = enrolment.csr.extended_key_usage or ()
    denied = [oid for oid in asked if oid not in profile.allowed_extended_key_usage]
    power = [_PRIVILEGED_EXTENDED_KEY_USAGES[oid] for oid in denied if oid in _PRIVILEGED_EXTENDED_KEY_USAGES]
    rest = [oid for oid in denied if oid not in _PRIVILEGED_EXTENDED_KEY_USAGES]
    _handle(profile.privileged_extensions, Reason.USAGE_NOT_ALLOWED, power)
    _handle(profile.unapproved_extensions, Reason.USAGE_NOT_ALLOWED, rest)
    if not granted_extended_key_usage(enrolment.csr, profile):
        raise Refused(Reason.USAGE_NOT_ALLOWED, "no extended key usage remains")


def extensions_are_allowed(enrolment: Enrolment, profile: Profile) -> None:
    """Extensions without a rule of their own never reach a certificate; this says whether asking for them is a fault."""
    others = [each.oid for each in enrolment.csr.extensions if each.oid not in _READ_EXTENSIONS]
    power = [_PRIVILEGED_EXTENSIONS[oid] for oid in others if oid in _PRIVILEGED_EXTENSIONS]
    rest = [oid for oid in others if oid not in _PRIVILEGED_EXTENSIONS]
    _handle(profile.privileged_extensions, Reason.EXTENSION_NOT_ALLOWED, power)
    _handle(profile.unapproved_extensions, Reason.EXTENSION_NOT_ALLOWED, rest)


def sid_is_allowed(enrolment: Enrolment, profile: Profile) -> None:
    """Active Directory maps a certificate to an account by its SID: one at most, and readable."""
    values = [each.value for each in enrolment.csr.extensions if each.oid == SID_EXTENSION]
    if values and not profile.allow_sid_extension:
        _handle(profile.privileged_extensions, Reason.EXTENSION_NOT_ALLOWED, ["a Microsoft SID"])
        values = []
    sids = {read_sid(value) for value in values}
    if None in sids:
        raise Refused(Reason.EXTENSION_NOT_ALLOWED, "the Microsoft SID extension does not read")
    names = enrolment.csr.subject_alternative_names
    if len(sids.union(uri_sid(name.value) for name in names if claims_sid(name.value))) > 1:
        raise Refused(Reason.EXTENSION_NOT_ALLOWED, "more than one Microsoft SID is asked for")


def _handle(handling: Handling, reason: Reason, wishes: Iterable[str]) -> None:
    if handling == "refuse" and (denied := sorted(wishes)):
        raise Refused(reason, f"asked for, and not allowed: {', '.join(denied)[:200]}")


RULES: tuple[Rule, ...] = (
    signature_is_strong,
    key_is_allowed,
    subject_is_allowed,
    subject_alternative_names_are_allowed,
    no_certificate_authority_is_asked_for,
    key_usage_is_allowed,
    extended_key_usage_is_allowed,
    extensions_are_allowed,
    sid_is_allowed,
)
"""In the order in which they are asked; the first that raises is the answer."""
