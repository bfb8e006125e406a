"""What alembic runs for every upgrade: the connection is given, and so is its transaction."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
