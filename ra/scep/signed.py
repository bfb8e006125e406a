"""SignedData: the one signer and its attributes read and verified; written for replies; and the degenerate form.

RFC 5652 §5, RFC 8894 §3.2 (pkiMessage) and §3.4 (certificates-only and CRL messages).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from ra.scep import asn1, ber, ciphers, x509
from ra.scep.ber import tlv
from ra.scep.ciphers import PublicKey, SignatureAlgorithm
from ra.scep.errors import Malformed
from ra.scep.header import CertificateId
from ra.scep.keys import Signer
from ra.scep.names import Digest, Oid

MAX_CERTIFICATES = 8
MAX_ATTRIBUTES = 64

_INTEGER_1 = asn1.encode_integer(1)
_NULL = tlv(0x05)
_SEQUENCE, _SET, _OCTET_STRING = 0x30, 0x31, 0x04
_DATA = asn1.encode_oid(Oid.DATA)
_SIGNED_DATA = asn1.encode_oid(Oid.SIGNED_DATA)
_EMPTY_SET = tlv(_SET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """SignedData with one signer, parsed; nothing in it is verified yet.

    Attributes:
        content: what is signed; empty where it is absent (Q1).
        attributes: the signed ones by dotted type, each as the SETs of values that came under it.
        attribute_nodes: the same, whole, DER, in the order received.
        certificates: DER, as received.
    """

    content_type: str
    content: bytes
    signer_info: asn1.SignerInfo
    attributes: Mapping[str, tuple[asn1.Node, ...]]
    attribute_nodes: tuple[bytes, ...]
    certificates: tuple[bytes, ...]


def read_signed(der: bytes) -> Signed:
    """SignedData with exactly one signer, who signed attributes.

    Raises:
        Malformed: it is anything else, or has more than MAX_CERTIFICATES certificates or MAX_ATTRIBUTES attributes.
    """
    data = _read_signed_data(der)
    signer_infos = asn1.set_elements(data.signer_infos)
    if len(signer_infos) != 1:
        raise Malformed(f"{len(signer_infos)} signers where there must be one")
    signer_info = asn1.read(asn1.SignerInfo, signer_infos[0])
    # Without signed attributes the content could pass for them (draft-ietf-lamps-cms-euf-cma-signeddata).
    if not signer_info.signed_attributes:
        raise Malformed("nothing but the content is signed: no attributes")
    if len(signer_info.signed_attributes) > MAX_ATTRIBUTES:
        raise Malformed(f"more than {MAX_ATTRIBUTES} signed attributes")
    return Signed(
        content_type=data.content_info.content_type.dotted_string,
        content=data.content_info.content or b"",
        signer_info=signer_info,
        attributes=_by_type(signer_info.signed_attributes),
        attribute_nodes=tuple(map(asn1.raw, signer_info.signed_attributes)),
        certificates=_certificates(data),
    )


def read_bag(der: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The certificates and the CRLs of a SignedData that nobody signed (RFC 8894 §3.4), DER, in their order.

    Raises:
        Malformed: it is anything else.
    """
    data = _read_signed_data(der)
    if asn1.set_elements(data.signer_infos):
        raise Malformed("it is signed")
    return _certificates(data), tuple(map(asn1.raw, data.crls or ()))


def _read_signed_data(der: bytes) -> asn1.SignedData:
    message = asn1.read(asn1.SignedMessage, der)
    if message.content_type.dotted_string != Oid.SIGNED_DATA:
        raise Malformed("no SignedData")
    return message.content


def _certificates(data: asn1.SignedData) -> tuple[bytes, ...]:
    """The X.509 certificates; what else the CHOICE allows (attribute certificates) is passed over."""
    certificates = data.certificates or []
    if len(certificates) > MAX_CERTIFICATES:
        raise Malformed(f"{len(certificates)} certificates are more than {MAX_CERTIFICATES}")
    return tuple(asn1.raw(each) for each in certificates if asn1.tag(each) == _SEQUENCE)


def _by_type(nodes: list[asn1.Node]) -> dict[str, tuple[asn1.Node, ...]]:
    """The attributes by type; those that nobody asks for are passed over (Q13).

    jscep signs a cmsAlgorithmProtection, OpenSSL its SMIMECapabilities, Windows attributes of its own.
    """
    attributes: dict[str, tuple[asn1.Node, ...]] = {}
    for node in nodes:
        attribute = asn1.parse(node, asn1.Attribute)
        oid = attribute.type.dotted_string
        attributes[oid] = (*attributes.get(oid, ()), attribute.values)
    return attributes


def only_value(signed: Signed, oid: str) -> asn1.Node | None:
    """The value of an attribute, None where it is absent.

    Raises:
        Malformed: the attribute comes twice or does not have exactly one value.
    """
    values = signed.attributes.get(oid, ())
    if not values:
        return None
    if len(values) > 1:
        raise Malformed(f"attribute {oid} comes twice")
    return asn1.parse(values[0], asn1.SingleValue).value


def find_signer(signed: Signed) -> tuple[bytes, asn1.TbsCertificate]:
    """The certificate that the signer names, and the only one: it is never guessed from the order.

    Raises:
        Malformed: there is none, there are two, or a certificate does not parse.
    """
    found = [
        (der, certificate)
        for der in dict.fromkeys(signed.certificates)
        if _names(signed.signer_info, certificate := x509.read_certificate(der))
    ]
    if len(found) != 1:
        raise Malformed(f"{len(found)} certificates where the signer's is expected")
    return found[0]


def _names(signer_info: asn1.SignerInfo, certificate: asn1.TbsCertificate) -> bool:
    signer = signer_info.signer
    if isinstance(signer, bytes):
        return x509.certificate_id(certificate).key_id == signer
    return signer.serial == certificate.serial and x509.same_name(asn1.raw(signer.issuer), asn1.raw(certificate.issuer))


def verify(signed: Signed, key: PublicKey, algorithm: SignatureAlgorithm, digest: Digest) -> None:
    """Checks that the signer signed these attributes, and the attributes this content (RFC 5652 §5.4, §5.6).

    Raises:
        Malformed: contentType or messageDigest are missing or wrong, or the signature does not verify.
    """
    content_type, message_digest = only_value(signed, Oid.CONTENT_TYPE), only_value(signed, Oid.MESSAGE_DIGEST)
    # RFC 8894 §3.2: the content type "MUST be data"; RFC 5652 §11.1: the attribute says the same.
    if signed.content_type != Oid.DATA or content_type is None or asn1.raw(content_type) != _DATA:
        raise Malformed("the content type is not data")
    expected = tlv(_OCTET_STRING, ciphers.hash_of(signed.content, digest))
    if message_digest is None or asn1.raw(message_digest) != expected:
        raise Malformed("the message digest is not that of the content")
    _verify_attributes(signed, key, algorithm, digest)


def _verify_attributes(signed: Signed, key: PublicKey, algorithm: SignatureAlgorithm, digest: Digest) -> None:
    """Over the attributes in the order received; else in DER order, in which some sign what they send unsorted (Q3)."""
    signature = signed.signer_info.signature
    try:
        ciphers.verify(signature, tlv(_SET, *signed.attribute_nodes), key, algorithm, digest)
    except Malformed:
        if sorted_attributes(signed):
            raise
        ciphers.verify(signature, ber.set_of(signed.attribute_nodes), key, algorithm, digest)


def sorted_attributes(signed: Signed) -> bool:
    """Whether the signed attributes came in DER order."""
    return list(signed.attribute_nodes) == sorted(signed.attribute_nodes)


def write_signed(
    content: bytes, *, attributes: Mapping[str, bytes], signer: Signer, digest: Digest, certificates: Iterable[bytes]
) -> bytes:
    """ContentInfo with SignedData over `content` of type data; certificates stay in the order given.

    `attributes` have each one value, DER, by dotted type; contentType and messageDigest are added to them.
    """
    attributes = {
        **attributes,
        Oid.CONTENT_TYPE: _DATA,
        Oid.MESSAGE_DIGEST: tlv(_OCTET_STRING, ciphers.hash_of(content, digest)),
    }
    signed_attributes = ber.set_of(
        tlv(_SEQUENCE, asn1.encode_oid(oid), tlv(_SET, value)) for oid, value in attributes.items()
    )
    signer_info = tlv(
        _SEQUENCE,
        _INTEGER_1,
        issuer_and_serial(signer.certificate_id),
        digest_algorithm(digest),
        b"\xa0" + signed_attributes[1:],
        _signature_algorithm(signer.signature_algorithm, digest),
        tlv(_OCTET_STRING, signer.sign(signed_attributes, digest)),
    )
    encapsulated = tlv(_SEQUENCE, _DATA, tlv(0xA0, tlv(_OCTET_STRING, content)))
    return _content_info(tlv(_SET, digest_algorithm(digest)), encapsulated, certificates, (), tlv(_SET, signer_info))


def write_bag(certificates: Iterable[bytes], crls: Iterable[bytes] = ()) -> bytes:
    """ContentInfo with SignedData that nobody signs (RFC 8894 §3.4): its content MUST be omitted.

    The order given is kept, against the DER of a SET OF: Apple pairs its key with the first certificate (Q5, Q7).
    """
    return _content_info(_EMPTY_SET, tlv(_SEQUENCE, _DATA), certificates, crls, _EMPTY_SET)


def _content_info(
    digests: bytes, encapsulated: bytes, certificates: Iterable[bytes], crls: Iterable[bytes], signer_infos: bytes
) -> bytes:
    bags = [tlv(tag, *each) for tag, each in ((0xA0, tuple(certificates)), (0xA1, tuple(crls))) if each]
    signed_data = tlv(_SEQUENCE, _INTEGER_1, digests, encapsulated, *bags, signer_infos)
    return tlv(_SEQUENCE, _SIGNED_DATA, tlv(0xA0, signed_data))


def issuer_and_serial(certificate_id: CertificateId) -> bytes:
    """IssuerAndSerialNumber, DER."""
    return tlv(_SEQUENCE, certificate_id.issuer, asn1.encode_integer(certificate_id.serial))


@cache
def digest_algorithm(digest: Digest) -> bytes:
    """AlgorithmIdentifier, DER; for SHA-2 without parameters (RFC 5754 §2), for SHA-1 with the NULL of its time."""
    parameters = _NULL if digest is Digest.SHA1 else b""
    return tlv(_SEQUENCE, asn1.encode_oid(ciphers.DIGEST_OIDS[digest]), parameters)


@cache
def _signature_algorithm(kind: str, digest: Digest) -> bytes:
    if kind == "rsa":
        return tlv(_SEQUENCE, asn1.encode_oid(ciphers.RSA_ENCRYPTION), _NULL)
    return tlv(_SEQUENCE, asn1.encode_oid(ciphers.ECDSA_OIDS[digest]))
