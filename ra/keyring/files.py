"""RA keys in files: an encrypted PEM key and the certificate it goes with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from connectors import keyfiles
from connectors.api import Misconfigured as BadFile
from connectors.api import Secret
from ra.errors import Misconfigured
from ra.scep import ciphers
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport

_HASHES: dict[Digest, hashes.HashAlgorithm] = {
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA384: hashes.SHA384(),
    Digest.SHA512: hashes.SHA512(),
    Digest.SHA1: hashes.SHA1(),  # noqa: S303 - a profile's legacy; MD5 is never produced
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDecryptor:
    """Implements ra.scep.keys.Decryptor."""

    certificate: bytes
    certificate_id: CertificateId
    key: rsa.RSAPrivateKey = field(repr=False)

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        try:
            return self.key.decrypt(encrypted_key, ciphers.WRAPPINGS[transport])
        except Exception:  # noqa: BLE001 - whatever the library raises must look the same to the caller
            raise ValueError("the encrypted key does not open") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSigner:
    """Implements ra.scep.keys.Signer."""

    certificate: bytes
    certificate_id: CertificateId
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def signature_algorithm(self) -> str:
        return "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ecdsa"

    def sign(self, message: bytes, digest: Digest) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), _HASHES[digest])
        return self.key.sign(message, ec.ECDSA(_HASHES[digest]))


def load_identity(
    name: str,
    *,
    certificate: Path,
    key: Path,
    passphrase: Secret | None,
    decryption_certificate: Path | None = None,
    decryption_key: Path | None = None,
) -> Identity:
    """The identity of one key, or of a signing key and a decryption key with a certificate each.

    Of each certificate file the first certificate counts. Both keys are encrypted with the one passphrase, and
    whether they belong to their certificates is for ra.keyring.checks to find.

    Raises:
        Misconfigured: a file is missing, open to others or not readable, or the decryption key is not RSA.
    """
    try:
        shown, signing_key = _first(certificate), keyfiles.read_private_key(key, passphrase)
        addressed = _first(decryption_certificate) if decryption_certificate else shown
        opening_key = keyfiles.read_private_key(decryption_key, passphrase) if decryption_key else signing_key
    except BadFile as error:
        raise Misconfigured(f'identity "{name}": {error}') from error
    if not isinstance(opening_key, rsa.RSAPrivateKey):
        raise Misconfigured(
            f'identity "{name}": devices can seal to an RSA key alone; '
            "give it a decryption_certificate and a decryption_key"
        )
    return Identity(
        name=name,
        decryptor=FileDecryptor(certificate=_der(addressed), certificate_id=id_of(addressed), key=opening_key),
        signer=FileSigner(certificate=_der(shown), certificate_id=id_of(shown), key=signing_key),
    )


def identity_of(name: str, certificate: bytes, key: rsa.RSAPrivateKey) -> Identity:
    """The identity of one key in memory and its certificate, DER."""
    named = id_of(x509.load_der_x509_certificate(certificate))
    return Identity(
        name=name,
        decryptor=FileDecryptor(certificate=certificate, certificate_id=named, key=key),
        signer=FileSigner(certificate=certificate, certificate_id=named, key=key),
    )


def _first(path: Path) -> x509.Certificate:
    return keyfiles.read_certificates(path)[0]


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def id_of(certificate: x509.Certificate) -> CertificateId:
    """How a message names the certificate."""
    try:
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        key_id = None
    return CertificateId(issuer=certificate.issuer.public_bytes(), serial=certificate.serial_number, key_id=key_id)
