"""The table of algorithms: allowed, let in by a profile's `legacy`, and the absent ones explained; and their use.

Everything cryptographic that the codec does with public keys and content keys is here. A legacy algorithm is verified
and decrypted where the profile says so; MD5 and single DES are never produced (RFC 8894 §7.5: a MUST NOT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import ciphers as blocks
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from ra.scep.errors import AlgorithmRefused, Malformed
from ra.scep.names import Cipher, Digest, KeyTransport, Legacy

T = TypeVar("T")

_CHECK_BYTES = 3

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

DIGEST_OIDS = {
    Digest.SHA256: "2.16.840.1.101.3.4.2.1",
    Digest.SHA384: "2.16.840.1.101.3.4.2.2",
    Digest.SHA512: "2.16.840.1.101.3.4.2.3",
    Digest.SHA1: "1.3.14.3.2.26",
    Digest.MD5: "1.2.840.113549.2.5",
}
CIPHER_OIDS = {
    Cipher.AES128_CBC: "2.16.840.1.101.3.4.1.2",
    Cipher.AES192_CBC: "2.16.840.1.101.3.4.1.22",
    Cipher.AES256_CBC: "2.16.840.1.101.3.4.1.42",
    Cipher.DES3_CBC: "1.2.840.113549.3.7",
    Cipher.DES_CBC: "1.3.14.3.2.7",
}
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
RSAES_OAEP = "1.2.840.113549.1.1.7"
RSASSA_PSS = "1.2.840.113549.1.1.10"
MGF1 = "1.2.840.113549.1.1.8"

KEY_BYTES = {
    Cipher.AES128_CBC: 16,
    Cipher.AES192_CBC: 24,
    Cipher.AES256_CBC: 32,
    Cipher.DES3_CBC: 24,
    Cipher.DES_CBC: 8,
}
BLOCK_BYTES = {each: 8 if each in (Cipher.DES3_CBC, Cipher.DES_CBC) else 16 for each in Cipher}

OAEP_DIGESTS = {
    KeyTransport.OAEP_SHA1: Digest.SHA1,
    KeyTransport.OAEP_SHA256: Digest.SHA256,
    KeyTransport.OAEP_SHA384: Digest.SHA384,
    KeyTransport.OAEP_SHA512: Digest.SHA512,
}

ABSENT = {
    "2.16.840.1.101.3.4.2.4": "SHA-224, which no SCEP capability names",
    "1.2.840.113549.2.2": "MD2, broken",
    "1.2.840.113549.3.2": "RC2, broken at the lengths that were in use",
    "1.2.840.113549.3.4": "RC4, broken",
    "2.16.840.1.101.3.4.1.6": "AES-128-GCM, which belongs in AuthEnvelopedData; in EnvelopedData it invites substitution",
    "2.16.840.1.101.3.4.1.26": "AES-192-GCM, which belongs in AuthEnvelopedData",
    "2.16.840.1.101.3.4.1.46": "AES-256-GCM, which belongs in AuthEnvelopedData",
    "1.2.840.10040.4.1": "DSA, which can be neither sealed to nor certified",
    "1.2.840.10040.4.3": "DSA with SHA-1",
}
"""Algorithms that a message may name and that are not here, and why."""

_LEGACY: dict[Digest | Cipher, Legacy] = {
    Digest.SHA1: Legacy.SHA1,
    Digest.MD5: Legacy.MD5,
    Cipher.DES3_CBC: Legacy.DES3,
    Cipher.DES_CBC: Legacy.DES,
}
_DIGESTS = {oid: digest for digest, oid in DIGEST_OIDS.items()}
_CIPHERS = {oid: cipher for cipher, oid in CIPHER_OIDS.items()}
_HASHES: dict[Digest, hashes.HashAlgorithm] = {
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA384: hashes.SHA384(),
    Digest.SHA512: hashes.SHA512(),
    Digest.SHA1: hashes.SHA1(),  # noqa: S303 - below the floor unless a profile lets it in
    Digest.MD5: hashes.MD5(),  # noqa: S303 - the same
}


class Scheme(Enum):
    """How a signature is made."""

    RSA_PKCS1_V15 = "RSASSA-PKCS1-v1_5"
    RSA_PSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    EDDSA = "EdDSA"


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """A scheme and its digest; None where the algorithm's name does not say (rsaEncryption, EdDSA)."""

    scheme: Scheme
    digest: Digest | None
    salt_bytes: int = 0


SIGNATURES = {
    RSA_ENCRYPTION: SignatureAlgorithm(Scheme.RSA_PKCS1_V15, None),
    "1.2.840.113549.1.1.4": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.MD5),
    "1.2.840.113549.1.1.5": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.SHA1),
    "1.3.14.3.2.29": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.SHA1),
    "1.2.840.113549.1.1.11": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.SHA256),
    "1.2.840.113549.1.1.12": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.SHA384),
    "1.2.840.113549.1.1.13": SignatureAlgorithm(Scheme.RSA_PKCS1_V15, Digest.SHA512),
    "1.2.840.10045.2.1": SignatureAlgorithm(Scheme.ECDSA, None),
    "1.2.840.10045.4.1": SignatureAlgorithm(Scheme.ECDSA, Digest.SHA1),
    "1.2.840.10045.4.3.2": SignatureAlgorithm(Scheme.ECDSA, Digest.SHA256),
    "1.2.840.10045.4.3.3": SignatureAlgorithm(Scheme.ECDSA, Digest.SHA384),
    "1.2.840.10045.4.3.4": SignatureAlgorithm(Scheme.ECDSA, Digest.SHA512),
    "1.3.101.112": SignatureAlgorithm(Scheme.EDDSA, None),
    "1.3.101.113": SignatureAlgorithm(Scheme.EDDSA, None),
}
ECDSA_OIDS = {
    each.digest: oid for oid, each in SIGNATURES.items() if each.scheme is Scheme.ECDSA and each.digest is not None
}


def digest_named(oid: str) -> Digest:
    """The digest algorithm of that name.

    Raises:
        AlgorithmRefused: there is none here.
    """
    return _named(_DIGESTS, oid, "digest")


def cipher_named(oid: str) -> Cipher:
    """The content encryption of that name.

    Raises:
        AlgorithmRefused: there is none here.
    """
    return _named(_CIPHERS, oid, "content encryption")


def signature_named(oid: str) -> SignatureAlgorithm:
    """The signature algorithm of that name, RSASSA-PSS aside (its name says nothing).

    Raises:
        AlgorithmRefused: there is none here.
    """
    return _named(SIGNATURES, oid, "signature")


def _named(table: dict[str, T], oid: str, kind: str) -> T:
    try:
        return table[oid]
    except KeyError:
        raise AlgorithmRefused(f"{kind} algorithm {ABSENT.get(oid, oid)}") from None


def legacy_word(algorithm: Digest | Cipher) -> Legacy | None:
    """The word of a profile's `legacy` that lets the algorithm in; None where it needs none."""
    return _LEGACY.get(algorithm)


def admit(algorithm: Digest | Cipher, legacy: frozenset[Legacy]) -> frozenset[Legacy]:
    """The legacy word that this use of an algorithm counts under, if any.

    Raises:
        AlgorithmRefused: it is legacy, and `legacy` does not let it in.
    """
    word = legacy_word(algorithm)
    if word is None:
        return frozenset()
    if word not in legacy:
        raise AlgorithmRefused(f'{algorithm} is not allowed without legacy = ["{word}"]')
    return frozenset({word})


def reply_digest(digest: Digest, legacy: frozenset[Legacy]) -> Digest:
    """The digest of a reply (Q9): the request's; for what may not be produced the oldest that may.

    Who sends MD5 (Cisco IOS of old, jscep without capabilities) knows SHA-1 for certain and SHA-256 perhaps.
    """
    if digest not in _LEGACY:
        return digest
    return Digest.SHA1 if Legacy.SHA1 in legacy else Digest.SHA256


def reply_cipher(cipher: Cipher, legacy: frozenset[Legacy]) -> Cipher:
    """The content encryption of a reply (Q9): the request's; for DES triple DES where that is allowed, else AES-128.

    Debian's scepclient 2.1.0 seals with DES and opens both.
    """
    if cipher not in _LEGACY:
        return cipher
    return Cipher.DES3_CBC if Legacy.DES3 in legacy else Cipher.AES128_CBC


def hash_of(data: bytes, digest: Digest) -> bytes:
    return hashlib.new(digest, data, usedforsecurity=False).digest()


def encrypt(data: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    """CBC with the padding of RFC 5652 §6.3."""
    padder = padding.PKCS7(BLOCK_BYTES[cipher] * 8).padder()
    encryptor = _cbc(key, iv, cipher).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


def decrypt(data: bytes, key: bytes, iv: bytes, cipher: Cipher) -> bytes:
    """The inverse of `encrypt`.

    Raises:
        Malformed: length or padding are wrong.
    """
    decryptor = _cbc(key, iv, cipher).decryptor()
    unpadder = padding.PKCS7(BLOCK_BYTES[cipher] * 8).unpadder()
    try:
        return unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise Malformed("the content does not open") from error


def _cbc(key: bytes, iv: bytes, cipher: Cipher) -> blocks.Cipher[modes.CBC]:
    if cipher is Cipher.DES_CBC:
        return blocks.Cipher(TripleDES(key * 3), modes.CBC(iv))  # single DES is triple DES with one key three times
    if cipher is Cipher.DES3_CBC:
        return blocks.Cipher(TripleDES(key), modes.CBC(iv))
    return blocks.Cipher(algorithms.AES(key), modes.CBC(iv))


def _oaep(digest: Digest) -> rsa_padding.OAEP:
    return rsa_padding.OAEP(mgf=rsa_padding.MGF1(_HASHES[digest]), algorithm=_HASHES[digest], label=None)


WRAPPINGS: dict[KeyTransport, rsa_padding.AsymmetricPadding] = {
    KeyTransport.PKCS1_V15: rsa_padding.PKCS1v15(),
    **{transport: _oaep(digest) for transport, digest in OAEP_DIGESTS.items()},
}
"""The padding of each key transport, for `encrypt` and `decrypt` of an RSA key."""


def wrap(content_key: bytes, key: RSAPublicKey, transport: KeyTransport) -> bytes:
    """A content key, encrypted for a recipient.

    Raises:
        AlgorithmRefused: the key does not take it: too short, or no RSA key in earnest.
    """
    try:
        return key.encrypt(content_key, WRAPPINGS[transport])
    except ValueError as error:
        raise AlgorithmRefused("nothing can be encrypted to the recipient's key") from error


def derive(password: bytes, salt: bytes, iterations: int, length: int) -> bytes:
    """PBKDF2 with HMAC-SHA-256 (RFC 8018 §5.2)."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations, length)


def wrap_with_key(
    content_key: bytes, wrapping_key: bytes, iv: bytes, cipher: Cipher, entropy: Callable[[int], bytes]
) -> bytes:
    """A content key, encrypted twice over with another key (RFC 3211 §2.3.1), so that every bit depends on every other."""
    check = bytes(each ^ 0xFF for each in content_key[:_CHECK_BYTES])
    block_bytes = BLOCK_BYTES[cipher]
    formatted = bytes((len(content_key),)) + check + content_key
    # Padded to whole blocks, and to two at least.
    padded_bytes = max(2 * block_bytes, -(-len(formatted) // block_bytes) * block_bytes)
    formatted += entropy(padded_bytes - len(formatted))
    encryptor = _cbc(wrapping_key, iv, cipher).encryptor()
    once = encryptor.update(formatted)
    return encryptor.update(once) + encryptor.finalize()  # the IV of the second pass is the last block of the first


def verify(signature: bytes, message: bytes, key: PublicKey, algorithm: SignatureAlgorithm, digest: Digest) -> None:
    """Checks a signature over `message`; `digest` stands where the algorithm's own name has none.

    Raises:
        Malformed: the signature is wrong, or of another kind than the key.
    """
    using = _HASHES[algorithm.digest or digest]
    try:
        match key, algorithm.scheme:
            case RSAPublicKey(), Scheme.RSA_PKCS1_V15:
                key.verify(signature, message, rsa_padding.PKCS1v15(), using)
            case RSAPublicKey(), Scheme.RSA_PSS:
                pss = rsa_padding.PSS(mgf=rsa_padding.MGF1(using), salt_length=algorithm.salt_bytes)
                key.verify(signature, message, pss, using)
            case EllipticCurvePublicKey(), Scheme.ECDSA:
                key.verify(signature, message, ECDSA(using))
            case ((Ed25519PublicKey() | Ed448PublicKey()), Scheme.EDDSA):
                key.verify(signature, message)
            case _:
                raise Malformed("the signature is of another kind than the key")
    except (InvalidSignature, ValueError) as error:
        raise Malformed("the signature does not verify") from error
