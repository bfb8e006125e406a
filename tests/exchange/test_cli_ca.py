"""`scep-ra ca`: what a CA publishes, for a web server to hand on."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import RevocationReason
from ra.bootstrap.plugins import Surroundings, connect_connector
from ra.cli.app import run
from ra.settings.load import load
from tests.fakes.configured import with_connector
from tests.interop.running import clean_environment


@pytest.fixture
def config(directory: Path) -> Path:
    return directory / "ra.toml"


def revoke_the_ra(config: Path) -> int:
    """Revokes the one certificate there is; returns its serial number."""
    certificate = x509.load_pem_x509_certificate((config.parent / "ra.pem").read_bytes())

    async def revoke() -> None:
        connector = await connect_connector(load(config), "lab", Surroundings())
        await connector.revoke(certificate.public_bytes(Encoding.DER), RevocationReason.SUPERSEDED)

    asyncio.run(revoke())
    return certificate.serial_number


def printed(*arguments: str) -> bytes:
    """What a process of its own writes."""
    command = [sys.executable, "-m", "ra", "ca", *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, check=True).stdout


def test_the_crl_is_printed_as_pem(config: Path) -> None:
    crl = x509.load_pem_x509_crl(printed("crl", "--config", str(config)))

    authority = x509.load_pem_x509_certificate((config.parent / "ca.pem").read_bytes())
    assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # of a CA: RSA or EC


def test_a_file_is_replaced_with_the_new_crl(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "ca.crl"
    arguments = ["ca", "crl", "--config", str(config), "--der", "--out", str(out)]
    assert 0 == run(arguments)
    before = x509.load_der_x509_crl(out.read_bytes())

    serial = revoke_the_ra(config)
    assert 0 == run(arguments)

    after = x509.load_der_x509_crl(out.read_bytes())
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    assert after.get_revoked_certificate_by_serial_number(serial) is not None
    assert 0o644 == out.stat().st_mode & 0o777
    assert [out] == [each for each in tmp_path.iterdir() if "crl" in each.name]


def test_json_has_the_crl_and_what_it_says(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    revoke_the_ra(config)
    capsys.readouterr()

    code = run(["ca", "crl", "--config", str(config), "--der", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert 0 == code
    assert 1 == told["revoked"] == len(x509.load_der_x509_crl(base64.b64decode(told["der"])))


def test_the_chain_begins_with_the_issuing_ca(config: Path) -> None:
    assert (config.parent / "ca.pem").read_bytes() == printed("chain", "--config", str(config))


def test_a_connector_that_is_not_there_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["ca", "crl", "--config", str(config), "--connector", "nowhere"])

    assert 2 == code
    assert "there is no connector nowhere; the configuration has lab" in capsys.readouterr().err


def test_a_ca_that_has_no_crl_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "password").write_text("secret")
    options = {"url": "http://127.0.0.1:9", "user": "ra", "password": "file:password"}
    with_connector(config.parent, "est", options)

    code = run(["ca", "crl", "--config", str(config)])

    assert 2 == code
    assert "connectors.lab: this CA cannot be asked for its crl" in capsys.readouterr().err
