"""Five clients that others wrote, against the running RA."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import (
    CLIENTS,
    Client,
    Order,
    Refused,
    enrol_with_scepclient_2_1,
    enrol_with_strongswan_and_aes,
)
from tests.interop.running import RunningRa
from tests.peers import require

pytestmark = pytest.mark.peer

every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@every_client
@pytest.mark.rfc8894("mandatory-enrolment")
def test_a_real_client_enrols(client: Client, ra_server: RunningRa, tmp_path: Path) -> None:
    for program in client.programs:
        require(program)
    order = Order(ra_server.url_of(client.profile), ra_server.challenge, tmp_path, "interop.example")

    certificate = client.enrol(order)

    openssl("verify", "-x509_strict", "-CAfile", ra_server.ca_certificate, certificate)
    key = tmp_path / "key.pem"
    assert "success" == ra_server.outcomes[-1]
    assert openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-in", certificate, "-noout", "-pubkey")
    assert "interop.example" in openssl("x509", "-in", certificate, "-noout", "-subject")


@every_client
def test_a_real_client_understands_the_refusal_of_a_wrong_challenge(
    client: Client, ra_server: RunningRa, tmp_path: Path
) -> None:
    for program in client.programs:
        require(program)
    order = Order(ra_server.url_of(client.profile), "not-the-challenge", tmp_path, "interop.example")

    with pytest.raises(Refused):
        client.enrol(order)

    assert "CHALLENGE_REFUSED" == ra_server.outcomes[-1]
    assert not (tmp_path / "certificate.pem").exists()


@pytest.mark.rfc8894("no-des-no-md5")
def test_single_des_and_sha_1_are_refused_where_they_are_not_let_in(ra_server: RunningRa, tmp_path: Path) -> None:
    require("scepclient")
    order = Order(ra_server.url_of("default"), ra_server.challenge, tmp_path, "interop.example")

    with pytest.raises(Refused, match="badAlg"):
        enrol_with_scepclient_2_1(order)


def test_scepclient_enrols_where_the_profile_is_preset_for_it(ra_server: RunningRa, tmp_path: Path) -> None:
    require("scepclient")

    order = Order(ra_server.url_of("ancient"), ra_server.challenge, tmp_path, "interop.example")
    certificate = x509.load_pem_x509_certificate(enrol_with_scepclient_2_1(order).read_bytes())

    assert certificate.subject.rfc4514_string().startswith("CN=interop.example,")


def test_strongswan_of_old_uses_aes_where_the_profile_is_preset_for_it(ra_server: RunningRa, tmp_path: Path) -> None:
    require("pki")

    order = Order(ra_server.url_of("complete"), ra_server.challenge, tmp_path, "interop.example")
    certificate = x509.load_pem_x509_certificate(enrol_with_strongswan_and_aes(order).read_bytes())

    assert "CN=interop.example" == certificate.subject.rfc4514_string()


def test_certmonger_reads_the_capabilities(ra_server: RunningRa) -> None:
    command = [require("scep-submit"), "-u", ra_server.url, "-c"]

    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert {"AES", "POSTPKIOperation", "SHA-256", "SCEPStandard"} <= set(said.split())


def test_certmonger_takes_the_ra_from_the_certificates_by_its_usage(ra_server: RunningRa, tmp_path: Path) -> None:
    command = [require("scep-submit"), "-u", ra_server.url, "-C"]

    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first, second = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", said, re.DOTALL)[:2]
    (tmp_path / "first.pem").write_text(first)
    (tmp_path / "second.pem").write_text(second)
    assert "Key Encipherment" in openssl("x509", "-in", tmp_path / "first.pem", "-noout", "-ext", "keyUsage")
    assert "CA:TRUE" in openssl("x509", "-in", tmp_path / "second.pem", "-noout", "-ext", "basicConstraints")
