"""The structures of CMS, PKCS #10 and X.509 as far as the codec reads them, declared; strict DER.

The only importer of the ASN.1 library, whose interface is not stable. What may come unsorted (a SET OF) or in two
shapes is declared as one raw node (`TLV`) and taken apart by its reader. Writing is done with `ra.scep.ber.tlv`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, TypeVar

from cryptography.hazmat.asn1 import TLV, BitString, Explicit, Implicit, Null, decode_der, encode_der, sequence
from cryptography.hazmat.asn1 import set as set_
from cryptography.x509 import ObjectIdentifier

from ra.scep import ber
from ra.scep.errors import Malformed

T = TypeVar("T")

Node = TLV
"""One node, unread."""

_SEQUENCE, _SET = 0x30, 0x31


def read(structure: type[T], der: bytes) -> T:
    """Exactly one value of that structure.

    Raises:
        Malformed: the bytes are something else, not DER, or more.
    """
    try:
        return decode_der(structure, der)
    except (ValueError, OverflowError) as error:
        raise Malformed(f"no {structure.__name__}") from error


def leniently(parse: Callable[[bytes], T], data: bytes) -> tuple[T, bytes]:
    """What `parse` makes of DER, or of BER turned into DER (Q2); and that DER, which is `data` itself if it was DER.

    Raises:
        Malformed: neither.
    """
    try:
        return parse(data), data
    except Malformed:
        der = ber.normalise(data)
        return parse(der), der


def parse(node: Node, structure: type[T]) -> T:
    """Exactly one value of that structure.

    Raises:
        Malformed: the node is something else, or not DER.
    """
    try:
        parsed: T = node.parse(structure)
    except (ValueError, OverflowError) as error:
        raise Malformed(f"no {structure.__name__}") from error
    return parsed


def raw(node: Node) -> bytes:
    """The whole node, as it was received."""
    return encode_der(node)


def tag(node: Node) -> int:
    return node.tag_bytes[0]


def value(node: Node) -> bytes:
    return bytes(node.data)


def set_elements(node: Node) -> tuple[bytes, ...]:
    """The elements of a SET OF in the order received, whole.

    Raises:
        Malformed: it is none.
    """
    if tag(node) != _SET:
        raise Malformed("a SET OF is expected")
    return ber.split(value(node))


def elements(der: bytes) -> tuple[bytes, ...]:
    """The elements of a SEQUENCE OF, whole.

    Raises:
        Malformed: it is none.
    """
    if der[:1] != bytes((_SEQUENCE,)):
        raise Malformed("a SEQUENCE OF is expected")
    return ber.split(ber.value_of(der))


def read_bits(der: bytes) -> tuple[bool, ...]:
    """A BIT STRING, first bit first.

    Raises:
        Malformed: it is none.
    """
    bits = read(BitString, der)
    octets, unused = bits.as_bytes(), bits.padding_bits()
    return tuple(bool(octet >> shift & 1) for octet in octets for shift in range(7, -1, -1))[: len(octets) * 8 - unused]


def parameters(algorithm: AlgorithmIdentifier) -> bytes | None:
    """The parameters, DER; absent and NULL are the same to us (Q14: Cisco leaves NULL out)."""
    if algorithm.parameters is None or isinstance(algorithm.parameters, Null):
        return None
    return raw(algorithm.parameters)


def dotted(der: bytes) -> str:
    """An OBJECT IDENTIFIER as dotted text.

    Raises:
        Malformed: it is none.
    """
    return read(ObjectIdentifier, der).dotted_string


@lru_cache(maxsize=128)
def encode_oid(dotted_text: str) -> bytes:
    """An OBJECT IDENTIFIER, DER."""
    return encode_der(ObjectIdentifier(dotted_text))


def encode_integer(value: int) -> bytes:
    """An INTEGER, DER."""
    return encode_der(value)


@sequence
class AlgorithmIdentifier:
    """RFC 5280 §4.1.1.2."""

    algorithm: ObjectIdentifier
    parameters: Null | Node | None


@sequence
class EncapsulatedContentInfo:
    """RFC 5652 §5.2."""

    content_type: ObjectIdentifier
    content: Annotated[bytes | None, Explicit(0)]


@sequence
class IssuerAndSerialNumber:
    """RFC 5652 §10.2.4."""

    issuer: Node
    serial: int


@sequence
class SignerInfo:
    """RFC 5652 §5.3; a choice of [0] is subjectKeyIdentifier."""

    version: int
    signer: IssuerAndSerialNumber | Annotated[bytes, Implicit(0)]
    digest_algorithm: AlgorithmIdentifier
    signed_attributes: Annotated[list[Node] | None, Implicit(0)]
    signature_algorithm: AlgorithmIdentifier
    signature: bytes
    unsigned_attributes: Annotated[list[Node] | None, Implicit(1)]


@sequence
class SignedData:
    """RFC 5652 §5.1; `digest_algorithms` and `signer_infos` are SETs that may come unsorted."""

    version: int
    digest_algorithms: Node
    content_info: EncapsulatedContentInfo
    certificates: Annotated[list[Node] | None, Implicit(0)]
    crls: Annotated[list[Node] | None, Implicit(1)]
    signer_infos: Node


@sequence
class SignedMessage:
    """ContentInfo (RFC 5652 §3) that holds SignedData."""

    content_type: ObjectIdentifier
    content: Annotated[SignedData, Explicit(0)]


@sequence
class Attribute:
    """RFC 5652 §5.3."""

    type: ObjectIdentifier
    values: Node


@set_
class SingleValue:
    """A SET with exactly one element."""

    value: Node


@sequence
class EncryptedContentInfo:
    """RFC 5652 §6.1; `content` is [0] IMPLICIT OCTET STRING, in one piece or several."""

    content_type: ObjectIdentifier
    algorithm: AlgorithmIdentifier
    content: Node


@sequence
class EnvelopedData:
    """RFC 5652 §6.1; `recipients` is a SET that may come unsorted."""

    version: int
    originator: Annotated[list[Node] | None, Implicit(0)]
    recipients: Node
    content_info: EncryptedContentInfo
    unprotected_attributes: Annotated[list[Node] | None, Implicit(1)]


@sequence
class EnvelopedMessage:
    """ContentInfo (RFC 5652 §3) that holds EnvelopedData."""

    content_type: ObjectIdentifier
    content: Annotated[EnvelopedData, Explicit(0)]


@sequence
class KeyTransRecipientInfo:
    """RFC 5652 §6.2.1; a choice of [0] is subjectKeyIdentifier."""

    version: int
    recipient: IssuerAndSerialNumber | Annotated[bytes, Implicit(0)]
    algorithm: AlgorithmIdentifier
    encrypted_key: bytes


@sequence
class RsaesOaepParams:
    """RFC 4055 §4.1; every default is SHA-1."""

    digest: Annotated[AlgorithmIdentifier | None, Explicit(0)]
    mask: Annotated[AlgorithmIdentifier | None, Explicit(1)]
    label: Annotated[AlgorithmIdentifier | None, Explicit(2)]


@sequence
class RsassaPssParams:
    """RFC 4055 §3.1."""

    digest: Annotated[AlgorithmIdentifier | None, Explicit(0)]
    mask: Annotated[AlgorithmIdentifier | None, Explicit(1)]
    salt_bytes: Annotated[int | None, Explicit(2)]
    trailer: Annotated[int | None, Explicit(3)]


@sequence
class SubjectPublicKeyInfo:
    """RFC 5280 §4.1."""

    algorithm: AlgorithmIdentifier
    key: BitString


@sequence
class Extension:
    """RFC 5280 §4.1; an explicit FALSE is against DER and common."""

    id: ObjectIdentifier
    critical: bool | None
    value: bytes


@sequence
class TbsCertificate:
    """RFC 5280 §4.1, without judgement: 32-byte, zero and negative serial numbers are read (sscep sends the first)."""

    version: Annotated[int | None, Explicit(0)]
    serial: int
    signature: Node
    issuer: Node
    validity: Node
    subject: Node
    spki: Node
    issuer_id: Annotated[BitString | None, Implicit(1)]
    subject_id: Annotated[BitString | None, Implicit(2)]
    extensions: Annotated[list[Node] | None, Explicit(3)]


@sequence
class Certificate:
    """RFC 5280 §4.1."""

    tbs: TbsCertificate
    algorithm: Node
    signature: BitString


@sequence
class CertificationRequestInfo:
    """RFC 2986 §4.1; the attributes are a SET that may come unsorted or be absent."""

    version: int
    subject: Node
    spki: Node
    attributes: Annotated[list[Node] | None, Implicit(0)]


@sequence
class CertificationRequest:
    """RFC 2986 §4.2."""

    info: Node
    algorithm: AlgorithmIdentifier
    signature: BitString


@sequence
class AttributeTypeAndValue:
    """RFC 5280 §4.1.2.4."""

    type: ObjectIdentifier
    value: Node


@sequence
class OtherName:
    """RFC 5280 §4.2.1.6, its [0] tag replaced by SEQUENCE."""

    type: ObjectIdentifier
    value: Annotated[Node, Explicit(0)]


@sequence
class BasicConstraints:
    """RFC 5280 §4.2.1.9."""

    ca: bool | None
    path_length: int | None
