"""Keys in a real token, SoftHSM, beside the same keys in files."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from connectors.api import Secret
from ra.errors import Misconfigured, Unavailable
from ra.keyring import files
from ra.keyring.checks import Severity, examine
from ra.scep import ciphers
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport
from tests.fakes import pki, softhsm
from tests.fakes.softhsm import LABEL, PIN, SoftHsm

pkcs11: Any = pytest.importorskip("ra.keyring.pkcs11", reason="python-pkcs11 is missing: see requirements-dev.txt")

pytestmark = pytest.mark.peer

CA = softhsm.CA
GARBAGE = {
    "no padding": b"\0" + os.urandom(255),
    "above the modulus": b"\xff" * 256,
    "too short": b"\x01" * 100,
    "too long": b"\x01" * 300,
    "empty": b"",
    "zero": bytes(256),
}


@pytest.fixture
def token(token_files: SoftHsm) -> Any:
    module = pkcs11.module(token_files.module)
    module.begin_anew(module.generation)
    return pkcs11.Token(module, pin=Secret(PIN), label=LABEL)


@pytest.fixture
def identity(token_files: SoftHsm, token: Any) -> Identity:
    return load(token_files, token)


def load(token_files: SoftHsm, token: Any) -> Identity:
    found: Identity = pkcs11.load_identity("hsm", token, certificate=token_files.certificate("rsa"), key="rsa")
    return found


def beside(token_files: SoftHsm) -> Identity:
    """The same key in a file."""
    return files.load_identity(
        "file", certificate=token_files.certificate("rsa"), key=token_files.directory / "rsa.key", passphrase=None
    )


def sealed(content: bytes, transport: KeyTransport) -> bytes:
    return pki.rsa_key(20).public_key().encrypt(content, ciphers.WRAPPINGS[transport])


def test_it_passes_the_checks_of_a_start(identity: Identity) -> None:
    found = examine(identity, CA.chain, pki.NOW, os.urandom)

    assert [Severity.WARNING] == [each.severity for each in found]
    assert "no implicit rejection" in found[0].message
    assert identity.is_remote


@pytest.mark.parametrize("transport", [KeyTransport.PKCS1_V15, KeyTransport.OAEP_SHA1])
def test_it_opens_what_is_sealed_to_it(identity: Identity, transport: KeyTransport) -> None:
    assert b"k" * 16 == identity.decryptor.unwrap(sealed(b"k" * 16, transport), transport)


@pytest.mark.parametrize("digest", [Digest.SHA256, Digest.SHA384, Digest.SHA512])
def test_it_signs_as_the_key_in_the_file_does(identity: Identity, token_files: SoftHsm, digest: Digest) -> None:
    assert identity.signer.sign(b"text", digest) == beside(token_files).signer.sign(b"text", digest)


def test_an_ec_key_signs_and_an_rsa_key_decrypts(token_files: SoftHsm, token: Any) -> None:
    both = pkcs11.load_identity(
        "hsm",
        token,
        certificate=token_files.certificate("ec"),
        key="ec",
        decryption_certificate=token_files.certificate("rsa"),
        decryption_key="rsa",
    )

    assert "ecdsa" == both.signer.signature_algorithm
    assert [] == [each for each in examine(both, CA.chain, pki.NOW, os.urandom) if each.severity is Severity.ERROR]


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("transport", list(KeyTransport))
def test_garbage_is_one_error_whatever_the_token_calls_it(
    identity: Identity, garbage: bytes, transport: KeyTransport
) -> None:
    with pytest.raises(ValueError, match=r"^the encrypted key does not open$"):
        identity.decryptor.unwrap(garbage, transport)

    assert b"k" * 16 == identity.decryptor.unwrap(sealed(b"k" * 16, KeyTransport.PKCS1_V15), KeyTransport.PKCS1_V15)


def test_a_device_error_of_a_token_that_lives_is_a_bad_ciphertext_as_any_other(token: Any) -> None:
    """Some modules call bad padding so: told from another it would be an oracle, and every stranger could have all sessions lost."""
    generation = token._module.generation

    def refuse(_: object) -> bytes:
        raise pkcs11.pkcs11.DeviceError

    decryptor = pkcs11.TokenDecryptor(certificate=b"", certificate_id=None, token=_Refusing(token, refuse), key="rsa")
    with pytest.raises(ValueError, match=r"^the encrypted key does not open$"):
        decryptor.unwrap(b"\1" * 256, KeyTransport.PKCS1_V15)

    assert generation == token._module.generation


class _Refusing:
    """A token that answers every use with `work`."""

    def __init__(self, token: Any, work: Callable[[object], bytes]) -> None:
        self._token = token
        self._work = work

    def use(self, key: str, _: object) -> bytes:
        return bytes(self._token.use(key, self._work))


def test_many_threads_use_it_at_once(identity: Identity) -> None:
    kinds = cycle([KeyTransport.PKCS1_V15, KeyTransport.OAEP_SHA1])
    jobs = [(bytes([number]) * 16, next(kinds)) for number in range(64)]
    messages = [(sealed(*job), job[1]) for job in jobs]  # beforehand, so that the threads meet in the token

    with ThreadPoolExecutor(12) as threads:
        for _ in range(20):
            opened = threads.map(lambda message: identity.decryptor.unwrap(*message), messages)

            assert [content for content, _ in jobs] == list(opened)


def test_after_the_sessions_were_lost_it_goes_on(identity: Identity, token: Any) -> None:
    identity.signer.sign(b"text", Digest.SHA256)
    for each in token.free_sessions():
        each.close()

    identity.signer.sign(b"text", Digest.SHA256)
    for each in token.free_sessions():
        each.close()

    assert b"k" * 16 == identity.decryptor.unwrap(sealed(b"k" * 16, KeyTransport.PKCS1_V15), KeyTransport.PKCS1_V15)


def test_a_token_that_is_away_is_no_bad_ciphertext(token_files: SoftHsm, identity: Identity) -> None:
    tokens = token_files.directory / "tokens"
    away = tokens.rename(token_files.directory / "away")
    tokens.mkdir()
    module = pkcs11.module(token_files.module)
    try:
        module.begin_anew(module.generation)
        with pytest.raises(Unavailable, match="token ra does not answer"):
            identity.decryptor.unwrap(sealed(b"k" * 16, KeyTransport.PKCS1_V15), KeyTransport.PKCS1_V15)
        with pytest.raises(Unavailable):
            identity.signer.sign(b"text", Digest.SHA256)
    finally:
        tokens.rmdir()
        away.rename(tokens)

    signed = identity.signer.sign(b"text", Digest.SHA256)

    pki.rsa_key(20).public_key().verify(signed, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_a_wrong_pin_is_tried_once(token_files: SoftHsm, token: Any) -> None:
    module = pkcs11.module(token_files.module)
    wrong = pkcs11.Token(module, pin=Secret("9999"), label=LABEL)

    with pytest.raises(Misconfigured, match="refuses the PIN"):
        load(token_files, wrong)
    with pytest.raises(Misconfigured, match="is not tried again"):
        load(token_files, wrong)

    assert "9999" not in str(wrong)
    assert load(token_files, token).is_remote


@pytest.mark.parametrize(
    ("label", "key", "said"),
    [
        (LABEL, "none", "no one private key of label 'none'"),
        (LABEL, "ec", "devices can seal to an RSA key alone"),
        ("nowhere", "rsa", "token nowhere does not answer"),
    ],
)
def test_what_is_not_there_is_told(token_files: SoftHsm, label: str, key: str, said: str) -> None:
    other = pkcs11.Token(pkcs11.module(token_files.module), pin=Secret(PIN), label=label)

    with pytest.raises(Misconfigured if label == LABEL else Unavailable, match=said):
        pkcs11.load_identity("hsm", other, certificate=token_files.certificate("rsa"), key=key)


def test_a_module_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be loaded"):
        pkcs11.Module(tmp_path / "none.so")
