from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from connectors import keyfiles
from connectors.api import Misconfigured, Secret
from tests.fakes import pki

PASSPHRASE = Secret("correct horse")


@pytest.mark.parametrize(
    ("key_spec", "bits"), [("rsa:2048", 2048), ("rsa:3072", 3072), ("ec:p256", 256), ("ec:p384", 384)]
)
def test_a_key_specification_makes_a_key_of_its_size(key_spec: str, bits: int) -> None:
    key = pki.key(key_spec)

    assert bits == key.key_size
    assert key_spec.startswith("rsa") == isinstance(key, rsa.RSAPrivateKey)


def test_an_unknown_key_specification_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match=r'"rsa:1024" is no key specification; write one of rsa:2048, .*ec:p384'):
        keyfiles.make_key("rsa:1024")


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None])
def test_a_written_key_is_read_again(tmp_path: Path, passphrase: Secret | None) -> None:
    key = pki.key("ec:p256")

    keyfiles.write_private_key(tmp_path / "key", key, passphrase)
    read = keyfiles.read_private_key(tmp_path / "key", passphrase)

    assert isinstance(read, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == read.private_numbers()
    assert 0o600 == (tmp_path / "key").stat().st_mode & 0o777


def test_a_key_is_encrypted_by_its_passphrase(tmp_path: Path) -> None:
    keyfiles.write_private_key(tmp_path / "key", pki.key("ec:p256"), PASSPHRASE)

    with pytest.raises(Misconfigured, match="wrong passphrase, or no PEM key"):
        keyfiles.read_private_key(tmp_path / "key", Secret("wrong"))
    with pytest.raises(Misconfigured, match="is encrypted and needs a passphrase"):
        keyfiles.read_private_key(tmp_path / "key", None)


def test_a_key_in_clear_is_refused_where_a_passphrase_is_configured(tmp_path: Path) -> None:
    keyfiles.write_private_key(tmp_path / "key", pki.key("ec:p256"), None)

    with pytest.raises(Misconfigured, match="is not encrypted"):
        keyfiles.read_private_key(tmp_path / "key", PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    keyfiles.write_private_key(tmp_path / "key", pki.key("ec:p256"), PASSPHRASE)
    (tmp_path / "key").chmod(mode)

    with pytest.raises(Misconfigured, match=rf"open to others .*mode {mode:04o}.*chmod 600"):
        keyfiles.read_private_key(tmp_path / "key", PASSPHRASE)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    secret = BestAvailableEncryption(PASSPHRASE.reveal().encode())
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(other)

    with pytest.raises(Misconfigured, match="neither RSA nor EC"):
        keyfiles.read_private_key(tmp_path / "key", PASSPHRASE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="absent cannot be read: No such file"):
        keyfiles.read_private_key(tmp_path / "absent", PASSPHRASE)
    with pytest.raises(Misconfigured, match="absent cannot be read: No such file"):
        keyfiles.read_certificates(tmp_path / "absent")


def test_existing_files_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")

    with pytest.raises(Misconfigured, match="there cannot be written: File exists"):
        keyfiles.write_private_key(tmp_path / "there", pki.key("ec:p256"), PASSPHRASE)
    with pytest.raises(Misconfigured, match="there cannot be written: File exists"):
        keyfiles.write_certificates(tmp_path / "there", [])

    assert "precious" == (tmp_path / "there").read_text()


def test_certificates_are_read_in_the_order_they_were_written(tmp_path: Path) -> None:
    ca = pki.root()
    leaf = ca.issue(pki.key("ec:p256", 1))

    keyfiles.write_certificates(tmp_path / "chain", [pki.der(leaf), pki.der(ca.certificate)])

    assert (leaf, ca.certificate) == keyfiles.read_certificates(tmp_path / "chain")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no line -----BEGIN CERTIFICATE-----"),
        (b"nonsense", "it has no line -----BEGIN CERTIFICATE-----"),
        (b"\x30\x82", "it is DER"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n",
            "what stands between its lines BEGIN and END is incomplete or damaged$",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
    ],
)
def test_a_file_without_certificates_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "chain").write_bytes(content)

    with pytest.raises(Misconfigured, match=f"no readable PEM certificate: {said}"):
        keyfiles.read_certificates(tmp_path / "chain")
