from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import keyfiles
from connectors.api import Secret
from ra.errors import Misconfigured
from ra.keyring.files import FileDecryptor, load_identity
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport
from tests.fakes import pki

PASSPHRASE = Secret("correct horse")
CA = pki.root()
CERTIFICATE = CA.issue(pki.rsa_key())
DECRYPTOR = FileDecryptor(
    certificate=pki.der(CERTIFICATE),
    certificate_id=CertificateId(issuer=b"", serial=1, key_id=None),
    key=pki.rsa_key(),
)
HASHES: dict[Digest, hashes.HashAlgorithm] = {
    Digest.SHA1: hashes.SHA1(),  # noqa: S303 - a profile's legacy
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA384: hashes.SHA384(),
    Digest.SHA512: hashes.SHA512(),
}


def oaep(digest: Digest) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(HASHES[digest]), HASHES[digest], label=None)


PADDINGS = {
    KeyTransport.PKCS1_V15: padding.PKCS1v15(),
    KeyTransport.OAEP_SHA1: oaep(Digest.SHA1),
    KeyTransport.OAEP_SHA256: oaep(Digest.SHA256),
    KeyTransport.OAEP_SHA384: oaep(Digest.SHA384),
    KeyTransport.OAEP_SHA512: oaep(Digest.SHA512),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """ra.pem and ra.key (RSA), and ec.pem and ec.key."""
    for stem, key in (("ra", pki.rsa_key()), ("ec", pki.key("ec:p256", 1))):
        keyfiles.write_private_key(tmp_path / f"{stem}.key", key, PASSPHRASE)
    keyfiles.write_certificates(tmp_path / "ra.pem", [pki.der(CERTIFICATE), *CA.chain])
    keyfiles.write_certificates(tmp_path / "ec.pem", [pki.der(CA.issue(pki.key("ec:p256", 1)))])
    return tmp_path


def load(directory: Path, stem: str = "ra", passphrase: Secret | None = PASSPHRASE) -> Identity:
    certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    return load_identity("lab", certificate=certificate, key=key, passphrase=passphrase)


def test_one_key_signs_and_decrypts(directory: Path) -> None:
    identity = load(directory)

    assert (pki.der(CERTIFICATE),) == identity.certificates
    assert "rsa" == identity.signer.signature_algorithm
    assert identity.signer.certificate_id == identity.decryptor.certificate_id


def test_an_identity_is_named_as_messages_name_it(directory: Path) -> None:
    named = load(directory).decryptor.certificate_id

    assert CA.certificate.subject.public_bytes() == named.issuer
    assert CERTIFICATE.serial_number == named.serial
    assert CERTIFICATE.extensions[1].value.public_bytes()[2:] == named.key_id


def test_signing_and_decryption_may_have_a_key_each(directory: Path) -> None:
    identity = load_identity(
        "lab",
        certificate=directory / "ec.pem",
        key=directory / "ec.key",
        passphrase=PASSPHRASE,
        decryption_certificate=directory / "ra.pem",
        decryption_key=directory / "ra.key",
    )

    assert "ecdsa" == identity.signer.signature_algorithm
    assert pki.der(CERTIFICATE) == identity.decryptor.certificate
    assert 2 == len(identity.certificates)


def test_an_ec_key_alone_is_refused_because_nothing_can_be_sealed_to_it(directory: Path) -> None:
    with pytest.raises(Misconfigured, match=r'identity "lab": devices can seal to an RSA key alone'):
        load(directory, "ec")


@pytest.mark.parametrize(
    ("breakage", "wrong"),
    [
        (lambda directory: (directory / "ra.key").unlink(), r"ra\.key cannot be read"),
        (lambda directory: (directory / "ra.key").chmod(0o644), r"ra\.key is open to others"),
        (lambda directory: (directory / "ra.key").write_text("nonsense"), r"ra\.key cannot be opened"),
        (lambda directory: (directory / "ra.pem").write_text("nonsense"), r"ra\.pem holds no readable PEM certificate"),
    ],
)
def test_a_bad_file_is_named_with_its_identity(directory: Path, breakage: object, wrong: str) -> None:
    assert callable(breakage)
    breakage(directory)

    with pytest.raises(Misconfigured, match=f'identity "lab": .*{wrong}'):
        load(directory)


def test_a_wrong_passphrase_is_refused_and_not_shown(directory: Path) -> None:
    with pytest.raises(Misconfigured, match="wrong passphrase") as refusal:
        load(directory, passphrase=Secret("hunter2hunter2"))

    assert "hunter2" not in str(refusal.value)


def test_no_key_shows_in_a_representation(directory: Path) -> None:
    identity = load(directory)

    assert "key=" not in repr(identity.decryptor)
    assert "key=" not in repr(identity.signer)


@pytest.mark.parametrize("transport", KeyTransport)
def test_every_key_transport_is_opened(transport: KeyTransport) -> None:
    content_key = secrets.token_bytes(32)
    wrapped = pki.rsa_key().public_key().encrypt(content_key, PADDINGS[transport])

    assert content_key == DECRYPTOR.unwrap(wrapped, transport)


@settings(max_examples=50, deadline=None)
@given(transport=st.sampled_from(KeyTransport), garbage=st.binary(max_size=300))
def test_garbage_opens_to_garbage_or_to_the_one_error(transport: KeyTransport, garbage: bytes) -> None:
    assert _outcome(garbage, transport) in ("opened", "the encrypted key does not open")


def _outcome(encrypted_key: bytes, transport: KeyTransport) -> str:
    try:
        DECRYPTOR.unwrap(encrypted_key, transport)
    except ValueError as error:
        return str(error)
    return "opened"


def test_a_wrong_oaep_digest_gives_the_one_error() -> None:
    wrapped = pki.rsa_key().public_key().encrypt(b"k" * 16, PADDINGS[KeyTransport.OAEP_SHA1])

    with pytest.raises(ValueError, match=r"^the encrypted key does not open$"):
        DECRYPTOR.unwrap(wrapped, KeyTransport.OAEP_SHA256)


@pytest.mark.parametrize("digest", HASHES)
def test_signatures_verify_with_the_certificate(directory: Path, digest: Digest) -> None:
    rsa_signer = load(directory).signer
    ec_signer = load_identity(
        "lab",
        certificate=directory / "ec.pem",
        key=directory / "ec.key",
        passphrase=PASSPHRASE,
        decryption_certificate=directory / "ra.pem",
        decryption_key=directory / "ra.key",
    ).signer
    ec_key = pki.key("ec:p256", 1)
    assert isinstance(ec_key, ec.EllipticCurvePrivateKey)

    by_rsa, by_ec = rsa_signer.sign(b"message", digest), ec_signer.sign(b"message", digest)

    pki.rsa_key().public_key().verify(by_rsa, b"message", padding.PKCS1v15(), HASHES[digest])
    ec_key.public_key().verify(by_ec, b"message", ec.ECDSA(HASHES[digest]))
