"""The client's cryptography: digests, content encryption, key transport and signatures, over bytes and keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import ciphers as blocks
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from ra.client.errors import BadArgument, BadReply
from ra.client.names import Cipher, Digest, KeyTransport

MAX_ITERATIONS = 10_000_000
"""Of a key derivation: some seconds."""

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Entropy = Callable[[int], bytes]

LEGACY = frozenset({Digest.SHA1, Digest.MD5, Cipher.DES3_CBC, Cipher.DES_CBC})


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms:
    """What a message is made with; the defaults are RFC 8894 §2.9's mandatory ones."""

    digest: Digest = Digest.SHA256
    cipher: Cipher = Cipher.AES128_CBC
    key_transport: KeyTransport = KeyTransport.PKCS1_V15

    @property
    def legacy(self) -> bool:
        return not LEGACY.isdisjoint({self.digest, self.cipher})


_HASHES: dict[Digest, hashes.HashAlgorithm] = {
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA384: hashes.SHA384(),
    Digest.SHA512: hashes.SHA512(),
    Digest.SHA1: hashes.SHA1(),  # noqa: S303 - for peers that know nothing better, below the floor by default
    Digest.MD5: hashes.MD5(),  # noqa: S303 - the same
}

_KEY_BYTES = {
    Cipher.AES128_CBC: 16,
    Cipher.AES192_CBC: 24,
    Cipher.AES256_CBC: 32,
    Cipher.DES3_CBC: 24,
    Cipher.DES_CBC: 8,
}


def digest(data: bytes, algorithm: Digest) -> bytes:
    state = hashes.Hash(_HASHES[algorithm])
    state.update(data)
    return state.finalize()


def content_key_bytes(cipher: Cipher) -> int:
    return _KEY_BYTES[cipher]


def iv_bytes(cipher: Cipher) -> int:
    return 8 if cipher in (Cipher.DES3_CBC, Cipher.DES_CBC) else 16


def encrypt(data: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    """CBC with PKCS #7 padding (RFC 5652 §6.3)."""
    padder = padding.PKCS7(len(iv) * 8).padder()
    encryptor = _cbc(key, iv, cipher).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


def decrypt(data: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    """The inverse of `encrypt`.

    Raises:
        ValueError: key, IV or padding are wrong.
    """
    decryptor = _cbc(key, iv, cipher).decryptor()
    unpadder = padding.PKCS7(len(iv) * 8).unpadder()
    return unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()


def wrap(content_key: bytes, recipient: CertificatePublicKeyTypes, transport: KeyTransport) -> bytes:
    """Encrypts a content key for a recipient.

    Raises:
        BadArgument: the recipient's key is not RSA.
    """
    if not isinstance(recipient, rsa.RSAPublicKey):
        raise BadArgument("A message can be sealed to an RSA key only; the recipient's certificate holds another kind.")
    return recipient.encrypt(content_key, _transport_padding(transport))


def unwrap(wrapped: bytes, key: rsa.RSAPrivateKey, transport: KeyTransport) -> bytes:
    """The inverse of `wrap`.

    Raises:
        ValueError: it was not made for this key.
    """
    return key.decrypt(wrapped, _transport_padding(transport))


def derive(password: bytes, salt: bytes, iterations: int, length: int, digest_name: str) -> bytes:
    """PBKDF2 (RFC 8018 §5.2); the digest by hashlib's name.

    Raises:
        ValueError: more iterations than anybody needs, or a digest that is not known.
    """
    if not 0 < iterations <= MAX_ITERATIONS:
        raise ValueError("a number of iterations beyond all use")
    return hashlib.pbkdf2_hmac(digest_name, password, salt, iterations, length)


def unwrap_with_key(wrapped: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    """A content key that was encrypted twice over with another key (RFC 3211 §2.3.2).

    Raises:
        ValueError: it was not made with this key.
    """
    block = len(iv)
    if len(wrapped) < 2 * block or len(wrapped) % block:
        raise ValueError("a wrapped key of the wrong length")
    # The IV of the second encryption was the last block of the first one, which its own last block gives back.
    last = _plain(wrapped[-block:], key, wrapped[-2 * block : -block], cipher)
    once = _plain(wrapped[:-block], key, last, cipher) + last
    formatted = _plain(once, key, iv, cipher)
    length, check = formatted[0], formatted[1:4]
    content_key = formatted[4 : 4 + length]
    if len(content_key) != length or bytes(each ^ 0xFF for each in content_key[:3]) != check:
        raise ValueError("another key wrapped it")
    return content_key


def _plain(data: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    decryptor = _cbc(key, iv, cipher).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def sign(data: bytes, key: Key, algorithm: Digest) -> bytes:
    """A signature: RSASSA-PKCS1-v1_5, ECDSA or Ed25519, as the key says."""
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(data, rsa_padding.PKCS1v15(), _HASHES[algorithm])
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(_HASHES[algorithm]))
        case ed25519.Ed25519PrivateKey():
            return key.sign(data)


def verify(signature: bytes, data: bytes, key: CertificatePublicKeyTypes, algorithm: Digest) -> None:
    """Checks a signature made as by `sign`.

    Raises:
        BadReply: it does not verify, or the key is of a kind the client does not know.
    """
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, data, rsa_padding.PKCS1v15(), _HASHES[algorithm])
            case ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(_HASHES[algorithm]))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case _:
                raise BadReply("The reply is signed with a kind of key that this client does not know.")
    except InvalidSignature as fault:
        raise BadReply("The signature of the reply does not verify: it was altered, or another key made it.") from fault


def _cbc(key: bytes, iv: bytes, cipher: Cipher) -> blocks.Cipher[modes.CBC]:
    if len(key) != content_key_bytes(cipher) or len(iv) != iv_bytes(cipher):
        raise ValueError("content key or IV of the wrong length")
    # Single DES is triple DES with one key three times.
    algorithm = (
        TripleDES(key * (24 // len(key))) if cipher in (Cipher.DES3_CBC, Cipher.DES_CBC) else algorithms.AES(key)
    )
    return blocks.Cipher(algorithm, modes.CBC(iv))


def _transport_padding(transport: KeyTransport) -> rsa_padding.AsymmetricPadding:
    match transport:
        case KeyTransport.PKCS1_V15:
            return rsa_padding.PKCS1v15()
        case KeyTransport.OAEP_SHA1:
            return _oaep(hashes.SHA1())  # noqa: S303 - inside OAEP SHA-1 is no weakness
        case KeyTransport.OAEP_SHA256:
            return _oaep(hashes.SHA256())


def _oaep(algorithm: hashes.HashAlgorithm) -> rsa_padding.OAEP:
    return rsa_padding.OAEP(rsa_padding.MGF1(algorithm), algorithm, None)
