"""The tables, in types that SQLite and PostgreSQL share. Nothing here has behaviour but the types' own.

Digests are 32 raw bytes. A time is stored as microseconds since 1970, UTC: exact, sortable, and the same on a database
that knows no time zones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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
    and_,
    or_,
)

from ra.journal.states import State
from ra.policy.grant import Notify

MAX_SEARCHED = 400
"""Characters of a subject that are searched. An entry of an index is at most 2,704 bytes long on PostgreSQL."""

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


class NotifyList(TypeDecorator[tuple[Notify, ...]]):
    """Whom to tell of an outcome, as JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Notify, ...] | None, dialect: Dialect) -> list[list[Any]]:  # noqa: ARG002
        return [[each.validator, each.is_strict, each.patience.total_seconds()] for each in value or ()]

    def process_result_value(self, value: list[list[Any]] | None, dialect: Dialect) -> tuple[Notify, ...]:  # noqa: ARG002
        return tuple(
            Notify(validator=validator, is_strict=is_strict, patience=timedelta(seconds=seconds))
            for validator, is_strict, seconds in value or ()
        )


class Searched(TypeDecorator[str]):
    """A text that is looked for whatever its case: folded, and cut to what fits into an index of every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.casefold()[:MAX_SEARCHED]


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
    # The transaction of the certificate that signed the request. No foreign key: that one may be forgotten before.
    Column("renews", Uuid),
    Column("subject", Text, nullable=False),
    Column("searched", Searched, nullable=False),
    Column("grant_method", Text, nullable=False),
    Column("grant_label", Text, nullable=False),
    Column("grant_attributes", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # When somebody has to look at it again, and until when nobody else does; NULL: never.
    Column("due_at", Instant),
    Column("attempts", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),
    # The decision, sealed; NULL once nobody needs it any more.
    Column("request", LargeBinary),
    Column("notify", NotifyList, nullable=False),
    Column("reference", Text),
    Column("reason", Text),
    Column("detail", Text),
    # How often it was sent again without knowing what became of the time before.
    Column("orphans", Integer, nullable=False),
    Column("revocation", Text),
    Column("delivered_at", Instant),
    # NULL until there is a certificate.
    Column("certificate", LargeBinary),
    Column("chain", DerSequence),
    Column("serial", String(40)),  # lower-case hex: 160 bits fit no portable integer
    Column("not_after", Instant),
    UniqueConstraint("profile", "signer_key", "transaction_id", "is_open"),
)
Index(
    "transactions_due",  # covers what is claimed, so that a long queue is not read to find out whose turn it is
    transactions.c.due_at,
    transactions.c.connector,
    transactions.c.state,
    transactions.c.expires_at,
    sqlite_where=transactions.c.due_at.is_not(None),
    postgresql_where=transactions.c.due_at.is_not(None),
)
# Rejected, expired, revoked: the enrolment path never touches their index. SQLite needs these very words in a query.
HAS_ENDED = and_(
    transactions.c.is_open.is_(None), or_(transactions.c.serial.is_(None), transactions.c.revocation.is_not(None))
)
Index(
    "transactions_ended",
    transactions.c.state,
    transactions.c.updated_at,
    sqlite_where=HAS_ENDED,
    postgresql_where=HAS_ENDED,
)
Index(
    "transactions_not_after",
    transactions.c.not_after,
    sqlite_where=transactions.c.not_after.is_not(None),
    postgresql_where=transactions.c.not_after.is_not(None),
)
_has_certificate = transactions.c.serial.is_not(None)
Index(
    "transactions_certificates",  # covers what is counted
    transactions.c.serial,
    transactions.c.renewal_signer,
    sqlite_where=_has_certificate,
    postgresql_where=_has_certificate,
)
Index(
    "transactions_listed",  # covers what is looked for: the rows themselves hold certificates, and are long
    transactions.c.created_at,
    transactions.c.id,
    transactions.c.state,
    transactions.c.profile,
    transactions.c.connector,
    transactions.c.searched,
    transactions.c.transaction_id,
    transactions.c.not_after,
)
_may_be_orphan = transactions.c.orphans > 0
Index(
    "transactions_orphans",
    transactions.c.created_at,
    transactions.c.id,
    sqlite_where=_may_be_orphan,
    postgresql_where=_may_be_orphan,
)

aliases = Table(
    "aliases",
    metadata,
    Column("profile", Text, primary_key=True),
    Column("signer_key", LargeBinary(32), primary_key=True),
    Column("transaction_id", LargeBinary(255), primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), nullable=False, index=True),
)

one_time_secrets = Table(
    "one_time_secrets",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("method", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("profile", Text),
    Column("names", JSON),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("revoked_at", Instant),
)

# No foreign key: that a secret was spent outlives the row that spent it.
spent_secrets = Table(
    "spent_secrets",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("transaction", Uuid, nullable=False, index=True),
    Column("csr_key", LargeBinary(32), nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), index=True),
    Column("validator", Text, nullable=False),
    Column("is_strict", Boolean, nullable=False),
    # Sealed: the notice, which names the device and may hold its CSR.
    Column("notice", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("deadline_at", Instant, nullable=False),
    # NULL: a dead letter, until somebody has it tried again.
    Column("due_at", Instant, index=True),
    Column("attempts", Integer, nullable=False),
    Column("detail", Text),
)
Index("outbox_validators", outbox.c.validator, outbox.c.due_at)  # one that is away must not hold up the others

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Uuid, nullable=False),
    Column("until", Instant, nullable=False),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("chain", Uuid, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False, index=True),
    Column("event", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("statement", Text, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)

# One row a name: what holds for the journal as a whole, such as which key it was made with.
facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# The RA's own keys, of identities that are managed: one row for each key that was made and is not forgotten.
ra_keys = Table(
    "ra_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("identity", Text, nullable=False),
    # True or NULL, never False: while it is True, its certificate is still to be obtained.
    Column("is_open", Boolean),
    # Sealed: PKCS #8, DER.
    Column("key", LargeBinary, nullable=False),
    Column("idempotency_key", Uuid, nullable=False),
    Column("requested_at", Instant, nullable=False),
    # When the CA is to be asked (again); NULL once there is a certificate.
    Column("due_at", Instant),
    Column("attempts", Integer, nullable=False),
    # What the CA called the request, where it has to be asked again.
    Column("reference", Text),
    Column("detail", Text),
    # NULL until there is a certificate.
    Column("certificate", LargeBinary),
    Column("shown_at", Instant),
    Column("forget_at", Instant),
    UniqueConstraint("identity", "is_open"),
)

# Certificates that a CA has issued and that nobody may have. No foreign key: they outlive what they came for.
strays = Table(
    "strays",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("transaction", Uuid, nullable=False, index=True),
    Column("profile", Text, nullable=False),
    Column("connector", Text, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("serial", Text),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    # NULL: the CA is not asked to revoke it, or not any more.
    Column("due_at", Instant, index=True),
    Column("attempts", Integer, nullable=False),
    Column("revoked_at", Instant),
    Column("detail", Text),
)

# Connectors that are asked for nothing new.
stops = Table(
    "stops",
    metadata,
    Column("connector", Text, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("transaction", Uuid, nullable=False),
    Column("detail", Text, nullable=False),
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
    Column("asked_for", Text),
)
