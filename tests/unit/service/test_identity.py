from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from connectors import internal, keyfiles
from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    Connector,
    ConnectorError,
    Issued,
    IssueResult,
    Pending,
    Rejected,
    Rejection,
    Secret,
    Services,
)
from connectors.internal.creation import create_ca
from ra.errors import Misconfigured, RaError, Unavailable
from ra.keyring.checks import examine
from ra.keyring.files import load_identity
from ra.service.identity import IdentityFiles, Wish, obtain
from tests.fakes import pki
from tests.fakes.connectors import ToldConnector

PASSPHRASE = Secret("correct horse")
WISH = Wish(name="lab", profile="default")


def entropy(octets: int) -> bytes:
    return b"\x55" * octets


async def ca(directory: Path) -> Connector:
    create_ca(directory, key_spec="ec:p256", name="Test CA", passphrase=PASSPHRASE, now=pki.NOW)
    services = Services(name="lab", directory=directory, now=lambda: pki.NOW, read_secret=lambda _: PASSPHRASE)
    return await internal.connect(internal.Options(), services)


def get(connector: Connector, directory: Path, wish: Wish = WISH) -> IdentityFiles:
    return asyncio.run(obtain(connector, wish, directory, passphrase=PASSPHRASE, now=pki.NOW, entropy=entropy))


@pytest.mark.parametrize(
    "wish",
    [
        WISH,
        Wish(name="lab", profile="default", decryption_key_spec="rsa:2048"),
        Wish(name="lab", profile="default", key_spec="ec:p256", decryption_key_spec="rsa:2048"),
    ],
    ids=["one key", "two keys", "an EC signing key"],
)
def test_what_is_obtained_passes_every_check_of_the_start(tmp_path: Path, wish: Wish) -> None:
    connector = asyncio.run(ca(tmp_path))

    files = get(connector, tmp_path, wish)

    identity = load_identity(
        "lab",
        certificate=files.certificate,
        key=files.key,
        passphrase=PASSPHRASE,
        decryption_certificate=files.decryption_certificate,
        decryption_key=files.decryption_key,
    )
    chain = asyncio.run(connector.ca_chain())
    assert () == examine(identity, chain, pki.NOW, entropy)
    assert (1 if wish is WISH else 2) == len(identity.certificates)


def test_the_certificate_is_one_that_windows_and_apple_accept(tmp_path: Path) -> None:
    files = get(asyncio.run(ca(tmp_path)), tmp_path)

    (certificate,) = keyfiles.read_certificates(files.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ["SCEP RA lab"] == [each.value for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert pki.RA_USAGE == usage
    assert pki.extended_key_usage(pki.SERVER_AUTH, "1.3.6.1.4.1.311.20.2.1") == extended
    assert pki.NOW + timedelta(days=730) == certificate.not_valid_after_utc


def test_its_keys_are_encrypted_and_for_the_owner_alone(tmp_path: Path) -> None:
    files = get(asyncio.run(ca(tmp_path)), tmp_path)

    mode = files.key.stat().st_mode & 0o777
    assert 0o600 == mode
    assert files.key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_separate_keys_have_one_usage_each(tmp_path: Path) -> None:
    wish = Wish(name="lab", profile="default", decryption_key_spec="rsa:2048")

    files = get(asyncio.run(ca(tmp_path)), tmp_path, wish)

    assert files.decryption_certificate is not None
    loaded = [keyfiles.read_certificates(each)[0] for each in (files.certificate, files.decryption_certificate)]
    usages = [each.extensions.get_extension_for_class(x509.KeyUsage).value for each in loaded]
    assert [pki.key_usage("digital_signature"), pki.key_usage("key_encipherment")] == usages


def test_a_ca_that_copies_from_the_csr_is_asked_for_the_same(tmp_path: Path) -> None:
    told = ToldConnector(Pending(reference="1", retry_after_seconds=9), (), Capability.RA_CERTIFICATE)

    with pytest.raises(Unavailable):
        get(told, tmp_path)

    csr = x509.load_der_x509_csr(told.requests[0].csr)
    assert csr.is_signature_valid
    assert "CN=SCEP RA lab" == csr.subject.rfc4514_string()
    assert pki.RA_USAGE == csr.extensions.get_extension_for_class(x509.KeyUsage).value
    assert told.requests[0].contents.extended_key_usage == tuple(
        each.dotted_string for each in csr.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    )


OTHERS = pki.root().issue(pki.rsa_key(1), name="SCEP RA lab", extended=pki.extended_key_usage(pki.SERVER_AUTH))


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Pending(reference="1", retry_after_seconds=9), Unavailable, "has not decided"),
        (Rejected(rejection=Rejection.NAME, detail="no such name here"), Misconfigured, "no such name here"),
        (BackendUnavailable("refused", maybe_issued=False), Unavailable, "cannot be asked"),
        (AuthFailed("bad token"), Misconfigured, "bad token"),
        (Issued(certificate=pki.der(OTHERS), chain=(), reference="1"), Misconfigured, "another key"),
    ],
    ids=["pending", "rejected", "unreachable", "no credentials", "somebody else's certificate"],
)
def test_without_a_certificate_nothing_is_written(
    tmp_path: Path, answer: IssueResult | ConnectorError, error: type[RaError], said: str
) -> None:
    told = ToldConnector(answer, pki.root().chain, Capability.RA_CERTIFICATE)

    with pytest.raises(error, match=said):
        get(told, tmp_path)

    assert [] == list(tmp_path.iterdir())


def test_a_ca_that_issues_no_ra_certificates_is_not_asked(tmp_path: Path) -> None:
    told = ToldConnector(AuthFailed("never asked"), ())

    with pytest.raises(Misconfigured, match="cannot issue the RA's certificate"):
        get(told, tmp_path)

    assert [] == told.requests


def test_an_ec_key_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="devices can seal to an RSA key alone, and ec:p256 is none"):
        get(asyncio.run(ca(tmp_path)), tmp_path, Wish(name="lab", profile="default", key_spec="ec:p256"))


def test_an_existing_identity_is_never_written_over(tmp_path: Path) -> None:
    connector = asyncio.run(ca(tmp_path))
    files = get(connector, tmp_path)
    before = files.key.read_bytes()

    with pytest.raises(Misconfigured, match="File exists"):
        get(connector, tmp_path)

    assert before == files.key.read_bytes()
