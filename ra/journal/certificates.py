"""Issued certificates: what is kept of them, and how they are found again."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from cryptography import x509
from sqlalchemy import Connection, bindparam, insert, select, update

from connectors.api import Issued
from ra.journal.records import Certificate, NewCertificate, Transaction
from ra.journal.tables import certificates

_INSERT = insert(certificates)
_FIND = select(*(certificates.c[each.name] for each in fields(Certificate))).where(
    certificates.c.serial == bindparam("of_serial"), certificates.c.issuer == bindparam("of_issuer")
)
_REVOKE = update(certificates).where(certificates.c.transaction == bindparam("of"))


def describe(issued: Issued) -> NewCertificate:
    """What is kept of a certificate that has been verified.

    Raises:
        ValueError: it was not verified: it is no certificate.
    """
    certificate = x509.load_der_x509_certificate(issued.certificate)
    return NewCertificate(
        certificate=issued.certificate,
        chain=issued.chain,
        issuer=certificate.issuer.public_bytes(),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        reference=issued.reference,
    )


def insert_certificate(connection: Connection, transaction: Transaction, new: NewCertificate) -> None:
    """Keeps the certificate that `transaction` obtained."""
    connection.execute(
        _INSERT,
        {
            "transaction": transaction.id,
            "profile": transaction.profile,
            "serial": f"{new.serial:x}",
            "issuer": new.issuer,
            "names": transaction.names,
            "is_renewal": transaction.is_renewal,
            "not_before": new.not_before,
            "not_after": new.not_after,
            "certificate": new.certificate,
            "chain": new.chain,
        },
    )


def find_certificate(connection: Connection, issuer: bytes, serial: int) -> Certificate | None:
    """The certificate of that issuer (Name, DER) and serial number, if it was issued here. Reads only."""
    row = connection.execute(_FIND, {"of_issuer": issuer, "of_serial": f"{serial:x}"}).mappings().first()
    return None if row is None else Certificate(**row)


def mark_revoked(connection: Connection, transaction: Transaction, now: datetime) -> None:
    """Notes that the CA has revoked what `transaction` obtained."""
    connection.execute(_REVOKE, {"of": transaction.id, "revoked_at": now})
