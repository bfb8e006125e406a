"""The contract against the real CFSSL, and what only a real one can tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import (
    AuthFailed,
    Issued,
    IssueRequest,
    IssueResult,
    KeyUsage,
    Misconfigured,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
    Services,
)
from connectors.testing import ConnectorContract
from ra.service.returned import check
from tests.fakes import pki
from tests.fakes.asking import COMMON_NAME, ORGANIZATION, SERIAL_NUMBER, issue, subject, use
from tests.fakes.asking import request as approved_request
from tests.fakes.cfssl_server import AUTH_KEY, CfsslServer, cfssl_server
from tests.fakes.connecting import Watched
from tests.fakes.simulated import now

pytestmark = pytest.mark.peer

REASONS = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}


class TestCfssl(ConnectorContract):
    kind = "cfssl"
    secrets = (AUTH_KEY,)
    ra_validity = timedelta(days=730)
    block: ClassVar[dict[str, Any]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, server: CfsslServer) -> None:
        cls.block = server.options(ra_profile="scep-ra")

    def options(self, directory: Path) -> dict[str, Any]:
        (directory / "auth.key").write_text(AUTH_KEY)
        return dict(self.block)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CfsslServer]:
    with cfssl_server(tmp_path_factory.mktemp("cfssl")) as running:
        yield running


@pytest.fixture
def services() -> Services:
    return replace(Watched({"file:auth.key": AUTH_KEY, "file:other.key": "ff" * 16}).services(), now=now)


def request(**contents: Any) -> IssueRequest:
    return approved_request(contents.pop("key", None), at=now(), **contents)


def ask(server: CfsslServer, services: Services, asked: IssueRequest, **options: Any) -> IssueResult:
    return issue("cfssl", server.options(**options), services, asked)


@pytest.mark.parametrize(
    "contents",
    [
        {"subject": subject((ORGANIZATION, "Exämple"), (COMMON_NAME, "device 1"), (SERIAL_NUMBER, "0017"))},
        {"subject_alternative_names": ()},
        {"subject_alternative_names": (San(SanKind.IP, "2001:db8::1"), San(SanKind.EMAIL, "a@example.org"))},
        {"subject": (), "subject_alternative_names": (San(SanKind.DNS, "*.example.org"),)},
        {"key": pki.key("ec:p256", 3), "key_usage": frozenset({KeyUsage.DIGITAL_SIGNATURE})},
    ],
    ids=["subject", "no names", "names", "names alone", "EC"],
)
def test_what_was_approved_comes_back(server: CfsslServer, services: Services, contents: dict[str, Any]) -> None:
    asked = request(**contents)

    result = ask(server, services, asked, signing_profile="scep-signing")

    assert isinstance(result, Issued), result
    check(result, result.chain[0], asked.contents, now())


def test_what_was_approved_takes_the_place_of_the_names_in_the_csr(server: CfsslServer, services: Services) -> None:
    other = request(
        subject=subject((COMMON_NAME, "other")), subject_alternative_names=(San(SanKind.DNS, "other.example.org"),)
    )
    asked = replace(request(), csr=other.csr)

    result = ask(server, services, asked)

    assert isinstance(result, Issued), result
    check(result, result.chain[0], asked.contents, now())


def test_a_profile_without_a_key_is_asked_without_one(server: CfsslServer, services: Services) -> None:
    result = ask(server, services, request(), auth_key=None, profile="open")

    assert isinstance(result, Issued)


@pytest.mark.parametrize("options", [{"auth_key": "file:other.key"}, {"auth_key": None}], ids=["wrong key", "no key"])
def test_a_wrong_key_is_the_operators_fault(server: CfsslServer, services: Services, options: dict[str, Any]) -> None:
    with pytest.raises(AuthFailed):
        ask(server, services, request(), **options)


def test_a_profile_that_is_unknown_is_found_before_anything_is_issued(server: CfsslServer, services: Services) -> None:
    with pytest.raises(Misconfigured, match='has no profile "scep-device"'):
        ask(server, services, request(), profile="scep-device")
    health = use("cfssl", server.options(signing_profile="nothing"), services, lambda connector: connector.health())

    assert not health.ready
    assert 'has no profile "nothing"' in health.detail


def test_a_profile_that_grants_more_time_than_was_approved_is_found_before_anything_is_issued(
    server: CfsslServer, services: Services
) -> None:
    with pytest.raises(Misconfigured, match="365 days, 0:00:00, and 30 days"):
        ask(server, services, request(), profile="long")


def test_a_name_that_the_profile_does_not_allow_is_refused(server: CfsslServer, services: Services) -> None:
    result = ask(server, services, request(), profile="fenced")

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.NAME


def test_a_csr_that_wants_to_be_a_ca_is_refused(server: CfsslServer, services: Services) -> None:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    csr = builder.sign(pki.rsa_key(), hashes.SHA256()).public_bytes(Encoding.DER)

    result = ask(server, services, replace(request(), csr=csr))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.POLICY


def test_a_broken_signature_is_the_devices_fault(server: CfsslServer, services: Services) -> None:
    asked = request()

    result = ask(server, services, replace(asked, csr=asked.csr[:-4] + b"\0\0\0\0"))

    assert isinstance(result, Rejected), result
    assert result.rejection is Rejection.CSR


@pytest.mark.parametrize("reason", RevocationReason)
def test_every_reason_is_taken_and_written_down(
    server: CfsslServer, services: Services, reason: RevocationReason
) -> None:
    result = ask(server, services, request())
    assert isinstance(result, Issued)

    async def revoke_twice(connector: Any) -> None:
        await connector.revoke(result.certificate, reason)
        await connector.revoke(result.certificate, reason)

    use("cfssl", server.options(), services, revoke_twice)

    serial = x509.load_der_x509_certificate(result.certificate).serial_number
    assert ("revoked", REASONS[reason]) == server.status_of(serial)


def test_what_cfssl_has_never_seen_cannot_be_revoked(server: CfsslServer, services: Services) -> None:
    stranger = pki.der(pki.root().issue(pki.rsa_key()))

    with pytest.raises(Misconfigured, match="not in CFSSL's database"):
        use(
            "cfssl",
            server.options(),
            services,
            lambda connector: connector.revoke(stranger, RevocationReason.SUPERSEDED),
        )


def test_the_profiles_validity_stands_where_it_is_shorter_than_what_was_approved(
    server: CfsslServer, services: Services
) -> None:
    asked = request(validity=timedelta(days=400))

    result = ask(server, services, asked)

    assert isinstance(result, Issued)
    not_after = x509.load_der_x509_certificate(result.certificate).not_valid_after_utc
    assert timedelta(days=29) < not_after - now() < timedelta(days=31)
