"""What messages and CSRs share of X.509: names and their strings, public keys, and how a certificate is called.

Certificates are read by our own declarations: what devices sign with has 32-byte, zero or negative serial numbers and
worse, and only its names and its key matter here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ra.scep import asn1, ber, ciphers
from ra.scep.ciphers import PublicKey, Scheme, SignatureAlgorithm
from ra.scep.errors import AlgorithmRefused, Malformed
from ra.scep.header import CertificateId
from ra.scep.names import Digest

MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT = 2**32
MAX_NAME_ATTRIBUTES = 128

_SET = 0x31
_OCTET_STRING_TAG, _OID_TAG = 0x04, 0x06
_SUBJECT_KEY_IDENTIFIER = asn1.encode_oid("2.5.29.14")
_NAMED_CURVES = {"1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"}
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_KEY_ALGORITHMS = {ciphers.RSA_ENCRYPTION, _EC_PUBLIC_KEY, "1.3.101.112", "1.3.101.113"}
_WIDE_ENCODINGS = {0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_STRING_TAGS = frozenset({0x0C, 0x12, 0x13, 0x14, 0x16, 0x19, 0x1A, 0x1B, *_WIDE_ENCODINGS})
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*")
_PSS_DEFAULT_SALT_BYTES = 20
EMPTY_SEQUENCE = b"\x30\x00"
"""Parameters of OAEP and PSS that are all defaults."""

Name = tuple[tuple[tuple[str, int, bytes], ...], ...]
"""RDNs in order; of each attribute the type (dotted), the universal tag and the value as received."""


def is_string(tag: int) -> bool:
    return tag in _STRING_TAGS


def is_printable(text: str) -> bool:
    """Whether a PrintableString can hold it (X.680 §41.4)."""
    return _PRINTABLE.fullmatch(text) is not None


def text(tag: int, value: bytes) -> str:
    """A character string, read leniently: bytes that are no UTF-8 are taken as Latin-1, as TeletexString was used.

    Raises:
        Malformed: the tag is of no string, or a wide string is cut.
    """
    if tag not in _STRING_TAGS:
        raise Malformed("a character string is expected")
    try:
        return value.decode(_WIDE_ENCODINGS.get(tag, "utf-8"))
    except UnicodeDecodeError as error:
        if tag in _WIDE_ENCODINGS:
            raise Malformed("a wide character string is cut") from error
        return value.decode("latin-1")


def read_name(der: bytes) -> Name:
    """A Name, in its own order, whatever its strings hold.

    Raises:
        Malformed: it is no RDNSequence, or has more than MAX_NAME_ATTRIBUTES attributes.
    """
    rdns = tuple(map(_read_rdn, asn1.elements(der)))
    if sum(map(len, rdns)) > MAX_NAME_ATTRIBUTES:
        raise Malformed("a Name beyond all use")
    return rdns


def _read_rdn(der: bytes) -> tuple[tuple[str, int, bytes], ...]:
    if der[0] != _SET:
        raise Malformed("no RelativeDistinguishedName")
    attributes = (asn1.read(asn1.AttributeTypeAndValue, each) for each in ber.split(ber.value_of(der)))
    return tuple((each.type.dotted_string, asn1.tag(each.value), asn1.value(each.value)) for each in attributes)


def same_name(one: bytes, other: bytes) -> bool:
    """Whether two Names (DER) say the same, byte by byte or with their strings encoded in another way.

    Windows re-encodes the issuer it names, from UTF8String to PrintableString or back.
    """
    if one == other:
        return True
    try:
        return _folded(one) == _folded(other)
    except Malformed:
        return False


def _folded(der: bytes) -> list[list[tuple[str, str]]]:
    return [
        sorted((oid, " ".join(text(tag, value).casefold().split())) for oid, tag, value in rdn)
        for rdn in read_name(der)
    ]


def read_certificate(der: bytes) -> asn1.TbsCertificate:
    """The part of a certificate that its issuer signed.

    Raises:
        Malformed: it is no certificate.
    """
    return asn1.read(asn1.Certificate, der).tbs


def certificate_id(certificate: asn1.TbsCertificate) -> CertificateId:
    return CertificateId(issuer=asn1.raw(certificate.issuer), serial=certificate.serial, key_id=_key_id(certificate))


def _key_id(certificate: asn1.TbsCertificate) -> bytes | None:
    for node in certificate.extensions or ():
        if asn1.value(node).startswith(_SUBJECT_KEY_IDENTIFIER):
            value = asn1.parse(node, asn1.Extension).value
            return ber.value_of(value) if value[:1] == bytes((_OCTET_STRING_TAG,)) else None
    return None


@lru_cache(maxsize=256)
def read_public_key(spki: bytes) -> PublicKey:
    """The key of a SubjectPublicKeyInfo, DER. Cached: signer and CSR mostly hold the same one.

    Raises:
        Malformed: it does not parse.
        AlgorithmRefused: it is of no kind that is handled here, or so large that verifying would be a burden.
    """
    _check_key_algorithm(asn1.read(asn1.SubjectPublicKeyInfo, spki).algorithm)
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed("the public key does not parse") from error
    match key:
        case RSAPublicKey():
            if key.key_size > MAX_RSA_BITS or key.public_numbers().e > MAX_RSA_EXPONENT:
                raise AlgorithmRefused(f"an RSA key of {key.key_size} bits, or its exponent, is beyond all use")
            return key
        case EllipticCurvePublicKey() | Ed25519PublicKey() | Ed448PublicKey():
            return key
        case _:
            raise AlgorithmRefused("a public key of that kind")


def _check_key_algorithm(algorithm: asn1.AlgorithmIdentifier) -> None:
    oid = algorithm.algorithm.dotted_string
    if oid not in _KEY_ALGORITHMS:
        raise AlgorithmRefused(f"public key algorithm {ciphers.ABSENT.get(oid, oid)}")
    if oid == _EC_PUBLIC_KEY and _object_identifier(algorithm) not in _NAMED_CURVES:
        raise AlgorithmRefused("an elliptic curve other than P-256, P-384 and P-521 by name")


def _object_identifier(algorithm: asn1.AlgorithmIdentifier) -> str | None:
    """The parameters, where they are an OBJECT IDENTIFIER."""
    parameters = asn1.parameters(algorithm)
    return asn1.dotted(parameters) if parameters is not None and parameters[0] == _OID_TAG else None


def read_signature_algorithm(identifier: asn1.AlgorithmIdentifier) -> SignatureAlgorithm:
    """The algorithm of a signature; rsaEncryption and sha256WithRSAEncryption are two spellings of one (Q14).

    Raises:
        Malformed: its parameters do not parse.
        AlgorithmRefused: it is not in the table.
    """
    oid = identifier.algorithm.dotted_string
    if oid != ciphers.RSASSA_PSS:
        return ciphers.signature_named(oid)
    parameters = asn1.read(asn1.RsassaPssParams, asn1.parameters(identifier) or EMPTY_SEQUENCE)
    digest = parameter_digest(parameters.digest, parameters.mask)
    salt_bytes = _PSS_DEFAULT_SALT_BYTES if parameters.salt_bytes is None else parameters.salt_bytes
    if not 0 <= salt_bytes <= MAX_RSA_BITS // 8:
        raise Malformed("no length for a salt")
    return SignatureAlgorithm(Scheme.RSA_PSS, digest, salt_bytes)


def parameter_digest(digest: asn1.AlgorithmIdentifier | None, mask: asn1.AlgorithmIdentifier | None) -> Digest:
    """The one digest of OAEP or PSS parameters (RFC 4055 §2.1, §3.1), SHA-1 where they are silent.

    Raises:
        Malformed: the mask's parameters do not parse.
        AlgorithmRefused: not in the table, or hash and mask differ.
    """
    named = ciphers.digest_named(digest.algorithm.dotted_string) if digest else Digest.SHA1
    masked = Digest.SHA1
    if mask is not None:
        if mask.algorithm.dotted_string != ciphers.MGF1:
            raise AlgorithmRefused("a mask generation function other than MGF1")
        inner = asn1.read(asn1.AlgorithmIdentifier, asn1.parameters(mask) or b"")
        masked = ciphers.digest_named(inner.algorithm.dotted_string)
    if named is not masked:
        raise AlgorithmRefused(f"{named} with a mask of {masked}")
    return named
