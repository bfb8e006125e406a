"""Keys that the RA makes for itself, sealed, and the certificates that it obtains for them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Text, UniqueConstraint, Uuid

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "ra_keys",
        Column("id", Uuid, primary_key=True),
        Column("identity", Text, nullable=False),
        Column("is_open", Boolean),
        Column("key", LargeBinary, nullable=False),
        Column("idempotency_key", Uuid, nullable=False),
        Column("requested_at", BigInteger, nullable=False),
        Column("due_at", BigInteger),
        Column("attempts", Integer, nullable=False),
        Column("reference", Text),
        Column("detail", Text),
        Column("certificate", LargeBinary),
        Column("shown_at", BigInteger),
        Column("forget_at", BigInteger),
        UniqueConstraint("identity", "is_open"),
    )
