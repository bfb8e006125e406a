"""Facts of a PKCS #10 request: read leniently, its signature checked over the bytes as they were received.

RFC 2986; RFC 8894 §3.3.1 and §2.3 (challengePassword), §7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep.names import Digest

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


@dataclass(frozen=True, slots=True)
class SubjectAttribute:
    """One attribute of a Name: type (dotted OID), value, and the universal tag of its string."""

    oid: str
    value: str
    tag: int


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
        oddities: what is unusual about it, in words.
    """

    der: bytes
    info: bytes
    subject: tuple[tuple[SubjectAttribute, ...], ...]
    subject_der: bytes
    spki: bytes
    public_key: PublicKey
    signature_digest: Digest | None
    challenge_password: str | None
    subject_alternative_names: tuple[GeneralName, ...]
    key_usage: frozenset[str] | None
    extended_key_usage: tuple[str, ...] | None
    basic_constraints_ca: bool
    extensions: tuple[RequestedExtension, ...]
    attributes: tuple[str, ...]
    oddities: tuple[str, ...] = ()
