"""The client against a server nobody here wrote: micromdm's scepserver, which answers with single DES."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from ra.client.algorithms import Algorithms
from ra.client.client import Enrolled, ScepClient
from ra.client.csr import read_general_name, read_subject, write_csr
from ra.client.errors import RequestFailed, TooWeak
from ra.client.names import Cipher, Digest, FailInfo
from tests import peers
from tests.fakes.device import pooled_key

pytestmark = pytest.mark.peer

KEY, NEW_KEY = pooled_key(0), pooled_key(1)
SUBJECT = read_subject("CN=device.example,O=Example")


def csr(challenge: str = "secret") -> bytes:
    names = [read_general_name("dns:device.example")]
    return write_csr(KEY, SUBJECT, subject_alternative_names=names, challenge_password=challenge)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = peers.require("scepserver")
    depot = tmp_path_factory.mktemp("scepserver") / "depot"
    create = [program, "ca", "-init", "-depot", str(depot), "-keySize", "2048"]
    subprocess.run(create, check=True, capture_output=True)
    with subprocess.Popen(
        [program, "-depot", str(depot), "-port", (port := _free_port()), "-challenge", "secret", "-allowrenew", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        yield f"http://127.0.0.1:{port}/scep"
        server.terminate()


def client(url: str, *, legacy: bool = True, algorithms: Algorithms | None = None) -> ScepClient:
    http = httpx.Client(transport=httpx.HTTPTransport(retries=8))
    return ScepClient(url, http, legacy=legacy, algorithms=algorithms)


def test_capabilities_and_the_ca_are_read(url: str) -> None:
    with client(url) as scep:
        assert "SCEPStandard" in scep.caps()
        assert scep.ca_certificates().recipients == scep.ca_certificates().signers


@pytest.mark.parametrize(
    "algorithms",
    [None, Algorithms(digest=Digest.SHA1, cipher=Cipher.DES_CBC), Algorithms(cipher=Cipher.AES256_CBC)],
    ids=["chosen", "sha1+des", "sha256+aes256"],
)
def test_a_device_enrols(url: str, algorithms: Algorithms | None) -> None:
    with client(url, algorithms=algorithms) as scep:
        enrolled = scep.enrol(KEY, csr())

    assert isinstance(enrolled, Enrolled)
    assert SUBJECT == enrolled.certificate.subject


def test_a_device_renews(url: str) -> None:
    with client(url) as scep:
        first = scep.enrol(KEY, csr())
        assert isinstance(first, Enrolled)
        # This server wants the challenge again (RenewalReq is treated as PKCSReq).
        second = scep.renew(first.signer, NEW_KEY, write_csr(NEW_KEY, SUBJECT, challenge_password="secret"))

    assert isinstance(second, Enrolled)
    assert NEW_KEY.public_key() == second.certificate.public_key()


def test_a_wrong_challenge_is_refused_with_a_signed_reason(url: str) -> None:
    with client(url) as scep, pytest.raises(RequestFailed) as caught:
        scep.enrol(KEY, csr(challenge="wrong"))

    assert FailInfo.BAD_REQUEST is caught.value.fail_info


def test_its_single_des_is_below_the_floor(url: str) -> None:
    with client(url, legacy=False) as scep, pytest.raises(TooWeak, match=re.escape("made with des")):
        scep.enrol(KEY, csr())


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
