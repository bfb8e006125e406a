"""Transactions, their transactionIDs, spent secrets, the audit and refusals."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

revision = "0001"
down_revision = None

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

transactions = Table(
    "transactions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("request_key", LargeBinary(32), unique=True),
    Column("profile", Text, nullable=False),
    Column("signer_key", LargeBinary(32), nullable=False),
    Column("transaction_id", LargeBinary(255), nullable=False),
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
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger),
    Column("reference", Text),
    Column("reason", Text),
    Column("detail", Text),
    Column("retry_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("certificate", LargeBinary),
    Column("chain", LargeBinary),
    Column("serial", String(40)),
    Column("not_after", BigInteger),
    UniqueConstraint("profile", "signer_key", "transaction_id", "is_open"),
)
_has_certificate = transactions.c.serial.is_not(None)
Index(
    "transactions_certificates",
    transactions.c.serial,
    transactions.c.renewal_signer,
    sqlite_where=_has_certificate,
    postgresql_where=_has_certificate,
)
Table(
    "aliases",
    metadata,
    Column("profile", Text, primary_key=True),
    Column("signer_key", LargeBinary(32), primary_key=True),
    Column("transaction_id", LargeBinary(255), primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), nullable=False, index=True),
)
Table(
    "spent_secrets",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), nullable=False, index=True),
    Column("csr_key", LargeBinary(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Table(
    "audit",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
)
Table(
    "refusals",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("profile", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("transaction_id", LargeBinary(255)),
    Column("signer_key", LargeBinary(32)),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
