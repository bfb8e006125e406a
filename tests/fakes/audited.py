"""An audit in memory, written by processes that come and go, and sealed as the service seals it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, create_engine

from ra.journal import audit
from ra.journal.chain import Chain
from ra.journal.checkpoints import Checkpoint, Known, Stored, learn, newest, seal
from ra.journal.tables import metadata
from ra.journal.verify import Report, verify
from tests.fakes.enrolments import NOW

SIGNER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


class AuditedJournal:
    """One connection, and what stands for any number of processes that write through it; `now` is moved by hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now: datetime = NOW
        self._names = itertools.count(1)

    def process(self) -> Chain:
        """Another process: chains of its own, with names that are the same in every run."""
        return Chain(lambda length: next(self._names).to_bytes(length), "1.2.3")

    def commit(self, chain: Chain, *events: str) -> None:
        """One commit of that process, with an event of each of these kinds."""
        self.connection.info["companion"] = chain
        for each in events:
            audit.record(self.connection, self.now, {"event": each, "detail": f"number {self.now}"})
        chain.before_commit(self.connection)
        chain.committed()
        self.now += timedelta(seconds=1)

    def end(self, chain: Chain) -> None:
        """An orderly end of that process."""
        chain.close(self.now)
        self.commit(chain)

    def seal(self, *, before: datetime | None = None) -> Checkpoint | None:
        known = Known()
        while learn(self.connection, known):
            pass
        sealed = seal(self.connection, SIGNER, known, self.now, before=before)
        self.now += timedelta(seconds=1)
        return sealed

    def newest(self) -> Stored:
        found = newest(self.connection)
        assert found is not None
        return found

    def verify(self, exported: Stored | None = None) -> Report:
        return verify(self.connection, SIGNER.public_key(), exported)


@contextmanager
def audited() -> Iterator[AuditedJournal]:
    engine = create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield AuditedJournal(connection)
    engine.dispose()
