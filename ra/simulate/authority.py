"""The CA inside every simulated server: a root and an issuing CA below it, in memory. It signs what it is told to."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.certificates import load_csr, signed_part
from connectors.keyfiles import PrivateKey, make_key

Clock = Callable[[], datetime]
Extensions = Iterable[tuple[x509.ExtensionType, bool]]
"""Each with its criticality."""

_BACKDATED = timedelta(hours=1)
_LIFETIME = timedelta(days=3650)
_CRL_LIFETIME = timedelta(hours=72)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """When, and why where the product knows reasons."""

    at: datetime
    reason: x509.ReasonFlags | None = None


class SimulatedCa:
    """An issuing CA, below a root of its own.

    Attributes:
        issued: every certificate that was signed, by serial number.
        revoked: by serial number.
    """

    def __init__(self, name: str, now: Clock, key_spec: str = "ec:p256") -> None:
        self._now = now
        self._key = make_key(key_spec)
        root_key = make_key(key_spec)
        self.root = _ca_certificate(
            f"{name} root", root_key, issuer=f"{name} root", signer=root_key, now=now(), path_length=1
        )
        self.certificate = _ca_certificate(
            name, self._key, issuer=f"{name} root", signer=root_key, now=now(), path_length=0
        )
        self.issued: dict[int, x509.Certificate] = {}
        self.revoked: dict[int, Revocation] = {}
        self._crl_number = 0

    @property
    def chain(self) -> tuple[x509.Certificate, x509.Certificate]:
        """The issuing CA first."""
        return self.certificate, self.root

    def sign(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        extensions: Extensions,
        *,
        not_before: datetime,
        not_after: datetime,
    ) -> x509.Certificate:
        """A certificate with these extensions, and the two key identifiers."""
        builder = (
            x509.CertificateBuilder()
            .serial_number(x509.random_serial_number())
            .issuer_name(self.certificate.subject)
            .subject_name(subject)
            .public_key(key)
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifiers: Extensions = [
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), False),
        ]
        for extension, critical in (*extensions, *identifiers):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        self.issued[certificate.serial_number] = certificate
        return certificate

    def revoke(self, serial: int, reason: x509.ReasonFlags | None = None) -> Revocation:
        """Revokes; what is revoked stays as it is."""
        return self.revoked.setdefault(serial, Revocation(at=self._now().replace(microsecond=0), reason=reason))

    def crl(self) -> x509.CertificateRevocationList:
        """A new CRL, with the next number."""
        now = self._now().replace(microsecond=0)
        self._crl_number += 1
        entries = [_entry(serial, revocation) for serial, revocation in self.revoked.items()]
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateRevocationListBuilder(self.certificate.subject, now, now + _CRL_LIFETIME, [], entries)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
            .add_extension(x509.CRLNumber(self._crl_number), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def read_csr(der: bytes) -> tuple[x509.CertificateSigningRequest, bool]:
    """A PKCS #10 (DER), its attributes in any order as Go reads them, and whether its key has signed what was received.

    Raises:
        ValueError, UnsupportedAlgorithm: it cannot be read.
    """
    csr = load_csr(der)
    key, digest = csr.public_key(), csr.signature_hash_algorithm
    if not isinstance(key, rsa.RSAPublicKey) or digest is None:
        return csr, csr.is_signature_valid
    try:
        key.verify(csr.signature, signed_part(der), padding.PKCS1v15(), digest)
    except InvalidSignature:
        return csr, False
    return csr, True


def from_pem(text: str) -> bytes:
    """DER, out of PEM.

    Raises:
        ValueError: it is none.
    """
    return b64decode("".join(text.strip().splitlines()[1:-1]), validate=True)


def pem(value: x509.Certificate | x509.CertificateRevocationList) -> str:
    """PEM with the line end that OpenSSL writes."""
    return value.public_bytes(Encoding.PEM).decode("ascii")


def _ca_certificate(
    name: str, key: PrivateKey, *, issuer: str, signer: PrivateKey, now: datetime, path_length: int
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    issuer_id = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .issuer_name(_name(issuer))
        .subject_name(_name(name))
        .public_key(key.public_key())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _entry(serial: int, revocation: Revocation) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(serial, revocation.at)
    if revocation.reason is not None and revocation.reason is not x509.ReasonFlags.unspecified:
        builder = builder.add_extension(x509.CRLReason(revocation.reason), critical=False)
    return builder.build()
