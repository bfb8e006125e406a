"""A renewal knows the transaction whose certificate it follows."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Uuid

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("transactions", Column("renews", Uuid))
