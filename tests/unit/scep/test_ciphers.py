from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from ra.scep import ciphers
from ra.scep.ciphers import Scheme, SignatureAlgorithm
from ra.scep.errors import AlgorithmRefused, Malformed
from ra.scep.names import Cipher, Digest, Legacy
from tests.fakes.messages import ec_key, rsa_key, sign

NONE: frozenset[Legacy] = frozenset()
ALL = frozenset(Legacy)


@pytest.mark.parametrize("cipher", list(Cipher))
@given(content=st.binary(max_size=100))
def test_what_is_encrypted_is_decrypted(cipher: Cipher, content: bytes) -> None:
    key, iv = bytes(range(ciphers.KEY_BYTES[cipher])), bytes(ciphers.BLOCK_BYTES[cipher])

    ciphertext = ciphers.encrypt(content, key, iv, cipher)

    assert content == ciphers.decrypt(ciphertext, key, iv, cipher)


def test_single_des_is_that_of_fips_81() -> None:
    key, iv = bytes.fromhex("0123456789abcdef"), bytes.fromhex("1234567890abcdef")

    ciphertext = ciphers.encrypt(b"Now is the time for all ", key, iv, Cipher.DES_CBC)

    assert bytes.fromhex("e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6") == ciphertext[:24]


@pytest.mark.parametrize("ciphertext", [b"", b"short", bytes(16), bytes(32)])
def test_what_does_not_decrypt_is_malformed(ciphertext: bytes) -> None:
    with pytest.raises(Malformed):
        ciphers.decrypt(ciphertext, bytes(16), bytes(16), Cipher.AES128_CBC)


@pytest.mark.parametrize("algorithm", [Digest.SHA256, Digest.SHA512, Cipher.AES128_CBC, Cipher.AES256_CBC])
def test_what_is_of_today_needs_no_leave(algorithm: Digest | Cipher) -> None:
    assert NONE == ciphers.admit(algorithm, NONE)


@pytest.mark.parametrize(
    ("algorithm", "word"),
    [
        (Digest.SHA1, Legacy.SHA1),
        (Digest.MD5, Legacy.MD5),
        (Cipher.DES3_CBC, Legacy.DES3),
        (Cipher.DES_CBC, Legacy.DES),
    ],
)
@pytest.mark.rfc8894("triple-des-and-sha-1", "no-des-no-md5")
def test_what_is_legacy_needs_its_own_word(algorithm: Digest | Cipher, word: Legacy) -> None:
    assert frozenset({word}) == ciphers.admit(algorithm, frozenset({word}))
    with pytest.raises(AlgorithmRefused, match=word):
        ciphers.admit(algorithm, ALL - {word})


@pytest.mark.parametrize("oid", sorted(ciphers.ABSENT))
def test_what_is_absent_is_explained(oid: str) -> None:
    for named in (ciphers.digest_named, ciphers.cipher_named, ciphers.signature_named):
        with pytest.raises(AlgorithmRefused, match=ciphers.ABSENT[oid][:5]):
            named(oid)


@pytest.mark.parametrize("digest", list(Digest))
@pytest.mark.rfc8894("no-des-no-md5")
def test_q09_the_digest_is_mirrored_but_never_md5(digest: Digest) -> None:
    assert Digest.MD5 not in {ciphers.reply_digest(digest, legacy) for legacy in (NONE, ALL)}
    assert Digest.SHA1 is not ciphers.reply_digest(digest, NONE)
    assert digest is Digest.MD5 or digest is ciphers.reply_digest(digest, ALL)


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.rfc8894("no-des-no-md5")
def test_q09_the_cipher_is_mirrored_but_never_des(cipher: Cipher) -> None:
    assert Cipher.DES_CBC not in {ciphers.reply_cipher(cipher, legacy) for legacy in (NONE, ALL)}
    assert Cipher.DES3_CBC is not ciphers.reply_cipher(cipher, NONE)
    assert cipher is Cipher.DES_CBC or cipher is ciphers.reply_cipher(cipher, ALL)


@pytest.mark.parametrize("digest", list(Digest))
def test_an_rsa_signature_verifies(digest: Digest) -> None:
    algorithm = SignatureAlgorithm(Scheme.RSA_PKCS1_V15, None)

    ciphers.verify(sign(b"it", rsa_key(), digest), b"it", rsa_key().public_key(), algorithm, digest)


def test_an_ed25519_signature_verifies() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    algorithm = SignatureAlgorithm(Scheme.EDDSA, None)

    ciphers.verify(sign(b"it", key, "sha512"), b"it", key.public_key(), algorithm, Digest.SHA512)


@pytest.mark.parametrize("signature", [b"", b"\x00", bytes(256), bytes(1000)])
@pytest.mark.parametrize("scheme", list(Scheme))
def test_another_signature_is_malformed(signature: bytes, scheme: Scheme) -> None:
    algorithm = SignatureAlgorithm(scheme, Digest.SHA256, 32)

    for key in (rsa_key().public_key(), ec_key().public_key(), ed25519.Ed25519PrivateKey.generate().public_key()):
        with pytest.raises(Malformed):
            ciphers.verify(signature, b"it", key, algorithm, Digest.SHA256)
