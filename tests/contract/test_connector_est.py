"""The contract against a small EST server, which strongSwan's client has checked; and against a real one.

TEST_EST_URL and its companions name the real one: TEST_EST_CACERT, TEST_EST_LABEL, TEST_EST_USER, TEST_EST_PASSWORD,
TEST_EST_CERTIFICATE, TEST_EST_KEY. It has to issue what the device asks for, with digitalSignature, keyEncipherment and
clientAuth. pytest lets tests reach this machine alone: for a server elsewhere add
`--allow-hosts=127.0.0.1,localhost,ADDRESS`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.testing import ConnectorContract
from tests import peers
from tests.fakes import pki
from tests.fakes.connecting import TlsFiles, tls_files
from tests.fakes.est_server import PASSWORD, RA_LABEL, USER, EstServer, est_server
from tests.fakes.simulated import now

LIVE = {name: value for name, value in os.environ.items() if name.startswith("TEST_EST_")}  # noqa: TID251 - of the test run


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"), now())


class TestEst(ConnectorContract):
    """With a client certificate and a password."""

    kind = "est"
    secrets = (PASSWORD,)
    block: ClassVar[dict[str, Any]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, tls: TlsFiles) -> Iterator[None]:
        with est_server(tls) as server:
            server.wraps_lines = True
            mutual = {"client_certificate": tls.certificate, "client_key": tls.key}
            basic = {"user": USER, "password": "file:est.password"}
            cls.block = {"url": server.url, "ca_file": tls.ca, "ra_label": RA_LABEL, **mutual, **basic}
            yield

    def options(self, directory: Path) -> dict[str, Any]:
        (directory / "est.password").write_text(PASSWORD)
        return dict(self.block)


class TestEstThatTakesItsTime(TestEst):
    """Every certificate is asked for three times: twice the server says 202."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, tls: TlsFiles) -> Iterator[None]:
        with est_server(tls, asks_for_certificate=False) as server:
            cls.server = server
            cls.block = {"url": server.url, "ca_file": tls.ca, "ra_label": RA_LABEL, "user": USER}
            cls.block |= {"password": "file:est.password"}
            yield

    server: ClassVar[EstServer]

    def options(self, directory: Path) -> dict[str, Any]:
        self.server.pending = 2
        return super().options(directory)


@pytest.mark.skipif("TEST_EST_URL" not in LIVE, reason="TEST_EST_URL names no EST server")
class TestLiveEst(ConnectorContract):
    kind = "est"
    secrets = (LIVE.get("TEST_EST_PASSWORD", "no password"),)

    def options(self, directory: Path) -> dict[str, Any]:
        named = {
            "label": LIVE.get("TEST_EST_LABEL"),
            "ca_file": LIVE.get("TEST_EST_CACERT"),
            "user": LIVE.get("TEST_EST_USER"),
            "client_certificate": LIVE.get("TEST_EST_CERTIFICATE"),
            "client_key": LIVE.get("TEST_EST_KEY"),
        }
        if "TEST_EST_PASSWORD" in LIVE:
            (directory / "est.password").write_text(LIVE["TEST_EST_PASSWORD"])
            named["password"] = "file:est.password"
        return {"url": LIVE["TEST_EST_URL"], **{name: value for name, value in named.items() if value is not None}}


# ---------------------------------------------------------------- the double


@pytest.fixture(scope="module")
def rsa_tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """StrongSwan's `pki` knows no elliptic curves without its OpenSSL plugin."""
    return tls_files(tmp_path_factory.mktemp("tls"), now(), "rsa:2048")


def run_pki(*arguments: str | Path, given: bytes = b"") -> bytes:
    """StrongSwan's client; what it prints."""
    command = [peers.require("pki"), *map(str, arguments)]
    done = subprocess.run(command, input=given, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.peer
def test_strongswan_reads_the_doubles_ca_certificates(rsa_tls: TlsFiles, tmp_path: Path) -> None:
    with est_server(rsa_tls, asks_for_certificate=False, key_spec="rsa:2048") as server:
        run_pki("--estca", "--url", server.url, "--cacert", rsa_tls.ca, "--caout", tmp_path / "ca.der")

    found = {x509.load_der_x509_certificate(path.read_bytes()) for path in tmp_path.glob("ca*.der")}
    assert set(server.ca.chain) == found


@pytest.mark.peer
def test_strongswan_enrols_with_the_double_and_waits_where_it_is_told_to(rsa_tls: TlsFiles, tmp_path: Path) -> None:
    key, files = pki.rsa_key(), (tmp_path / "device.key", tmp_path / "ca.der", tmp_path / "root.der")
    files[0].write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    csr = run_pki("--req", "--in", files[0], "--type", "rsa", "--dn", "CN=device-1")

    with est_server(rsa_tls, asks_for_certificate=False, key_spec="rsa:2048") as server:
        files[1].write_bytes(server.ca.certificate.public_bytes(Encoding.DER))
        files[2].write_bytes(server.ca.root.public_bytes(Encoding.DER))
        server.pending, server.waiting = 1, "1"
        trusted = [word for each in (rsa_tls.ca, *files[1:]) for word in ("--cacert", each)]
        who = ["--userpass", f"{USER}:{PASSWORD}"]
        issued = run_pki("--est", "--url", server.url, *trusted, *who, "--interval", "1", given=csr)

    assert key.public_key() == x509.load_der_x509_certificate(issued).public_key()
    assert [csr, csr] == server.received
