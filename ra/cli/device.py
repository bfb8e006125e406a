"""A device's directory: what `scep-ra client` keeps of an enrolment, so that it can poll and renew later.

key.pem           the device's key, PKCS #8, mode 0600
certificate.pem   its certificate
ca.pem            the CA that issued it, then what is above
pending.json      only while the server says PENDING: what CertPoll needs, mode 0600
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.keyfiles import (
    PrivateKey,
    make_key,
    read_certificates,
    read_private_key,
    write_certificates,
    write_private_key,
)
from ra.client.algorithms import Key
from ra.client.authority import CaCertificates
from ra.client.client import Enrolled, Transaction
from ra.client.errors import BadArgument
from ra.client.signed import Signer

KEY, CERTIFICATE, CA, PENDING = "key.pem", "certificate.pem", "ca.pem", "pending.json"


def own_key(directory: Path, key_type: str) -> PrivateKey:
    """The device's key, made and written before anything is asked for it: a certificate whose key is lost is worth nothing.

    A key whose certificate never came is taken up again, so that the server knows the request again.

    Raises:
        BadArgument: the directory has a certificate already.
    """
    if (directory / CERTIFICATE).exists():
        raise BadArgument(f"{directory} holds a certificate already: name another directory, or renew it.")
    if (directory / KEY).exists():
        return read_private_key(directory / KEY, None)
    directory.mkdir(parents=True, exist_ok=True)
    key = make_key(key_type)
    write_private_key(directory / KEY, key, None)
    return key


def save_certificate(directory: Path, enrolled: Enrolled, ca: CaCertificates) -> None:
    """Writes the certificate and its CA; nothing is pending any more."""
    write_certificates(directory / CERTIFICATE, [_der(enrolled.certificate)])
    write_certificates(directory / CA, [_der(each) for each in (ca.issuer, *ca.chain)])
    (directory / PENDING).unlink(missing_ok=True)


def save_pending(directory: Path, transaction: Transaction) -> None:
    """Writes what CertPoll needs. The CSR holds the challenge, and the signer's key opens the answer: mode 0600."""
    signer_key = transaction.signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kept = {
        "transaction_id": transaction.transaction_id,
        "csr": b64encode(transaction.csr).decode(),
        "signer_key": signer_key.decode(),
        "signer_certificate": transaction.signer.certificate.public_bytes(Encoding.PEM).decode(),
    }
    path = directory / PENDING
    path.touch(0o600)
    path.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")


def load_pending(directory: Path) -> Transaction:
    """What `save_pending` kept.

    Raises:
        BadArgument: nothing is pending there, or the file has been changed.
    """
    path = directory / PENDING
    if not path.exists():
        raise BadArgument(f"Nothing is pending in {directory}: there is no {PENDING}.")
    try:
        kept = json.loads(path.read_text("utf-8"))
        key = load_pem_private_key(kept["signer_key"].encode(), None)
        certificate = x509.load_pem_x509_certificate(kept["signer_certificate"].encode())
        return Transaction(
            key=read_private_key(directory / KEY, None),
            csr=b64decode(kept["csr"]),
            signer=Signer(key=cast(Key, key), certificate=certificate),
            transaction_id=kept["transaction_id"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArgument(f"{path} cannot be read: {error}.") from None


def load_signer(directory: Path) -> Signer:
    """The certificate that a renewal or a query is signed with, and its key."""
    return Signer(
        key=read_private_key(directory / KEY, None), certificate=read_certificates(directory / CERTIFICATE)[0]
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
