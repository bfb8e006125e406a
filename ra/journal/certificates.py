"""What is kept of an issued certificate."""

from __future__ import annotations

from cryptography import x509

from connectors.api import Issued
from ra.journal.records import NewCertificate


def describe(issued: Issued) -> NewCertificate:
    """What is kept of a certificate that has been verified.

    Raises:
        ValueError: it was not verified: it is no certificate.
    """
    certificate = x509.load_der_x509_certificate(issued.certificate)
    return NewCertificate(
        certificate=issued.certificate,
        chain=issued.chain,
        serial=certificate.serial_number,
        not_after=certificate.not_valid_after_utc,
        reference=issued.reference,
    )
