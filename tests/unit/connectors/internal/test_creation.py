from __future__ import annotations

import asyncio
import subprocess
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import internal, keyfiles
from connectors.api import (
    ApprovedContents,
    Issued,
    IssueRequest,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    RevocationReason,
    San,
    SanKind,
    Secret,
    Services,
)
from connectors.internal.creation import CaFiles, create_ca
from tests.fakes import pki

PASSPHRASE = Secret("correct horse")


def create(directory: Path, key_spec: str = "ec:p256") -> CaFiles:
    return create_ca(directory, key_spec=key_spec, name="Test CA", passphrase=PASSPHRASE, now=pki.NOW)


def test_a_new_ca_is_a_root_that_issues_end_entities_alone(tmp_path: Path) -> None:
    files = create(tmp_path)

    (root,) = keyfiles.read_certificates(files.certificate)
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    root.verify_directly_issued_by(root)
    assert x509.BasicConstraints(ca=True, path_length=0) == basic.value
    assert pki.key_usage("key_cert_sign", "crl_sign") == usage.value
    assert [True, True] == [basic.critical, usage.critical]
    assert pki.NOW + timedelta(days=3650) == root.not_valid_after_utc


def test_its_key_is_encrypted_and_for_the_owner_alone(tmp_path: Path) -> None:
    files = create(tmp_path)

    mode = files.key.stat().st_mode & 0o777
    assert 0o600 == mode
    assert files.key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    keyfiles.read_private_key(files.key, PASSPHRASE)


def test_an_existing_ca_is_never_written_over(tmp_path: Path) -> None:
    files = create(tmp_path)
    before = files.key.read_bytes()

    with pytest.raises(Misconfigured, match="File exists"):
        create(tmp_path)

    assert before == files.key.read_bytes()


def test_an_unknown_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="is no key specification"):
        create(tmp_path, "dsa:1024")

    assert [] == list(tmp_path.iterdir())


async def _issue_and_revoke(directory: Path) -> None:
    """Leaves leaf.pem, and crl.pem on which another certificate stands."""
    options = internal.Options(aia_url="http://ca.example/ca.crt", crl_urls=("http://ca.example/ca.crl",))
    services = Services(name="lab", directory=directory, now=lambda: pki.NOW, read_secret=lambda _: PASSPHRASE)
    ca = await internal.connect(options, services)
    leaf, revoked = [await ca.issue(_request(number)) for number in (1, 2)]
    assert isinstance(leaf, Issued)
    assert isinstance(revoked, Issued)
    await ca.revoke(revoked.certificate, RevocationReason.KEY_COMPROMISE)
    keyfiles.write_certificates(directory / "leaf.pem", [leaf.certificate])
    keyfiles.write_certificates(directory / "revoked.pem", [revoked.certificate])
    (directory / "crl.pem").write_bytes(x509.load_der_x509_crl(await ca.crl()).public_bytes(Encoding.PEM))


def _request(number: int) -> IssueRequest:
    contents = ApprovedContents(
        subject=((NameAttribute("2.5.4.3", f"device-{number}"),),),
        subject_alternative_names=(San(SanKind.DNS, "device.example.org"), San(SanKind.UPN, "device@example.org")),
        spki=pki.rsa_key(number).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
        extended_key_usage=("1.3.6.1.5.5.7.3.2",),
        validity=timedelta(days=365),
        sid="S-1-5-21-1-2-3-1104",
    )
    return IssueRequest(csr=b"", contents=contents, profile="x", idempotency_key=UUID(int=number), requested_at=pki.NOW)


def openssl(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("key_spec", ["rsa:2048", "rsa:3072", "ec:p256", "ec:p384"])
def test_openssl_accepts_what_it_issues_and_refuses_what_it_revoked(tmp_path: Path, key_spec: str) -> None:
    create(tmp_path, key_spec)
    asyncio.run(_issue_and_revoke(tmp_path))
    verify = ("verify", "-x509_strict", "-attime", str(int(pki.NOW.timestamp())), "-CAfile", "ca.pem")

    plain = openssl(tmp_path, *verify, "leaf.pem")
    checked = openssl(tmp_path, *verify, "-crl_check", "-CRLfile", "crl.pem", "leaf.pem")
    revoked = openssl(tmp_path, *verify, "-crl_check", "-CRLfile", "crl.pem", "revoked.pem")

    assert "leaf.pem: OK\n" == plain.stdout, plain.stderr
    assert "leaf.pem: OK\n" == checked.stdout, checked.stderr
    assert "certificate revoked" in revoked.stderr


def test_openssl_reads_every_extension(tmp_path: Path) -> None:
    create(tmp_path)
    asyncio.run(_issue_and_revoke(tmp_path))

    text = openssl(tmp_path, "x509", "-in", "leaf.pem", "-noout", "-text").stdout

    for expected in (
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment",
        "TLS Web Client Authentication",
        "DNS:device.example.org, othername: UPN::device@example.org",
        "CA Issuers - URI:http://ca.example/ca.crt",
        "URI:http://ca.example/ca.crl",
        "S-1-5-21-1-2-3-1104",
    ):
        assert expected in text
