"""The values that pass between the codec and the rest: what a request says, and what a reply will say.

Frozen, legal once they exist, and free of behaviour. A Header is all that is needed to refuse or to defer; only an
Issuance needs the signer's certificate (RFC 8894 §3.3.2.2, §3.3.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep.ciphers import PublicKey
from ra.scep.csr import Csr
from ra.scep.enveloped import Envelope
from ra.scep.header import CertificateId, Header
from ra.scep.names import Cipher, FailInfo, KeyTransport, Legacy


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerCertificate:
    """The certificate that signed the request: self-signed, or one of ours (renewal).

    Attributes:
        der: DER, as received.
        certificate_id: issuer (Name, DER), serial number and subject key identifier.
        subject: Name, DER.
        spki: SubjectPublicKeyInfo, DER.
    """

    der: bytes
    certificate_id: CertificateId
    subject: bytes
    spki: bytes
    public_key: PublicKey

    @property
    def is_sealed_to(self) -> bool:
        """Whether its key is of the kind that can be encrypted to (RFC 8894 §3.1)."""
        return isinstance(self.public_key, RSAPublicKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """A request whose signature verified: everything outside the envelope.

    Attributes:
        envelope: None when the client sent none, or one that does not parse.
        legacy: legacy algorithms the signature made use of.
        oddities: what is unusual about the message, in words, for logs and `explain`.
    """

    header: Header
    signer: SignerCertificate
    envelope: Envelope | None
    legacy: frozenset[Legacy] = frozenset()
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """How the request was sealed; the reply mirrors it where the floor allows (Q8, Q9)."""

    cipher: Cipher
    key_transport: KeyTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """PKCSReq or RenewalReq, opened (RFC 8894 §3.3.1). Which of the two it is, is decided by who signed it.

    Attributes:
        legacy: legacy algorithms that the envelope, and the CSR's own signature, made use of.
    """

    outer: Outer
    sealing: Sealing
    csr: Csr
    legacy: frozenset[Legacy] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertPoll:
    """CertPoll (RFC 8894 §3.3.3): answered from the outer message; its content is not decrypted.

    Attributes:
        sealing: None where there is no envelope, or one that the profile does not let in.
    """

    outer: Outer
    sealing: Sealing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertQuery:
    """GetCert or GetCRL (RFC 8894 §3.3.4): an IssuerAndSerialNumber.

    Attributes:
        issuer: Name, DER.
        legacy: legacy algorithms that the envelope made use of.
    """

    outer: Outer
    sealing: Sealing
    issuer: bytes
    serial: int
    legacy: frozenset[Legacy] = frozenset()


Request = Enrolment | CertPoll | CertQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """SUCCESS with certificates, leaf first (RFC 8894 §3.3.2.1)."""

    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlDelivery:
    """SUCCESS with the most recent CRL and nothing else, DER (RFC 8894 §4.6.1)."""

    crl: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """PENDING (RFC 8894 §3.3.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """FAILURE (RFC 8894 §3.3.2.2)."""

    fail_info: FailInfo
    text: str | None = None
    """failInfoText, for humans."""


Reply = Issuance | CrlDelivery | Deferral | Refusal
