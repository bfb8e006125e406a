"""ApprovedContents as X.509 values. What cannot be said in a certificate raises ValueError."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.name import _ASN1Type

from connectors.api import ApprovedContents, NameAttribute, RdnSequence, San, SanKind
from connectors.usage import to_x509

_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_SID_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2")
_SID = x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2.1")

_OCTET_STRING, _UTF8_STRING, _PRINTABLE_STRING = 0x04, 0x0C, 0x13
_LONGEST = 127

_PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")


def subject_name(subject: RdnSequence) -> x509.Name:
    """The subject, in its order, with the string types that RFC 5280 §4.1.2.4 wants."""
    return x509.Name([x509.RelativeDistinguishedName([_attribute(each) for each in rdn]) for rdn in subject])


def extensions(contents: ApprovedContents) -> Iterator[tuple[x509.ExtensionType, bool]]:
    """The extensions that the RA decided on, each with its criticality."""
    yield x509.BasicConstraints(ca=False, path_length=None), True
    yield to_x509(contents.key_usage), True
    yield x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in contents.extended_key_usage]), False
    if contents.subject_alternative_names:
        names = x509.SubjectAlternativeName([_general_name(each) for each in contents.subject_alternative_names])
        # RFC 5280 §4.2.1.6: "If the subject field contains an empty sequence, then the issuing CA MUST include a
        # subjectAltName extension that is marked as critical."
        yield names, not contents.subject
    if contents.sid is not None:
        yield x509.UnrecognizedExtension(_SID_EXTENSION, _sid(contents.sid)), False


def _attribute(attribute: NameAttribute) -> x509.NameAttribute[str]:
    oid = x509.ObjectIdentifier(attribute.oid)
    # A name keeps its PrintableString, which some relying parties compare byte by byte. Every other string type is
    # left to the library, which knows the attributes that have to be PrintableString or IA5String.
    if attribute.tag == _PRINTABLE_STRING and _PRINTABLE.issuperset(attribute.value):
        return x509.NameAttribute(oid, attribute.value, _ASN1Type.PrintableString)
    return x509.NameAttribute(oid, attribute.value)


def _general_name(san: San) -> x509.GeneralName:
    match san.kind:
        case SanKind.DNS:
            return x509.DNSName(san.value)
        case SanKind.EMAIL:
            return x509.RFC822Name(san.value)
        case SanKind.URI:
            return x509.UniformResourceIdentifier(san.value)
        case SanKind.IP:
            return x509.IPAddress(ip_address(san.value))
        case SanKind.UPN:
            return x509.OtherName(_UPN, _short(_UTF8_STRING, san.value.encode()))


def _sid(sid: str) -> bytes:
    """GeneralNames with one otherName whose value is an OCTET STRING: szOID_NTDS_CA_SECURITY_EXT, MS KB5014754."""
    return x509.SubjectAlternativeName(
        [x509.OtherName(_SID, _short(_OCTET_STRING, sid.encode("ascii")))]
    ).public_bytes()


def _short(tag: int, content: bytes) -> bytes:
    """One DER element whose length takes one octet."""
    if len(content) > _LONGEST:
        raise ValueError(f"a user principal name or SID of {len(content)} octets is too long")
    return bytes((tag, len(content))) + content
