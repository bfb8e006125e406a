"""SignedData with SCEP's attributes, written and read (RFC 8894 §3.2, RFC 5652 §5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import cms, core
from cryptography import x509

from ra.client import algorithms
from ra.client.algorithms import Key
from ra.client.csr import signature_algorithm
from ra.client.errors import BadReply, reading
from ra.client.identifiers import CertificateId, read_identifier, to_asn1, write_identifier
from ra.client.names import Attribute, Digest

Value = str | bytes
_SET_TAG = b"\x31"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs a message, and so who can open the answer: a key and its certificate, with what else to send along."""

    key: Key = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A SignedData with one signer, read but not yet verified.

    Attributes:
        content: the octets that are signed; empty when there are none.
        certificates: DER, in the order sent.
        attributes: the signed attributes the client knows, by OID; None where the content itself is signed.
        signed_bytes: what the signature is over: the attributes as a SET OF, or the content where there are none.
    """

    content: bytes
    certificates: tuple[bytes, ...]
    signer: CertificateId
    digest: Digest
    attributes: Mapping[str, Value] | None
    signed_bytes: bytes
    signature: bytes


def write_signed(content: bytes | None, attributes: Mapping[Attribute, Value], signer: Signer, digest: Digest) -> bytes:
    """SignedData over `content` (absent when None) in a ContentInfo, DER. A str becomes PrintableString."""
    own: dict[Attribute, Any] = {
        Attribute.CONTENT_TYPE: cms.ContentType("data"),
        Attribute.MESSAGE_DIGEST: algorithms.digest(content or b"", digest),
    }
    signed_attributes = cms.CMSAttributes(
        [{"type": oid.value, "values": [_to_asn1(value)]} for oid, value in (own | dict(attributes)).items()]
    )
    encapsulated: dict[str, Any] = {"content_type": "data"}
    if content is not None:
        encapsulated["content"] = content
    data = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [{"algorithm": digest.value}],
            "encap_content_info": encapsulated,
            "certificates": [to_asn1(certificate) for certificate in (signer.certificate, *signer.chain)],
            "signer_infos": [
                {
                    "version": "v1",
                    "sid": {"issuer_and_serial_number": write_identifier(signer.certificate)},
                    "digest_algorithm": {"algorithm": digest.value},
                    "signed_attrs": signed_attributes,
                    "signature_algorithm": {"algorithm": signature_algorithm(signer.key, digest)},
                    "signature": algorithms.sign(signed_attributes.dump(), signer.key, digest),
                }
            ],
        }
    )
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())


def read_signed(message: bytes, what: str) -> Signed:
    """The parts of a SignedData with exactly one signer; `what` names it in errors.

    Raises:
        BadReply: it is none.
    """
    with reading(what):
        info = cms.ContentInfo.load(message, strict=True)
        if info["content_type"].native != "signed_data":
            raise BadReply(f"{what} is not signed (no CMS SignedData).")
        data = info["content"]
        if len(data["signer_infos"]) != 1:
            raise BadReply(f"{what} has {len(data['signer_infos'])} signers instead of one.")
        return _read_parts(data, data["signer_infos"][0])


def verify_signed(signed: Signed, candidates: Iterable[x509.Certificate]) -> x509.Certificate:
    """The one of `candidates` that signed.

    Raises:
        BadReply: none of them did, or the content is not the one that was signed.
    """
    signer = next((candidate for candidate in candidates if signed.signer.names(candidate)), None)
    if signer is None:
        raise BadReply("The reply is signed by a certificate that GetCACert does not show; fetch GetCACert again.")
    if signed.attributes is not None:
        _check_content(signed, signed.attributes)
    with reading("The RA's public key"):
        public_key = signer.public_key()
    algorithms.verify(signed.signature, signed.signed_bytes, public_key, signed.digest)
    return signer


def _check_content(signed: Signed, attributes: Mapping[str, Value]) -> None:
    if attributes.get(Attribute.MESSAGE_DIGEST) != algorithms.digest(signed.content, signed.digest):
        raise BadReply("The content of the reply is not the one that was signed: it was altered.")


def _read_parts(data: Any, signer: Any) -> Signed:
    content = _octets(data["encap_content_info"]["content"])
    attributes = signer["signed_attrs"]
    return Signed(
        content=content,
        certificates=tuple(choice.chosen.dump() for choice in data["certificates"] if choice.name == "certificate"),
        signer=read_identifier(signer["sid"]),
        digest=_digest(signer["digest_algorithm"]["algorithm"].native),
        attributes=_read_attributes(attributes) if len(attributes) else None,
        # The attributes travel under [0] and are signed under SET OF (RFC 5652 §5.4).
        signed_bytes=_SET_TAG + attributes.dump()[1:] if len(attributes) else content,
        signature=signer["signature"].native,
    )


def _octets(content: Any) -> bytes:
    if isinstance(content, core.Void):
        return b""
    if not isinstance(content, core.OctetString | core.ParsableOctetString):
        raise TypeError("the signed content is no OCTET STRING")
    return bytes(content)


def _digest(name: str) -> Digest:
    try:
        return Digest(name)
    except ValueError as fault:
        raise BadReply(f"The reply is signed with the digest {name}, which this client does not know.") from fault


def _read_attributes(attributes: Sequence[Any]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    known = set(Attribute)
    for attribute in attributes:
        oid = attribute["type"].dotted
        if oid not in known:
            continue
        if oid in found or len(attribute["values"]) != 1:
            raise BadReply(f"The signed attribute {Attribute(oid).name} is there more than once.")
        found[oid] = attribute["values"][0].native
    return found


def _to_asn1(value: Any) -> Any:
    match value:
        case str():
            return core.PrintableString(value)
        case bytes():
            return core.OctetString(value)
        case _:
            return value
