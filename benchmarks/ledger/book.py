"""The ledger: one append-only SQLite file. What is written stays; a revocation is a line of its own."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SCHEMA = """
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, reference TEXT NOT NULL, key TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS issued (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, reference TEXT NOT NULL, key TEXT NOT NULL, serial TEXT NOT NULL,
    subject TEXT NOT NULL, certificate BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked (number INTEGER PRIMARY KEY, at REAL NOT NULL, serial TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accepted (number INTEGER PRIMARY KEY, at REAL NOT NULL, notice TEXT NOT NULL, key TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS issued_reference ON issued (reference);
CREATE INDEX IF NOT EXISTS issued_key ON issued (key);
"""
_WAIT_SECONDS = 30.0
_ISSUE = "INSERT INTO issued (at, reference, key, serial, subject, certificate) VALUES (?, ?, ?, ?, ?, ?)"
_ENTRIES = """
SELECT reference, key, serial, subject, certificate, EXISTS (SELECT 1 FROM revoked WHERE revoked.serial = issued.serial)
FROM issued
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One certificate, DER. `key` is the digest of its SubjectPublicKeyInfo in hex, `serial` lower-case hex."""

    reference: str
    key: str
    serial: str
    subject: str
    certificate: bytes
    is_revoked: bool = False


class Book:
    """The file, opened. Every line is committed on its own, and outlives the process that wrote it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")  # processes are killed here, machines are not
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)

    def receive(self, at: float, reference: str, key: str) -> None:
        """A request that has come in."""
        self._db.execute("INSERT INTO received (at, reference, key) VALUES (?, ?, ?)", (at, reference, key))

    def issue(self, at: float, reference: str, certificate: bytes) -> Entry:
        """A certificate, DER, that is about to be handed out."""
        leaf = x509.load_der_x509_certificate(certificate)
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        entry = Entry(
            reference=reference,
            key=key_digest(spki),
            serial=f"{leaf.serial_number:x}",
            subject=leaf.subject.rfc4514_string(),
            certificate=certificate,
        )
        line = (at, entry.reference, entry.key, entry.serial, entry.subject, entry.certificate)
        self._db.execute(_ISSUE, line)
        return entry

    def revoke(self, at: float, serial: str) -> None:
        """A revocation, by serial number."""
        self._db.execute("INSERT INTO revoked (at, serial) VALUES (?, ?)", (at, serial))

    def find(self, reference: str, key: str, since: float) -> Entry | None:
        """The first certificate that was issued for a reference, or else for a key, since then."""
        where = "WHERE at >= ? AND (reference = ? OR key = ?) ORDER BY reference = ? DESC, number LIMIT 1"
        return next(self._entries(where, since, reference, key, reference), None)

    def entries(self) -> list[Entry]:
        """Every certificate, in the order of their issue."""
        return list(self._entries("ORDER BY number"))

    def accept(self, at: float, notice: str, key: str) -> None:
        """A notice that a certificate was issued, which somebody has understood."""
        self._db.execute("INSERT INTO accepted (at, notice, key) VALUES (?, ?, ?)", (at, notice, key))

    def accepted(self) -> frozenset[str]:
        """The keys of whose certificates somebody was told."""
        return frozenset(key for (key,) in self._db.execute("SELECT DISTINCT key FROM accepted"))

    def requests(self) -> int:
        """How many have come in."""
        return int(self._db.execute("SELECT count(*) FROM received").fetchone()[0])

    def close(self) -> None:
        self._db.close()

    def _entries(self, where: str, *values: Any) -> Iterator[Entry]:
        for reference, key, serial, subject, certificate, is_revoked in self._db.execute(_ENTRIES + where, values):
            yield Entry(
                reference=reference,
                key=key,
                serial=serial,
                subject=subject,
                certificate=certificate,
                is_revoked=bool(is_revoked),
            )


def key_digest(spki: bytes) -> str:
    """By which the ledger and its judge know a key: SHA-256 of the SubjectPublicKeyInfo, DER, in hex."""
    return hashlib.sha256(spki).hexdigest()
