"""The real CFSSL of Debian, with a database, in a directory of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ra.simulate.authority import SimulatedCa, pem
from tests import peers
from tests.fakes.processes import free_port, running
from tests.fakes.simulated import now

AUTH_KEY = "00112233445566778899aabbccddeeff"

_PROFILES = {
    "scep-devices": {"usages": ["digital signature", "key encipherment", "client auth"], "expiry": "720h"},
    "scep-signing": {"usages": ["digital signature", "client auth"], "expiry": "720h"},
    "scep-ra": {"usages": ["digital signature", "key encipherment", "server auth"], "expiry": "8760h"},
    "long": {"usages": ["digital signature", "key encipherment", "client auth"], "expiry": "8760h"},
    "fenced": {"usages": ["client auth"], "expiry": "720h", "name_whitelist": r"\.example\.com$"},
}

# As the first migration of CFSSL's own (certdb/sqlite/migrations) makes them.
_TABLES = """
CREATE TABLE certificates (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob,
  status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp, pem blob NOT NULL,
  PRIMARY KEY(serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL,
  expiry timestamp, PRIMARY KEY(serial_number, authority_key_identifier));
"""


@dataclass(frozen=True, kw_only=True)
class CfsslServer:
    """Where it is; its key is AUTH_KEY, but for the profile `open`, which needs none."""

    url: str
    root: Path
    database: Path
    ca: SimulatedCa

    def options(self, **more: Any) -> dict[str, Any]:
        """The connector's block; the key is in `file:auth.key`."""
        block = {"url": self.url, "ca_chain": self.root, "auth_key": "file:auth.key"}
        return {**block, "profile": "scep-devices", "has_database": True, **more}

    def status_of(self, serial: int) -> tuple[str, int]:
        """Status and reason, as the database has them."""
        with closing(sqlite3.connect(self.database)) as connection:
            query = "SELECT status, reason FROM certificates WHERE serial_number = ?"
            status, reason = connection.execute(query, [str(serial)]).fetchone()
            return status, reason


@contextmanager
def cfssl_server(directory: Path, key_spec: str = "ec:p256") -> Iterator[CfsslServer]:
    """Starts it; skips the test where it is not installed."""
    program = peers.require("cfssl")
    port, ca = free_port(), SimulatedCa("Test CFSSL", now, key_spec)
    url = f"http://127.0.0.1:{port}"
    server = CfsslServer(url=url, root=directory / "root.pem", database=directory / "certificates.db", ca=ca)
    server.root.write_text(pem(ca.root))
    (directory / "ca.pem").write_text(pem(ca.certificate))
    key = ca._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (directory / "ca.key").write_bytes(key)
    (directory / "config.json").write_text(json.dumps(_settings()))
    (directory / "database.json").write_text(json.dumps({"driver": "sqlite3", "data_source": str(server.database)}))
    with closing(sqlite3.connect(server.database)) as connection:
        connection.executescript(_TABLES)
    files = ["-ca", "ca.pem", "-ca-key", "ca.key", "-config", "config.json", "-db-config", "database.json"]
    command = [program, "serve", "-address", "127.0.0.1", "-port", str(port), *files]
    with running(command, directory, lambda: httpx.post(f"{url}/api/v1/cfssl/info", json={"label": ""})):
        yield server


def _settings() -> dict[str, Any]:
    authenticated = {name: {**profile, "auth_key": "ra"} for name, profile in _PROFILES.items()}
    unauthenticated = {"open": {"usages": ["digital signature", "key encipherment", "client auth"], "expiry": "700h"}}
    default = {"usages": ["server auth"], "expiry": "24h", "auth_key": "ra"}
    return {
        "signing": {"default": default, "profiles": authenticated | unauthenticated},
        "auth_keys": {"ra": {"type": "standard", "key": AUTH_KEY}},
    }
