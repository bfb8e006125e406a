"""Makes a CA for the internal connector: a self-signed root that issues end-entity certificates alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.api import Secret
from connectors.internal.authority import hash_for
from connectors.keyfiles import PrivateKey, make_key, write_certificates, write_private_key

_BACKDATE = timedelta(hours=1)
"""Devices whose clock is slow must find the root valid already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaFiles:
    """Where a new CA lies: PEM files."""

    certificate: Path
    key: Path


def create_ca(
    directory: Path, *, key_spec: str, name: str, passphrase: Secret, now: datetime, validity_days: int = 3650
) -> CaFiles:
    """Writes `ca.pem` and `ca.key` (encrypted, mode 0600) into a directory; never over existing files.

    The directory must exist; `key_spec` is one of connectors.keyfiles.KEY_MAKERS; `name` is the commonName.

    Raises:
        Misconfigured: the key specification is unknown, or a file exists or cannot be written.
    """
    files = CaFiles(certificate=directory / "ca.pem", key=directory / "ca.key")
    key = make_key(key_spec)
    certificate = _root(key, name, now.replace(microsecond=0), timedelta(days=validity_days))
    write_private_key(files.key, key, passphrase)
    write_certificates(files.certificate, [certificate.public_bytes(Encoding.DER)])
    return files


def _root(key: PrivateKey, name: str, now: datetime, validity: timedelta) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .issuer_name(subject)
        .subject_name(subject)
        .public_key(key.public_key())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_only(), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hash_for(key))
    )


def _signs_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
