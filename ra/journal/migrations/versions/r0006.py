"""What was refused says which names it had asked for."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("refusals", Column("asked_for", Text))
