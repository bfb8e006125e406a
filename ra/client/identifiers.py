"""How messages name a certificate: by issuer and serial number, or by subject key identifier (RFC 5652 §6.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateId:
    """Either `issuer` (Name, DER) and `serial`, or `key_id`."""

    issuer: bytes = b""
    serial: int = 0
    key_id: bytes | None = None

    def names(self, certificate: x509.Certificate) -> bool:
        """Whether it is this certificate that is meant."""
        parsed = to_asn1(certificate)
        if self.key_id is not None:
            return bool(parsed.key_identifier == self.key_id)
        return bool(self.serial == parsed.serial_number and self.issuer == parsed.issuer.dump())


def read_identifier(identifier: Any) -> CertificateId:
    """The meaning of a SignerIdentifier or RecipientIdentifier of asn1crypto."""
    if identifier.name == "subject_key_identifier":
        return CertificateId(key_id=identifier.chosen.native)
    return CertificateId(issuer=identifier.chosen["issuer"].dump(), serial=identifier.chosen["serial_number"].native)


def write_identifier(certificate: x509.Certificate) -> dict[str, Any]:
    """The fields of an IssuerAndSerialNumber, for asn1crypto."""
    parsed = to_asn1(certificate)
    return {"issuer": parsed.issuer, "serial_number": parsed.serial_number}


def issuer_and_serial(issuer: x509.Certificate, serial: int) -> bytes:
    """IssuerAndSerialNumber, DER: what GetCert and GetCRL ask with (RFC 8894 §3.3.4, §3.3.5)."""
    fields = {"issuer": to_asn1(issuer).subject, "serial_number": serial}
    return bytes(cms.IssuerAndSerialNumber(fields).dump())


def issuer_and_subject(issuer: x509.Certificate, subject: x509.Name) -> bytes:
    """IssuerAndSubject, DER: what CertPoll asks with (RFC 8894 §3.3.3)."""
    names = [to_asn1(issuer).subject, asn1_x509.Name.load(subject.public_bytes())]
    return bytes(_Names(names).dump())


def to_asn1(certificate: x509.Certificate) -> Any:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


class _Names(asn1_x509.SequenceOf):  # type: ignore[misc]  # asn1crypto is untyped
    _child_spec: ClassVar[Any] = asn1_x509.Name
