"""Where a trial keeps its journal: a file of SQLite, or a database of a PostgreSQL that the run starts for itself."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.fakes.postgres import Cluster, installed, running_postgres

SQLITE, POSTGRESQL = DATABASES = ("sqlite", "postgresql")


class Databases:
    """Fresh databases; the server runs from when one of its own is asked for until this is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fresh(self, kind: str) -> str:
        """The URL of an empty database; that of SQLite lies beside the configuration.

        Raises:
            FileNotFoundError: PostgreSQL is not installed.
        """
        if kind == SQLITE:
            return "sqlite:///ra.db"
        if self._cluster is None:
            programs = installed()
            if programs is None:
                raise FileNotFoundError("PostgreSQL is not installed; --database sqlite does without it")
            self._cluster = self._stack.enter_context(running_postgres(programs))
        return self._cluster.empty()
