"""What the codec needs of a private key, wherever it lives (file, PKCS#11), and which certificate it goes with.

Only contracts and the two values that join them. Implementations are in ra/keyring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ra.scep.header import CertificateId
from ra.scep.names import Digest, KeyTransport


class Decryptor(Protocol):
    """An RA's decryption key."""

    @property
    def certificate(self) -> bytes:
        """Its certificate, DER."""

    @property
    def certificate_id(self) -> CertificateId: ...

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """The content key, by exactly one private operation.

        Raises:
            ValueError: the ciphertext does not open. The codec substitutes a random key (RFC 3218 §2.3.2), so that the
                caller learns nothing from it.
        """


class Signer(Protocol):
    """An RA's signing key."""

    @property
    def certificate(self) -> bytes:
        """Its certificate, DER."""

    @property
    def certificate_id(self) -> CertificateId: ...

    @property
    def signature_algorithm(self) -> str:
        """`rsa` or `ecdsa`."""

    def sign(self, message: bytes, digest: Digest) -> bytes:
        """Signature over `message`: PKCS #1 v1.5 (RSA) or DER Ecdsa-Sig-Value (ECDSA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One RA identity: what decrypts requests and what signs the replies to them. The two may be one key.

    Attributes:
        is_remote: its private operations wait for a device, so that they must not hold up whoever else is served.
    """

    name: str
    decryptor: Decryptor
    signer: Signer
    is_remote: bool = False

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Its certificates, DER, each once."""
        return tuple(dict.fromkeys((self.decryptor.certificate, self.signer.certificate)))
