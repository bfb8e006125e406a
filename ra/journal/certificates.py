"""What is kept of an issued certificate."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from cryptography import x509
from sqlalchemy import Connection, bindparam, select, update

from connectors.api import Issued
from ra.journal.records import NewCertificate, Transaction
from ra.journal.states import State
from ra.journal.tables import HAS_ENDED, transactions

_ELSEWHERE = select(transactions.c.id).where(
    transactions.c.serial == bindparam("serial"),
    transactions.c.connector == bindparam("connector"),
    transactions.c.id != bindparam("of"),
)
_HELD = select(
    transactions.c.profile,
    transactions.c.state,
    transactions.c.certificate,
    transactions.c.chain,
    transactions.c.not_after,
).where(transactions.c.serial == bindparam("serial"), transactions.c.connector == bindparam("connector"))
_OF_SERIAL = select(*(transactions.c[each.name] for each in fields(Transaction))).where(
    transactions.c.serial == bindparam("serial")
)
_OPEN_ORDER = select(transactions.c.id).where(
    transactions.c.profile == bindparam("profile"),
    transactions.c.signer_key == bindparam("signer_key"),
    transactions.c.csr_key == bindparam("csr_key"),
    transactions.c.connector == bindparam("connector"),
    transactions.c.state == State.EXPIRED,
    transactions.c.due_at.is_not(None),
    transactions.c.id != bindparam("of"),
)
_REVOKED_AT = (
    select(transactions.c.updated_at)
    .where(HAS_ENDED, transactions.c.state == State.REVOKED, transactions.c.connector == bindparam("connector"))
    .order_by(transactions.c.updated_at.desc())
    .limit(1)
)
_NOTE_ORPHAN = (
    update(transactions).where(transactions.c.id == bindparam("of")).values(orphans=transactions.c.orphans + 1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate that the journal keeps; DER, and the chain issuer first. Only RELEASED may be handed out."""

    profile: str
    state: State
    certificate: bytes
    chain: tuple[bytes, ...]
    not_after: datetime


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


def revoked_at(connection: Connection, connector: str) -> datetime | None:
    """When a CA last confirmed a revocation; None: never, as far as is kept. Reads only."""
    found: datetime | None = connection.execute(_REVOKED_AT, {"connector": connector}).scalar()
    return found


def holder_of(connection: Connection, certificate: bytes, serial: int) -> Transaction | None:
    """The transaction that certificate, DER, was issued for; None: the journal does not know it. Reads only.

    What counts is what the CA has signed: an ECDSA signature can be written in two ways by anybody.
    """
    rows = connection.execute(_OF_SERIAL, {"serial": f"{serial:x}"}).mappings()
    return next((Transaction(**row) for row in rows if _says_the_same(row["certificate"], certificate)), None)


def _says_the_same(kept: bytes, shown: bytes) -> bool:
    if kept == shown:
        return True
    try:
        tbs = [x509.load_der_x509_certificate(each).tbs_certificate_bytes for each in (kept, shown)]
    except (ValueError, x509.InvalidVersion):
        return False
    return tbs[0] == tbs[1]


def stands_elsewhere(connection: Connection, connector: str, serial: int, which: UUID) -> bool:
    """Whether another transaction of that connector has a certificate of this serial number. Reads only."""
    values = {"serial": f"{serial:x}", "connector": connector, "of": which}
    return connection.execute(_ELSEWHERE, values).first() is not None


def held(connection: Connection, connector: str, serial: int) -> tuple[Held, ...]:
    """The certificates of that serial number which a connector has issued: one, unless its CA has changed. Reads only."""
    rows = connection.execute(_HELD, {"serial": f"{serial:x}", "connector": connector}).mappings()
    return tuple(Held(**dict(row)) for row in rows)


def has_an_order_before(connection: Connection, transaction: Transaction) -> bool:
    """Whether the CA may still fill an order of the same device that has expired. Reads only."""
    names = ("profile", "signer_key", "csr_key", "connector")
    values = {name: getattr(transaction, name) for name in names} | {"of": transaction.id}
    return connection.execute(_OPEN_ORDER, values).first() is not None


def note_orphan(connection: Connection, which: UUID) -> None:
    """Counts a certificate that came for a transaction and that nobody will get."""
    connection.execute(_NOTE_ORPHAN, {"of": which})
