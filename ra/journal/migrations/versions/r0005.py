"""Certificates that nobody may have are kept until they are revoked; connectors are stopped."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text, Uuid

revision = "0005"
down_revision = "0004"

metadata = MetaData()

Table(
    "strays",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("transaction", Uuid, nullable=False, index=True),
    Column("profile", Text, nullable=False),
    Column("connector", Text, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("serial", Text),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, index=True),
    Column("attempts", Integer, nullable=False),
    Column("revoked_at", BigInteger),
    Column("detail", Text),
)
Table(
    "stops",
    metadata,
    Column("connector", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("transaction", Uuid, nullable=False),
    Column("detail", Text, nullable=False),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
