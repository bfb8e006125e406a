"""Private keys and certificates in PEM files, as connectors and the registration authority alike keep them.

Files only: what a key is used for is decided elsewhere. Everything that is wrong with a file is a Misconfigured whose
message names the file and says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.api import Misconfigured, Secret

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY_MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "rsa:2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "rsa:3072": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "rsa:4096": lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096),
    "ec:p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec:p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
"""Every key we make, by the words that the command line takes for it."""


def make_key(key_spec: str) -> PrivateKey:
    """A new key, `key_spec` being one of KEY_MAKERS.

    Raises:
        Misconfigured: there is no such key specification.
    """
    if key_spec not in KEY_MAKERS:
        raise Misconfigured(f'"{key_spec}" is no key specification; write one of {", ".join(KEY_MAKERS)}')
    return KEY_MAKERS[key_spec]()


def read_private_key(path: Path, passphrase: Secret | None) -> PrivateKey:
    """The RSA or EC key in a PEM file, which must be encrypted exactly when there is a passphrase.

    Raises:
        Misconfigured: not there, open to others than its owner, not decrypted by the passphrase, or no such key.
    """
    _check_closed_to_others(path)
    secret = passphrase.reveal().encode() if passphrase is not None else None
    try:
        key = load_pem_private_key(_read(path), secret)
    except TypeError as error:
        wrong = "is encrypted and needs a passphrase" if secret is None else "is not encrypted, though it has to be"
        raise Misconfigured(f"the private key {path} {wrong}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"the private key {path} cannot be opened: wrong passphrase, or no PEM key") from error
    if not isinstance(key, PrivateKey):
        raise Misconfigured(f"the private key {path} is neither RSA nor EC")
    return key


def write_private_key(path: Path, key: PrivateKey, passphrase: Secret | None) -> None:
    """Writes PKCS #8, PEM, for the owner's eyes alone (mode 0600); never over an existing file.

    Raises:
        Misconfigured: the file exists, or cannot be written.
    """
    secret = BestAvailableEncryption(passphrase.reveal().encode()) if passphrase is not None else NoEncryption()
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret), mode=0o600)


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file in their order, at least one.

    Raises:
        Misconfigured: not there, or no PEM certificates.
    """
    content = _read(path)
    try:
        certificates = tuple(x509.load_pem_x509_certificates(content))
        for each in certificates:
            _ = each.extensions, each.public_key()  # parsed only when they are asked for
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Misconfigured(f"{path} holds no readable PEM certificate: {_pem_fault(content, error)}") from error
    return certificates


def _pem_fault(content: bytes, error: Exception) -> str:
    """What is wrong with it; a library's own words on the framing of PEM say little, and refer to its site."""
    if content.startswith(b"\x30"):
        return "it is DER; `openssl x509 -inform DER -in FILE -out NEW` makes PEM of it"
    if b"-----BEGIN CERTIFICATE-----" not in content:
        return "it has no line -----BEGIN CERTIFICATE-----"
    if "https://" in str(error):
        return "what stands between its lines BEGIN and END is incomplete or damaged"
    return str(error)


def write_certificates(path: Path, certificates: Sequence[bytes]) -> None:
    """Writes certificates (DER) as PEM in their order; never over an existing file.

    Raises:
        Misconfigured: the file exists, or cannot be written.
    """
    loaded = (x509.load_der_x509_certificate(each) for each in certificates)
    _write_new(path, b"".join(each.public_bytes(Encoding.PEM) for each in loaded), mode=0o644)


def _check_closed_to_others(path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise Misconfigured(f"the private key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise Misconfigured(f"the private key {path} is open to others than its owner (mode {mode:04o}): chmod 600 it")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.touch(mode, exist_ok=False)
        path.write_bytes(content)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error
