"""The TLS side of a simulated EJBCA: a CA, a server certificate and an administrator's client certificate, as files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.keyfiles import PrivateKey, make_key, write_private_key
from ra.simulate.authority import Extensions, SimulatedCa, pem

_LIFETIME = timedelta(days=30)
_BACKDATED = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files; a certificate's chain follows it."""

    ca: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path


def write_tls(directory: Path, host: str, now: datetime) -> TlsFiles:
    """Writes them into a directory, over what an earlier run has left there; `host` is what the server is called."""
    directory.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(
        ca=directory / "tls-ca.pem",
        server_certificate=directory / "server.pem",
        server_key=directory / "server.key",
        client_certificate=directory / "client.pem",
        client_key=directory / "client.key",
    )
    authority = SimulatedCa("Simulated EJBCA TLS CA", lambda: now)
    files.ca.write_text(pem(authority.root), "utf-8")
    server = [
        (x509.SubjectAlternativeName([_general_name(host)]), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    client = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)]
    _write_pair((files.server_certificate, files.server_key), _signed(authority, host, server, now))
    _write_pair((files.client_certificate, files.client_key), _signed(authority, "scep-ra", client, now))
    return files


def _signed(authority: SimulatedCa, common_name: str, extensions: Extensions, now: datetime) -> tuple[str, PrivateKey]:
    """The chain, PEM, and the key."""
    key = make_key("ec:p256")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    validity = {"not_before": now - _BACKDATED, "not_after": now + _LIFETIME}
    certificate = authority.sign(subject, key.public_key(), extensions, **validity)
    return pem(certificate) + pem(authority.certificate), key


def _write_pair(paths: tuple[Path, Path], content: tuple[str, PrivateKey]) -> None:
    certificate_file, key_file = paths
    certificate_file.write_text(content[0], "utf-8")
    key_file.unlink(missing_ok=True)
    write_private_key(key_file, content[1], passphrase=None)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
