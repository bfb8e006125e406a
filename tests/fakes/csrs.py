"""CSRs and enrolments as values, without bytes: what a rule sees, and nothing that it does not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ra.scep.ciphers import PublicKey
from ra.scep.csr import Csr, GeneralName, GeneralNameKind, RequestedExtension, SubjectAttribute
from ra.scep.header import CertificateId, Header, TransactionId
from ra.scep.messages import Enrolment, Outer, Sealing, SignerCertificate
from ra.scep.names import Cipher, Digest, KeyTransport, MessageType

UTF8_STRING = 0x0C


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.generate_private_key(exponent, bits).public_key()


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(curve()).public_key()


@cache
def ed25519_key() -> ed25519.Ed25519PublicKey:
    return ed25519.Ed25519PrivateKey.generate().public_key()


@cache
def ed448_key() -> ed448.Ed448PublicKey:
    return ed448.Ed448PrivateKey.generate().public_key()


def key_name(value: object) -> str | None:
    """A key as a test's id says it; None for what is no key."""
    match value:
        case rsa.RSAPublicKey():
            return f"rsa-{value.key_size}-{value.public_numbers().e}"
        case ec.EllipticCurvePublicKey():
            return value.curve.name
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return type(value).__name__
        case _:
            return None


def spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def subject(*attributes: tuple[str, str]) -> tuple[tuple[SubjectAttribute, ...], ...]:
    """One attribute per RDN: type (dotted OID) and value."""
    return tuple((SubjectAttribute(oid, value, UTF8_STRING),) for oid, value in attributes)


def common_name(value: str) -> tuple[tuple[SubjectAttribute, ...], ...]:
    return subject(("2.5.4.3", value))


def san(kind: str, value: str) -> GeneralName:
    return GeneralName(GeneralNameKind(kind), value)


def extension(oid: str, value: bytes = b"\x05\x00") -> RequestedExtension:
    return RequestedExtension(oid, critical=False, value=value)


def csr(**changes: Any) -> Csr:
    """A CSR for an RSA-2048 key and CN=device that asks for no extension; `public_key` brings its SPKI along."""
    key = changes.setdefault("public_key", rsa_key())
    plain = Csr(
        der=b"der",
        info=b"info",
        subject=common_name("device"),
        subject_der=b"subject",
        spki=spki(key),
        public_key=key,
        signature_digest=Digest.SHA256,
        challenge_password="the challenge",
        subject_alternative_names=(),
        key_usage=None,
        extended_key_usage=None,
        basic_constraints_ca=False,
        extensions=(),
        attributes=(),
    )
    return replace(plain, **changes)


def signer(key: PublicKey) -> SignerCertificate:
    return SignerCertificate(
        der=b"certificate",
        certificate_id=CertificateId(issuer=b"issuer", serial=1, key_id=None),
        subject=b"subject",
        spki=spki(key),
        public_key=key,
    )


def enrolment(request: Csr | None = None, signer_key: PublicKey | None = None) -> Enrolment:
    """An opened PKCSReq, signed by the key to be certified unless another is given."""
    request = request or csr()
    header = Header(
        message_type=MessageType.PKCS_REQ,
        transaction_id=TransactionId(b"transaction"),
        sender_nonce=b"0123456789abcdef",
        digest=Digest.SHA256,
    )
    return Enrolment(
        outer=Outer(header=header, signer=signer(signer_key or request.public_key), envelope=None),
        sealing=Sealing(cipher=Cipher.AES256_CBC, key_transport=KeyTransport.PKCS1_V15),
        csr=request,
    )
