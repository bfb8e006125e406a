"""What has to be looked at is due at a time; requests are kept sealed; the audit is a hash chain; outbox, leases, facts."""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from uuid import UUID

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    column,
    select,
    table,
    text,
)

from ra import __version__

revision = "0002"
down_revision = "0001"

_WEEK = 7 * 24 * 3600 * 1_000_000
_PAGE = 1000
_LISTED = ["created_at", "id", "state", "profile", "connector", "searched", "transaction_id", "not_after"]

metadata = MetaData()

transactions = Table("transactions", metadata, Column("id", Uuid, primary_key=True))
Table(
    "one_time_secrets",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("method", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("profile", Text),
    Column("names", JSON),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("revoked_at", BigInteger),
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("transaction", ForeignKey(transactions.c.id), index=True),
    Column("validator", Text, nullable=False),
    Column("is_strict", Boolean, nullable=False),
    Column("notice", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, index=True),
    Column("attempts", Integer, nullable=False),
    Column("detail", Text),
)
Index("outbox_validators", outbox.c.validator, outbox.c.due_at)
Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Uuid, nullable=False),
    Column("until", BigInteger, nullable=False),
)
audit_events = Table(
    "audit_events",
    metadata,
    Column("chain", Uuid, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("event", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)
Table(
    "audit_checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("statement", Text, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)
Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

_audit = table("audit", column("seq"), column("at"), column("event"))


def upgrade() -> None:
    connection = op.get_bind()
    new = [each for each in metadata.sorted_tables if each is not transactions]
    metadata.create_all(connection, new, checkfirst=False)
    _upgrade_transactions()
    with op.batch_alter_table(
        "spent_secrets", naming_convention={"fk": "%(table_name)s_%(column_0_name)s_fkey"}
    ) as batch:
        # That a secret was spent outlives the transaction that spent it.
        batch.drop_constraint("spent_secrets_transaction_fkey", type_="foreignkey")
        batch.create_index("ix_spent_secrets_expires_at", ["expires_at"])
    _chain_the_audit(connection)
    op.drop_table("audit")


def _upgrade_transactions() -> None:
    op.drop_index("transactions_certificates", "transactions")
    for each in (
        Column("due_at", BigInteger),
        Column("attempts", Integer),
        Column("expires_at", BigInteger),
        Column("request", LargeBinary),
        Column("notify", JSON),
        Column("orphans", Integer),
        Column("revocation", Text),
        Column("searched", Text),
    ):
        op.add_column("transactions", each)
    # What is open was stored without its request: where the device does not come again, it expires.
    op.execute(
        "UPDATE transactions SET attempts = 0, orphans = 0, notify = '[]', searched = LOWER(SUBSTR(subject, 1, 400)), "  # noqa: S608 - a number of ours
        f"expires_at = created_at + {_WEEK}, "
        "due_at = CASE state WHEN 'submitting' THEN COALESCE(lease_until, updated_at) WHEN 'unknown' THEN updated_at "
        f"WHEN 'pending' THEN COALESCE(retry_at, updated_at) WHEN 'authorised' THEN created_at + {_WEEK} END"
    )
    with op.batch_alter_table("transactions") as batch:
        for name, kind in (
            ("attempts", Integer),
            ("expires_at", BigInteger),
            ("notify", JSON),
            ("orphans", Integer),
            ("searched", Text),
        ):
            batch.alter_column(name, existing_type=kind(), nullable=False)
        batch.drop_column("lease_until")
        batch.drop_column("retry_at")
    for name, columns, where in (
        ("transactions_due", ["due_at", "connector", "state", "expires_at"], "due_at IS NOT NULL"),
        (
            "transactions_ended",
            ["state", "updated_at"],
            "is_open IS NULL AND (serial IS NULL OR revocation IS NOT NULL)",
        ),
        ("transactions_not_after", ["not_after"], "not_after IS NOT NULL"),
        ("transactions_certificates", ["serial", "renewal_signer"], "serial IS NOT NULL"),
        ("transactions_orphans", ["created_at", "id"], "orphans > 0"),
    ):
        op.create_index(name, "transactions", columns, sqlite_where=text(where), postgresql_where=text(where))
    op.create_index("transactions_listed", "transactions", _LISTED)


def _chain_the_audit(connection: Connection) -> None:
    """Makes one closed chain of the events there are, as a process would have made it."""
    page = select(_audit).order_by(_audit.c.seq).limit(_PAGE)
    rows = connection.execute(page).all()
    if not rows:
        return
    chain, digest = UUID(bytes=os.urandom(16), version=4), bytes(32)
    at, number = rows[0].at, 1
    texts = [(at, f'{{"event":"opened","version":"{__version__}"}}')]
    while rows:
        texts += [(row.at, row.event) for row in rows]
        digest, number = _append(connection, chain, digest, number, texts)
        at, texts = rows[-1].at, []
        rows = connection.execute(page.where(_audit.c.seq > rows[-1].seq)).all()
    _append(connection, chain, digest, number, [(at, '{"event":"closed"}')])


def _append(
    connection: Connection, chain: UUID, digest: bytes, number: int, texts: list[tuple[int, str]]
) -> tuple[bytes, int]:
    """Writes events that follow `digest`, from `number` on; returns what follows them."""
    events = []
    for at, event in texts:
        digest = sha256(struct.pack(">32s16sQq", digest, chain.bytes, number, at) + event.encode()).digest()
        events.append({"chain": chain, "number": number, "at": at, "event": event, "digest": digest})
        number += 1
    connection.execute(audit_events.insert(), events)
    return digest, number
