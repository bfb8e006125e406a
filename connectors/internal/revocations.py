"""What the internal CA has revoked, and the last CRL it has signed: one SQLite file that several processes may share.

Every operation opens the file, holds one short transaction and closes it again, so that it may run in any thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from connectors.api import BackendUnavailable, RevocationReason
from connectors.internal.authority import EXPIRED_LISTED

_SCHEMA = """
CREATE TABLE IF NOT EXISTS revocations (
    position INTEGER PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,
    reason TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS last_crl (
    number INTEGER NOT NULL,
    up_to_position INTEGER NOT NULL,
    renew_at INTEGER NOT NULL,
    der BLOB NOT NULL
);
"""

_WAIT_SECONDS = 10

SignCrl = Callable[[int, list[x509.RevokedCertificate], datetime, datetime], bytes]
"""(number, revoked, thisUpdate, nextUpdate) -> CRL, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """The state of one CA.

    Attributes:
        lifetime: from a CRL's thisUpdate to its nextUpdate; when half of it has passed, the next one is made.
    """

    path: Path
    lifetime: timedelta

    def prepare(self) -> None:
        """Makes the file, for its owner alone, and the tables where they are missing."""
        try:
            self.path.touch(mode=0o600)
        except OSError as error:
            raise self._unusable(error) from error
        with self._transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    def add(self, certificate: x509.Certificate, reason: RevocationReason, now: datetime) -> None:
        """Revokes; what is revoked stays as it is."""
        row = (
            f"{certificate.serial_number:x}",
            reason.value,
            int(now.timestamp()),
            int(certificate.not_valid_after_utc.timestamp()),
        )
        insert = "INSERT INTO revocations (serial, reason, revoked_at, not_after) VALUES (?, ?, ?, ?)"
        with self._transaction() as db:
            db.execute(f"{insert} ON CONFLICT (serial) DO NOTHING", row)

    def crl(self, sign: SignCrl, now: datetime) -> bytes:
        """The last CRL while it is fresh and complete, else a new one with the next number."""
        with self._transaction() as db:
            (position,) = db.execute("SELECT coalesce(max(position), 0) FROM revocations").fetchone()
            last = db.execute("SELECT number, up_to_position, renew_at, der FROM last_crl").fetchone() or (0, 0, 0, b"")
            number, up_to_position, renew_at, der = last
            if up_to_position == position and now.timestamp() < renew_at:
                return bytes(der)
            return self._renew(db, sign, number + 1, position, now.replace(microsecond=0))

    def _renew(self, db: sqlite3.Connection, sign: SignCrl, number: int, position: int, now: datetime) -> bytes:
        der = sign(number, self._listed(db, now), now, now + self.lifetime)
        renew_at = int((now + self.lifetime / 2).timestamp())
        db.execute("DELETE FROM last_crl")
        db.execute("INSERT INTO last_crl VALUES (?, ?, ?, ?)", (number, position, renew_at, der))
        return der

    def _listed(self, db: sqlite3.Connection, now: datetime) -> list[x509.RevokedCertificate]:
        # RFC 5280 §3.3: "An entry MUST NOT be removed from the CRL until it appears on one regularly scheduled CRL
        # issued beyond the revoked certificate's validity period." The CRL says that it lists them longer.
        select = "SELECT serial, reason, revoked_at FROM revocations WHERE not_after > ? ORDER BY position"
        rows = db.execute(select, (int((now - EXPIRED_LISTED - self.lifetime).timestamp()),))
        return [_entry(*each) for each in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> BackendUnavailable:
        return BackendUnavailable(f"the CA's state {self.path}: {error}", maybe_issued=False)


def _entry(serial: str, reason: str, revoked_at: int) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(int(serial, 16), datetime.fromtimestamp(revoked_at, UTC))
    # RFC 5280 §5.3.1: "the reason code CRL entry extension SHOULD be absent instead of using the unspecified (0)"
    if reason != RevocationReason.UNSPECIFIED:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
    return builder.build()
