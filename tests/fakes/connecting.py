"""What a connector under test is given: its services, a TLS server certificate, a client certificate."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from connectors.api import Secret, Services
from connectors.keyfiles import make_key, write_private_key
from ra.simulate.authority import SimulatedCa, pem
from tests.fakes import pki


@dataclass
class Watched:
    """Services whose calls are remembered; secrets are read from `secrets`, by reference."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    observed: list[tuple[str, str]] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    moment: datetime = pki.NOW

    def services(self, directory: Path = Path()) -> Services:
        return Services(
            name="lab",
            directory=directory,
            now=lambda: self.moment,
            read_secret=lambda reference: Secret(self.secrets[reference]),
            observe=lambda operation, outcome, _seconds: self.observed.append((operation, outcome)),
            reached=self.reached.append,
        )


@dataclass(frozen=True)
class TlsFiles:
    """PEM files in a directory: a CA, and one certificate from it for localhost and for a client alike."""

    ca: Path
    certificate: Path
    key: Path

    def server(self, *, asks_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if asks_for_certificate:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def tls_files(directory: Path, now: datetime, key_spec: str = "ec:p256") -> TlsFiles:
    """Writes them, from a CA that is made for the purpose."""
    directory.mkdir(exist_ok=True)
    files = TlsFiles(directory / "tls-ca.pem", directory / "tls.pem", directory / "tls.key")
    authority, key, day = SimulatedCa("TLS", lambda: now, key_spec), make_key(key_spec), timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = authority.sign(
        x509.Name([]), key.public_key(), [(names, True)], not_before=now - day, not_after=now + day
    )
    files.ca.write_text(pem(authority.root))
    files.certificate.write_text(pem(certificate) + pem(authority.certificate))
    write_private_key(files.key, key, passphrase=None)
    return files
