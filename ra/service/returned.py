"""The check of every certificate that a CA hands back, before anything is told to the device.

A connector may be wrong, and a CA may be configured otherwise than the RA believes. What does not match the decision
is quarantined; it is never delivered. What a CA is known to do otherwise is declared beforehand, as Deviations.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.api import ApprovedContents, Issued, San, SanKind
from ra.errors import RaError
from ra.policy.sid import SID_EXTENSION, read_sid

T = TypeVar("T", bound=x509.ExtensionType)

_UNDERSTOOD = frozenset({"2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"})
"""keyUsage, subjectAltName, basicConstraints and extendedKeyUsage: compared above, and may be critical."""

CLOCK_SKEW = timedelta(hours=1)
"""How far a CA's clock may be ahead of ours, and how much it may add to the validity asked for (it may backdate)."""


_COMMON_NAME = "2.5.4.3"
_APPLICATION_POLICIES = "1.3.6.1.4.1.311.21.10"
"""Windows takes what stands here for extended key usages, before the extension of that name."""

_MOST_SERIAL_BITS = 160
"""RFC 5280 §4.1.2.2: "CAs MUST force the serialNumber to be a non-negative integer", of up to 20 octets."""


class Wrong(RaError):
    """The certificate is not what was decided; the message says in what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """What a CA is known to do otherwise than it was asked to: key usages, extended key usages, subject attributes.

    A key usage is written by its name (RFC 5280 §4.2.1.3), the others dotted; `2.5.4.10=Example` is the attribute with
    that value alone. Names beside the subject, the key and the issuer never deviate, and no certificate is a CA's.

    Attributes:
        ca_adds: what may be there although it was not approved. A common name has to be one of the approved
            alternative names all the same, unless its value is declared.
        may_drop: what may be missing although it was approved.
    """

    ca_adds: frozenset[str] = frozenset()
    may_drop: frozenset[str] = frozenset()


NONE = Deviations()


def check(
    issued: Issued, issuer: bytes, contents: ApprovedContents, now: datetime, *, known: Deviations = NONE
) -> None:
    """Whether a certificate is what was decided, issued by `issuer` (DER), and the chain beside it a chain from there.

    Raises:
        Wrong: it is not, or it cannot be read.
    """
    try:
        leaf, authority = x509.load_der_x509_certificate(issued.certificate), x509.load_der_x509_certificate(issuer)
        _check_issuer(leaf, authority)
        _check_form(leaf)
        _check_key(leaf, contents)
        _check_subject(leaf, contents, known)
        _check_alternative_names(leaf, contents)
        _check_usages(leaf, contents, known)
        _check_extensions(leaf, contents)
        _check_validity(leaf, authority, contents, now)
        _check_chain(issued.chain if issued.chain[:1] == (issuer,) else (issued.certificate, *issued.chain))
    except Wrong:
        raise
    except Exception as error:  # an edge: what a CA sends may be anything
        raise Wrong(f"the certificate cannot be read: {type(error).__name__}: {error}") from error


def serial_from(certificate: bytes, issuer: bytes) -> int | None:
    """The serial number of a certificate that `issuer` has signed, both DER; None where it has not."""
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except Exception:  # noqa: BLE001 - an edge: what a CA sends may be anything
        return None
    return leaf.serial_number


@lru_cache(maxsize=16)
def _check_chain(chain: tuple[bytes, ...]) -> None:
    """The same one comes with every certificate of a CA, and is looked at once."""
    for below, above in pairwise(map(x509.load_der_x509_certificate, chain)):
        _check_issuer(below, above)


def _check_issuer(leaf: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Wrong("it, or its chain, is not signed by the CA that is named") from error


def _check_form(leaf: x509.Certificate) -> None:
    """What a reader may trip over: by its serial number a certificate is revoked."""
    if leaf.version is not x509.Version.v3:
        raise Wrong("it is no certificate of version 3")
    if not 0 < leaf.serial_number < 1 << _MOST_SERIAL_BITS:
        raise Wrong(f"its serial number is not positive, or longer than {_MOST_SERIAL_BITS} bits")


def _check_key(leaf: x509.Certificate, contents: ApprovedContents) -> None:
    if leaf.public_key() != load_der_public_key(contents.spki):
        raise Wrong("it holds another key than the one that was approved")


def _check_subject(leaf: x509.Certificate, contents: ApprovedContents, known: Deviations) -> None:
    found = Counter((each.oid.dotted_string, str(each.value)) for each in leaf.subject)
    approved = Counter((each.oid, each.value) for rdn in contents.subject for each in rdn)
    others = {each.value.lower() for each in contents.subject_alternative_names}
    added = [
        f"{oid}={value}"
        for oid, value in (found - approved).elements()
        if not (
            f"{oid}={value}" in known.ca_adds
            or (oid in known.ca_adds and (oid != _COMMON_NAME or value.lower() in others))
        )
    ]
    missing = [
        f"{oid}={value}" for oid, value in (approved - found).elements() if not {oid, f"{oid}={value}"} & known.may_drop
    ]
    _insist("its subject is not the one that was approved", added, missing)


def _check_alternative_names(leaf: x509.Certificate, contents: ApprovedContents) -> None:
    if _alternative_names(leaf) != {_compared(each) for each in contents.subject_alternative_names}:
        raise Wrong("its subject alternative names are not the ones that were approved")


def _check_usages(leaf: x509.Certificate, contents: ApprovedContents, known: Deviations) -> None:
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise Wrong("it is a CA certificate")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None:
        raise Wrong("its key usages are not the ones that were approved: it has none, and would be good for any")
    _compare("its key usages are not the ones that were approved", _bits(usage), contents.key_usage, known)
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is None:
        raise Wrong("it has no extended key usage: it would be good for anything")
    oids, approved = {each.dotted_string for each in extended}, frozenset(contents.extended_key_usage)
    _compare("its extended key usages are not the ones that were approved", oids, approved, known)
    more = _application_policies(leaf) - approved - known.ca_adds
    _insist("its application policies are not the extended key usages that were approved", sorted(more), [])


def _application_policies(leaf: x509.Certificate) -> set[str]:
    """Written like certificate policies (MS-WCCE §2.2.2.7.7.3)."""
    found = [each.value for each in leaf.extensions if each.oid.dotted_string == _APPLICATION_POLICIES]
    if not found:
        return set()
    # Only who meets one waits for its parser.
    from asn1crypto.x509 import CertificatePolicies  # noqa: PLC0415

    return {
        policy["policy_identifier"].dotted
        for extension in found
        for policy in CertificatePolicies.load(extension.public_bytes(), strict=True)
    }


def _compare(complaint: str, found: AbstractSet[str], approved: AbstractSet[str], known: Deviations) -> None:
    added, missing = found - approved - known.ca_adds, approved - found - known.may_drop
    _insist(complaint, sorted(map(str, added)), sorted(map(str, missing)))


def _insist(complaint: str, added: Sequence[str], missing: Sequence[str]) -> None:
    """What is wrong, in the words in which it could be declared."""
    if added or missing:
        what = [f"it has {each!r}, which ca_adds does not hold" for each in added]
        what += [f"it lacks {each!r}, which may_drop does not hold" for each in missing]
        raise Wrong(f"{complaint}: {'; '.join(what)}")


def _check_extensions(leaf: x509.Certificate, contents: ApprovedContents) -> None:
    """A SID names an account of Active Directory whatever the subject says; and what is critical has to be understood."""
    for extension in leaf.extensions:
        oid = extension.oid.dotted_string
        if oid == SID_EXTENSION:
            if read_sid(extension.value.public_bytes()) != contents.sid:
                raise Wrong("its Microsoft SID is not the one that was approved")
        elif extension.critical and oid not in _UNDERSTOOD:
            raise Wrong(f"it has a critical extension that was not approved: {oid}")
    if contents.sid is not None and all(each.oid.dotted_string != SID_EXTENSION for each in leaf.extensions):
        raise Wrong("its Microsoft SID is missing")


def _bits(usage: x509.KeyUsage) -> set[str]:
    """The bits that are set, by the names of RFC 5280 §4.2.1.3."""
    bits = {
        "digitalSignature": usage.digital_signature,
        "nonRepudiation": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment,
        "dataEncipherment": usage.data_encipherment,
        "keyAgreement": usage.key_agreement,
        "keyCertSign": usage.key_cert_sign,
        "cRLSign": usage.crl_sign,
        "encipherOnly": usage.key_agreement and usage.encipher_only,
        "decipherOnly": usage.key_agreement and usage.decipher_only,
    }
    return {name for name, is_set in bits.items() if is_set}


def _check_validity(
    leaf: x509.Certificate, authority: x509.Certificate, contents: ApprovedContents, now: datetime
) -> None:
    if leaf.not_valid_before_utc > now + CLOCK_SKEW:
        raise Wrong("it is not valid yet")
    if leaf.not_valid_after_utc <= now:
        raise Wrong("it has already expired")
    if leaf.not_valid_after_utc - now > contents.validity + CLOCK_SKEW:
        raise Wrong("it is valid for longer than was approved")
    if leaf.not_valid_before_utc < authority.not_valid_before_utc - CLOCK_SKEW:
        raise Wrong("it is valid from before there was its CA")


def _extension(leaf: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return leaf.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


_UPN = "1.3.6.1.4.1.311.20.2.3"


def _alternative_names(leaf: x509.Certificate) -> set[San]:
    names = _extension(leaf, x509.SubjectAlternativeName)
    return {_compared(_san(each)) for each in names} if names is not None else set()


def _compared(san: San) -> San:
    """A name as it is the same name: CAs write host names, and schemes of URIs, in small letters, and drop an empty fragment."""
    match san.kind:
        case SanKind.DNS:
            return San(san.kind, san.value.lower())
        case SanKind.EMAIL:
            local, at, domain = san.value.rpartition("@")
            return San(san.kind, f"{local}{at}{domain.lower()}")
        case SanKind.URI:
            scheme, colon, rest = san.value.partition(":")
            return San(san.kind, f"{scheme.lower()}{colon}{rest.removesuffix('#')}")
        case _:
            return san


def _san(name: x509.GeneralName) -> San:
    match name:
        case x509.DNSName(value=value):
            return San(SanKind.DNS, value)
        case x509.RFC822Name(value=value):
            return San(SanKind.EMAIL, value)
        case x509.UniformResourceIdentifier(value=value):
            return San(SanKind.URI, value)
        case x509.IPAddress(value=ipaddress.IPv4Address() | ipaddress.IPv6Address() as value):
            return San(SanKind.IP, str(value))
        case x509.OtherName() if name.type_id.dotted_string == _UPN:
            return San(SanKind.UPN, _utf8(name.value))
        case _:
            raise Wrong(f"it has a subject alternative name of a kind that is never approved: {name!r}")


def _utf8(der: bytes) -> str:
    """The value of a short UTF8String, DER."""
    if len(der) < 2 or der[0] != 0x0C or der[1] > 0x7F or der[1] != len(der) - 2:  # noqa: PLR2004 - tag and length
        raise Wrong("a user principal name is no UTF8String")
    return der[2:].decode("utf-8")
