"""The tables, in types that SQLite and PostgreSQL share. Nothing here has behaviour but the types' own.

Digests are 32 raw bytes. A time is stored as microseconds since 1970, UTC: exact, sortable, and the same on a database
that knows no time zones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)

from ra.journal.states import State

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for INTEGER only
_STATE = Enum(State, native_enum=False, length=20, values_callable=lambda states: [each.value for each in states])


class Instant(TypeDecorator[datetime]):
    """An aware datetime, as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else _EPOCH + value * _MICROSECOND


class DerSequence(TypeDecorator[tuple[bytes, ...]]):
    """Certificates, DER, one after the other: each says its own length."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[bytes, ...] | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else b"".join(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> tuple[bytes, ...]:  # noqa: ARG002
        return split_der(value or b"")


def split_der(joined: bytes) -> tuple[bytes, ...]:
    """The DER values that were joined, each at least two bytes long (X.690 §8.1.3)."""
    values = []
    start = 0
    while start < len(joined):
        length = joined[start + 1]
        content = start + 2
        if length & 0x80:
            content += length & 0x7F
            length = int.from_bytes(joined[start + 2 : content])
        values.append(joined[start : content + length])
        start = content + length
    return tuple(values)


metadata = MetaData()

transactions = Table(
    "transactions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("state", _STATE, nullable=False),
    # NULL once the row no longer answers for its request. NULLs differ, so UNIQUE holds for live rows alone.
    Column("request_key", LargeBinary(32), unique=True),
    Column("profile", Text, nullable=False),
    Column("signer_key", LargeBinary(32), nullable=False),
    Column("transaction_id", LargeBinary(255), nullable=False),
    # True or NULL, never False: while it is True, its transactionID belongs to this row.
    Column("is_open", Boolean),
    Column("idempotency_key", Uuid, nullable=False),
    Column("connector", Text, nullable=False),
    Column("csr_key", LargeBinary(32), nullable=False),
    Column("names", LargeBinary(32), nullable=False),
    Column("csr_info", LargeBinary(32), nullable=False),
    Column("contents", LargeBinary(32), nullable=False),
    Column("renewal_signer", LargeBinary(32)),
    Column("subject", Text, nullable=False),
    Column("grant_method", Text, nullable=False),
    Column("grant_label", Text, nullable=False),
    Column("grant_attributes", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("lease_until", Instant),
    Column("reference", Text),
    Column("reason", Text),
    Column("detail", Text),
    Column("retry_at", Instant),
    Column("delivered_at", Instant),
    # NULL until there is a certificate.
    Column("certificate", LargeBinary),
    Column("chain", DerSequence),
    Column("serial", String(40)),  # lower-case hex: 160 bits fit no portable integer
    Column("not_after", Instant),
    UniqueConstraint("profile", "signer_key", "transaction_id", "is_open"),
)
_has_certificate = transactions.c.serial.is_not(None)
Index(
    "transactions_certificates",  # covers what is counted
    transactions.c.serial,
    transactions.c.renewal_signer,
    sqlite_where=_has_certificate,
    postgresql_where=_has_certificate,
)

aliases = Table(
    "aliases",
    metadata,
    Column("profile", Text, primary_key=True),
    Column("signer_key", LargeBinary(32), primary_key=True),
    Column("transaction_id", LargeBinary(255), primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), nullable=False, index=True),
)

spent_secrets = Table(
    "spent_secrets",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), nullable=False, index=True),
    Column("csr_key", LargeBinary(32), nullable=False),
    Column("expires_at", Instant, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("event", Text, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("profile", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("transaction_id", LargeBinary(255)),
    Column("signer_key", LargeBinary(32)),
)
