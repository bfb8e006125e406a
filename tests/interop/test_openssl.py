"""OpenSSL and curl as judges of what the running RA answers: neither shares code with either of our codecs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ra.client.authority import read_ca_certificates
from tests.fakes.device import Device
from tests.interop.running import RunningRa
from tests.peers import require

pytestmark = pytest.mark.peer


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    program, *arguments = map(str, command)
    done = subprocess.run([require(program), *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_reads_the_capabilities(ra_server: RunningRa) -> None:
    said = run("curl", "--silent", "--show-error", "--fail", "--http1.0", f"{ra_server.url}?operation=GetCACaps")

    assert b"SCEPStandard" in said.splitlines()
    assert all(said.splitlines())


def test_openssl_reads_the_certificates_with_the_ra_first(ra_server: RunningRa) -> None:
    body = run("curl", "--silent", "--fail", f"{ra_server.url}?operation=GetCACert&message=any")

    said = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout", stdin=body).decode()

    subjects = [line for line in said.splitlines() if line.startswith("subject=")]
    assert "SCEP RA" in subjects[0]
    assert "scep-ra CA" in subjects[1]


def test_openssl_verifies_and_opens_a_reply(ra_server: RunningRa, tmp_path: Path) -> None:
    ca = read_ca_certificates(httpx.get(f"{ra_server.url}?operation=GetCACert").content)
    device = Device(subject="CN=openssl.example")
    message = device.enrol_message(ca, challenge=ra_server.challenge)
    reply = httpx.post(f"{ra_server.url}?operation=PKIOperation", content=message).content
    for name, data in {
        "reply.der": reply,
        "ra.pem": ca.signers[0].public_bytes(Encoding.PEM),
        "device.pem": device.signer.certificate.public_bytes(Encoding.PEM),
        "device.key": device.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }.items():
        (tmp_path / name).write_bytes(data)

    envelope = run(
        *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "reply.der"),
        *("-certfile", tmp_path / "ra.pem", "-CAfile", ra_server.ca_certificate, "-purpose", "any"),
    )
    decryption = ("-recip", tmp_path / "device.pem", "-inkey", tmp_path / "device.key")
    bag = run("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", *decryption, stdin=envelope)
    said = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout", stdin=bag).decode()

    assert "CN = openssl.example" in said
