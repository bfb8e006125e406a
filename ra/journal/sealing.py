"""What the journal's key does: it seals stored requests and the RA's keys, makes digests of secrets, signs checkpoints.

The key is 32 random bytes outside the database, so that whoever reads the database, or a backup of it, learns neither a
challenge nor a one-time secret. Replicas share it.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectors.api import Secret
from ra.errors import Misconfigured, RaError

KEY_LENGTH = 32
NONCE_LENGTH = 12
"""Of AES-GCM: random bytes that whoever seals hands in."""


class NotOurs(RaError):
    """Sealed bytes that this key did not seal, or not for this transaction."""


class JournalKey:
    """The keys that are derived from the journal's one key, each for one purpose (RFC 5869)."""

    def __init__(self, master: bytes) -> None:
        self._aead = AESGCM(_derive(master, b"stored requests"))
        self._keys = AESGCM(_derive(master, b"the RA's keys"))
        self._secrets = _derive(master, b"one-time secrets")
        self._check = _derive(master, b"check value")
        self.checkpoint_signer = Ed25519PrivateKey.from_private_bytes(_derive(master, b"audit checkpoints"))

    @classmethod
    def read(cls, secret: Secret) -> JournalKey:
        """The key as `write_key` wrote it.

        Raises:
            Misconfigured: it is something else.
        """
        try:
            master = b64decode(secret.reveal().strip(), validate=True)
        except ValueError:
            master = b""
        if len(master) != KEY_LENGTH:
            raise Misconfigured(f"the journal's key is {KEY_LENGTH} bytes in base64, and this is something else")
        return cls(master)

    @property
    def check_value(self) -> bytes:
        """What tells that a journal was made with this key, and nothing of the key; 32 bytes."""
        return self._check

    def seal(self, which: UUID, content: bytes, nonce: bytes) -> bytes:
        """Encrypts and authenticates the content for one transaction; `nonce` is 12 random bytes."""
        return nonce + self._aead.encrypt(nonce, content, which.bytes)

    def open(self, which: UUID, sealed: bytes) -> bytes:
        """What was sealed for that transaction.

        Raises:
            NotOurs: by another key, or for another transaction.
        """
        try:
            return self._aead.decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], which.bytes)
        except (InvalidTag, ValueError):
            raise NotOurs("the stored request was sealed with another key") from None

    def seal_key(self, which: UUID, private_key: bytes, nonce: bytes) -> bytes:
        """The same for a private key of the RA, PKCS #8 DER, kept under that id."""
        return nonce + self._keys.encrypt(nonce, private_key, which.bytes)

    def open_key(self, which: UUID, sealed: bytes) -> bytes:
        """The private key that was sealed under that id.

        Raises:
            NotOurs: by another key, or under another id.
        """
        try:
            return self._keys.decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], which.bytes)
        except (InvalidTag, ValueError):
            raise NotOurs("a key of the RA was sealed with another key of the journal") from None

    def digest(self, secret: str) -> bytes:
        """By which a one-time secret is known again; 32 bytes, and of no use without the key."""
        return hmac.digest(self._secrets, secret.encode("utf-8", "surrogatepass"), "sha256")


def write_key(entropy: bytes) -> str:
    """A new key as text, of 32 random bytes."""
    return b64encode(entropy).decode()


def _derive(master: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_LENGTH, salt=None, info=b"scep-ra journal: " + purpose).derive(master)
