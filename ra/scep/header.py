"""What is read of a message before anything in it is believed: enough to answer it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from ra.scep.names import Digest, MessageType


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateId:
    """How CMS names a certificate: by issuer and serial number, or by subject key identifier (RFC 5652 §6.2.1).

    Of a recipient that is named by its key identifier, the issuer is empty and the serial number 0.
    """

    issuer: bytes
    """Name, DER."""
    serial: int
    key_id: bytes | None
    """Value of the subjectKeyIdentifier extension."""


@dataclass(frozen=True, slots=True)
class TransactionId:
    """A transactionID, opaque: at most 255 bytes, echoed byte for byte with the string tag it came in (Q12)."""

    value: bytes
    tag: int = 0x13
    """Universal tag; 0x13 is PrintableString."""

    def __str__(self) -> str:
        return self.value.decode("ascii", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is read of a request before anything is believed: enough to answer it.

    Attributes:
        message_type: as sent; None where RFC 8894 does not define it as a request.
        sender_nonce: 0 to 64 bytes (Q11).
        digest: of the request's signer, mirrored in the reply (Q9).
        recipients: whom the envelope addresses, so that the reply is signed by the identity addressed.
    """

    message_type: MessageType | None
    transaction_id: TransactionId
    sender_nonce: bytes
    digest: Digest
    recipients: tuple[CertificateId, ...] = ()
