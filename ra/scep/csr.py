"""Facts of a PKCS #10 request: read leniently, its signature checked over the bytes as they were received.

RFC 2986; RFC 8894 §3.3.1 and §2.3 (challengePassword), §7.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import TypeVar

from ra.scep import asn1, ber, ciphers, x509
from ra.scep.ciphers import PublicKey, Scheme
from ra.scep.errors import AlgorithmRefused, Malformed
from ra.scep.names import Digest, Oid

KEY_USAGES = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
"""RFC 5280 §4.2.1.3, in the order of the bits."""

SUBJECT_ALT_NAME = "2.5.29.17"
KEY_USAGE = "2.5.29.15"
EXTENDED_KEY_USAGE = "2.5.29.37"
BASIC_CONSTRAINTS = "2.5.29.19"
_UPN = "1.3.6.1.4.1.311.20.2.3"
T = TypeVar("T")

_UTF8_STRING, _PRINTABLE_STRING, _OID_TAG, _SEQUENCE = 0x0C, 0x13, 0x06, 0x30
_VERSION_OF_APPLE = 2


@dataclass(frozen=True, slots=True)
class SubjectAttribute:
    """One attribute of a Name: type (dotted OID), value, and the universal tag of its string."""

    oid: str
    value: str
    tag: int


Subject = tuple[tuple[SubjectAttribute, ...], ...]
"""RDNs, in the order of the request."""


class GeneralNameKind(StrEnum):
    """GeneralName (RFC 5280 §4.2.1.6). UPN is the Microsoft otherName 1.3.6.1.4.1.311.20.2.3."""

    DNS = "dns"
    EMAIL = "email"
    URI = "uri"
    IP = "ip"
    UPN = "upn"
    DIRECTORY = "directory"
    REGISTERED_ID = "registered-id"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class GeneralName:
    """One subject alternative name. An IP address is in its usual text form; OTHER and DIRECTORY are DER in hex."""

    kind: GeneralNameKind
    value: str


@dataclass(frozen=True, slots=True)
class RequestedExtension:
    """One extension of an extensionRequest: type (dotted OID) and value (DER)."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Csr:
    """What a PKCS #10 says; that its signature verifies with its own key is checked before a Csr exists.

    Its repr shows neither the challenge nor the bytes that hold it.

    Attributes:
        der: the whole request, byte for byte as received.
        info: certificationRequestInfo, DER as received.
        subject: RDNSequence in the request's order.
        subject_der: Name, DER as received.
        spki: SubjectPublicKeyInfo, DER as received.
        signature_digest: of the CSR's own signature; None for Ed25519 and Ed448.
        subject_alternative_names: in the request's order; empty when none are asked for.
        key_usage: RFC 5280 names (`digitalSignature`, …), None when the extension is absent.
        extended_key_usage: dotted OIDs, None when the extension is absent.
        basic_constraints_ca: True when CA:TRUE is asked for.
        extensions: every requested extension, those read above included.
        attributes: OIDs of the CSR's attributes.
        pairs: names and values that Windows adds (szOID_ENROLLMENT_NAME_VALUE_PAIR), as far as they read.
        oddities: what is unusual about it, in words.
    """

    der: bytes = field(repr=False)
    info: bytes = field(repr=False)
    subject: Subject
    subject_der: bytes
    spki: bytes
    public_key: PublicKey
    signature_digest: Digest | None
    challenge_password: str | None = field(repr=False)
    subject_alternative_names: tuple[GeneralName, ...]
    key_usage: frozenset[str] | None
    extended_key_usage: tuple[str, ...] | None
    basic_constraints_ca: bool
    extensions: tuple[RequestedExtension, ...]
    attributes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    oddities: tuple[str, ...] = ()


def read_csr(der: bytes) -> Csr:
    """A PKCS #10 request, DER; what is unusual about it is noted, not refused, unless it could mean two things.

    1. Parse: version 0 to 2 (iOS and macOS send 2), attributes in any order or absent (strongSwan does not sort).
    2. Check its own signature over certificationRequestInfo as received: proof that the key is held.
    3. Read the attributes: a challengePassword or an extension request that comes twice is refused.
    4. Read the extensions: one that comes twice is refused.

    Raises:
        Malformed: it does not parse or verify, or could be read in two ways.
        AlgorithmRefused: its key or signature is of a kind that is not handled.
    """
    request = asn1.read(asn1.CertificationRequest, der)
    info_der = asn1.raw(request.info)
    info = asn1.read(asn1.CertificationRequestInfo, info_der)
    if not 0 <= info.version <= _VERSION_OF_APPLE:
        raise Malformed("no version of PKCS #10")
    spki, subject_der = asn1.raw(info.spki), asn1.raw(info.subject)
    subject = read_subject(subject_der)
    key = x509.read_public_key(spki)
    digest = _verify(request, info_der, key)
    attributes = [asn1.parse(each, asn1.Attribute) for each in info.attributes or ()]
    extensions = _read_extensions(attributes)
    by_oid = {each.oid: each.value for each in extensions}
    return Csr(
        der=der,
        info=info_der,
        subject=subject,
        subject_der=subject_der,
        spki=spki,
        public_key=key,
        signature_digest=digest,
        challenge_password=_read_challenge(attributes),
        subject_alternative_names=_optional(read_general_names, by_oid.get(SUBJECT_ALT_NAME)) or (),
        key_usage=_optional(read_key_usage, by_oid.get(KEY_USAGE)),
        extended_key_usage=_optional(read_extended_key_usage, by_oid.get(EXTENDED_KEY_USAGE)),
        basic_constraints_ca=bool(_optional(read_is_ca, by_oid.get(BASIC_CONSTRAINTS))),
        extensions=extensions,
        attributes=tuple(each.type.dotted_string for each in attributes),
        pairs=_read_pairs(attributes),
        oddities=_oddities(info, subject, attributes),
    )


def _verify(request: asn1.CertificationRequest, info: bytes, key: PublicKey) -> Digest | None:
    algorithm = x509.read_signature_algorithm(request.algorithm)
    if algorithm.digest is None and algorithm.scheme is not Scheme.EDDSA:
        raise AlgorithmRefused("a signature algorithm that names no digest")
    ciphers.verify(request.signature.as_bytes(), info, key, algorithm, Digest.SHA256)
    return algorithm.digest


def _only(attributes: list[asn1.Attribute], *oids: str) -> asn1.Node | None:
    """The one value of the one attribute of these types: two, or two values, are an attempt to smuggle."""
    found = [each for each in attributes if each.type.dotted_string in oids]
    if len(found) > 1:
        raise Malformed("a challengePassword or an extension request comes twice")
    return asn1.parse(found[0].values, asn1.SingleValue).value if found else None


def _read_challenge(attributes: list[asn1.Attribute]) -> str | None:
    value = _only(attributes, Oid.CHALLENGE_PASSWORD)
    return None if value is None else x509.text(asn1.tag(value), asn1.value(value))


def _read_pairs(attributes: list[asn1.Attribute]) -> tuple[tuple[str, str], ...]:
    """They are wishes alone, and may be left out of account: what does not read is none."""
    values = [each.values for each in attributes if each.type.dotted_string == Oid.MS_NAME_VALUE_PAIR]
    return tuple(pair for each in values for pair in _pairs_of(each))


def _pairs_of(values: asn1.Node) -> Iterator[tuple[str, str]]:
    for each in asn1.set_elements(values):
        try:
            name, value = (x509.text(node[0], ber.value_of(node)) for node in asn1.elements(each))
        except (Malformed, ValueError):
            continue
        yield name, value


def _read_extensions(attributes: list[asn1.Attribute]) -> tuple[RequestedExtension, ...]:
    value = _only(attributes, Oid.EXTENSION_REQUEST, Oid.MS_EXTENSION_REQUEST)
    if value is None:
        return ()
    read = (asn1.read(asn1.Extension, each) for each in asn1.elements(asn1.raw(value)))
    extensions = tuple(RequestedExtension(each.id.dotted_string, bool(each.critical), each.value) for each in read)
    if len({each.oid for each in extensions}) != len(extensions):
        raise Malformed("an extension comes twice")
    return extensions


def read_subject(der: bytes) -> Subject:
    """A Name, DER, in its order.

    Raises:
        Malformed: it does not parse.
    """
    return tuple(
        tuple(SubjectAttribute(oid, _attribute_text(tag, value), tag) for oid, tag, value in rdn)
        for rdn in x509.read_name(der)
    )


def _attribute_text(tag: int, value: bytes) -> str:
    """An attribute's value; of what is no string (uniqueIdentifier is a BIT STRING) the bytes in hex after `#`."""
    return x509.text(tag, value) if x509.is_string(tag) else f"#{value.hex()}"


def _optional(read: Callable[[bytes], T], value: bytes | None) -> T | None:
    return None if value is None else read(value)


def read_general_names(der: bytes) -> tuple[GeneralName, ...]:
    """The value of a subjectAltName extension, DER, in its order.

    Raises:
        Malformed: it does not parse.
    """
    return tuple(map(_read_general_name, asn1.elements(der)))


def _read_general_name(der: bytes) -> GeneralName:
    kind, value = _GENERAL_NAMES.get(der[0], GeneralNameKind.OTHER), ber.value_of(der)
    match kind:
        case GeneralNameKind.DNS | GeneralNameKind.EMAIL | GeneralNameKind.URI if value.isascii():
            return GeneralName(kind, value.decode("ascii"))
        case GeneralNameKind.IP:
            return GeneralName(kind, _ip_text(value))
        case GeneralNameKind.REGISTERED_ID:
            return GeneralName(kind, asn1.dotted(ber.tlv(_OID_TAG, value)))
        case GeneralNameKind.DIRECTORY:
            return GeneralName(kind, der.hex())
        case GeneralNameKind.UPN:
            return _read_other_name(der, value)
        case _:
            return GeneralName(GeneralNameKind.OTHER, der.hex())


def _ip_text(value: bytes) -> str:
    try:
        return str(ip_address(value))
    except ValueError as error:
        raise Malformed("no IP address") from error


def _read_other_name(der: bytes, value: bytes) -> GeneralName:
    other = asn1.read(asn1.OtherName, ber.tlv(_SEQUENCE, value))
    if other.type.dotted_string == _UPN and asn1.tag(other.value) == _UTF8_STRING:
        return GeneralName(GeneralNameKind.UPN, x509.text(_UTF8_STRING, asn1.value(other.value)))
    return GeneralName(GeneralNameKind.OTHER, der.hex())


_GENERAL_NAMES = {
    0xA0: GeneralNameKind.UPN,
    0x81: GeneralNameKind.EMAIL,
    0x82: GeneralNameKind.DNS,
    0xA4: GeneralNameKind.DIRECTORY,
    0x86: GeneralNameKind.URI,
    0x87: GeneralNameKind.IP,
    0x88: GeneralNameKind.REGISTERED_ID,
}


def read_key_usage(der: bytes) -> frozenset[str]:
    """The value of a keyUsage extension, DER, as names of KEY_USAGES.

    Raises:
        Malformed: it does not parse, or sets a bit that there is not.
    """
    bits = asn1.read_bits(der)
    if len(bits) > len(KEY_USAGES) and any(bits[len(KEY_USAGES) :]):
        raise Malformed("a key usage beyond those that there are")
    return frozenset(name for name, bit in zip(KEY_USAGES, bits, strict=False) if bit)


def read_extended_key_usage(der: bytes) -> tuple[str, ...]:
    """The value of an extendedKeyUsage extension, DER, as dotted OIDs in its order.

    Raises:
        Malformed: it does not parse.
    """
    return tuple(map(asn1.dotted, asn1.elements(der)))


def read_is_ca(der: bytes) -> bool:
    """Whether a basicConstraints extension, DER, says CA:TRUE.

    Raises:
        Malformed: it does not parse.
    """
    return bool(asn1.read(asn1.BasicConstraints, der).ca)


def _oddities(
    info: asn1.CertificationRequestInfo, subject: Subject, attributes: list[asn1.Attribute]
) -> tuple[str, ...]:
    """What is unusual, in words that ra.scep.explain explains."""
    nodes = [asn1.raw(each) for each in info.attributes or ()]
    strings = [each for rdn in subject for each in rdn if each.tag == _PRINTABLE_STRING]
    found = {
        "csr-version-1": info.version == 1,
        "csr-version-2": info.version == _VERSION_OF_APPLE,
        "csr-no-attributes": info.attributes is None,
        "csr-unsorted-attributes": nodes != sorted(nodes),
        "csr-ms-extension-request": any(each.type.dotted_string == Oid.MS_EXTENSION_REQUEST for each in attributes),
        "csr-unprintable-string": not all(x509.is_printable(each.value) for each in strings),
    }
    return tuple(word for word, is_so in found.items() if is_so)
