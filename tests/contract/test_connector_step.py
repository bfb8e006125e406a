"""The contract against the real step-ca, with either kind of provisioner, and what only a real one can tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

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
from tests.fakes.asking import (
    CERTIFICATE_REQUEST_AGENT,
    COMMON_NAME,
    ORGANIZATION,
    SERVER_AUTH,
    USER_ID,
    issue,
    subject,
    use,
)
from tests.fakes.asking import request as approved_request
from tests.fakes.connecting import Watched
from tests.fakes.simulated import now
from tests.fakes.step_ca_server import PASSPHRASE, StepCaServer, step_ca_server

pytestmark = pytest.mark.peer


class _StepCa(ConnectorContract):
    kind = "step"
    secrets = (PASSPHRASE,)
    provisioner: ClassVar[tuple[str, str]]
    block: ClassVar[dict[str, Any]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, server: StepCaServer) -> None:
        cls.block = server.options(*cls.provisioner, publishes_crl=True)

    def options(self, directory: Path) -> dict[str, Any]:
        (directory / "passphrase").write_text(PASSPHRASE)
        return dict(self.block)


class TestJwkProvisioner(_StepCa):
    provisioner = ("jwk", "scep-ra")


class TestX5cProvisioner(_StepCa):
    provisioner = ("x5c", "scep-ra x5c")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepCaServer]:
    with step_ca_server(tmp_path_factory.mktemp("step-ca")) as running:
        yield running


@pytest.fixture
def services() -> Services:
    return replace(Watched({"file:passphrase": PASSPHRASE}).services(), now=now)


def request(**contents: Any) -> IssueRequest:
    return approved_request(contents.pop("key", None), at=now(), **contents)


def ask(server: StepCaServer, services: Services, asked: IssueRequest, **options: Any) -> IssueResult:
    return issue("step", server.options(**options), services, asked)


@pytest.mark.parametrize(
    "contents",
    [
        {"subject": subject((ORGANIZATION, "Exämple"), (COMMON_NAME, "device 1, of 2"), (USER_ID, "0017"))},
        {"subject_alternative_names": ()},
        {"subject": (), "subject_alternative_names": (San(SanKind.IP, "2001:db8::1"), San(SanKind.URI, "urn:x:1"))},
        {"subject_alternative_names": (San(SanKind.UPN, "a@example.org"), San(SanKind.EMAIL, "b@example.org"))},
        {"sid": "S-1-5-21-1-2-3-4"},
        {"extended_key_usage": (SERVER_AUTH, CERTIFICATE_REQUEST_AGENT)},
        {"key": pki.key("ec:p256", 3), "key_usage": frozenset({KeyUsage.DIGITAL_SIGNATURE})},
        {"key_usage": frozenset({KeyUsage.CONTENT_COMMITMENT, KeyUsage.KEY_AGREEMENT})},
        {"validity": timedelta(hours=2)},
    ],
    ids=["subject", "no names", "names alone", "UPN", "SID", "RA", "EC", "usages", "short"],
)
def test_the_documented_template_writes_all_that_was_approved(
    server: StepCaServer, services: Services, contents: dict[str, Any]
) -> None:
    asked = request(**contents)

    result = ask(server, services, asked)

    assert isinstance(result, Issued), result
    check(result, result.chain[0], asked.contents, now())


def test_a_subject_keeps_its_order(server: StepCaServer, services: Services) -> None:
    asked = request(subject=subject((USER_ID, "0017"), (COMMON_NAME, "device-1"), (ORGANIZATION, "Example")))

    result = ask(server, services, asked)

    assert isinstance(result, Issued)
    found = x509.load_der_x509_certificate(result.certificate).subject
    assert [USER_ID, COMMON_NAME, ORGANIZATION] == [each.oid.dotted_string for each in found]


def test_the_default_template_grants_server_authentication_as_well(server: StepCaServer, services: Services) -> None:
    asked = request()

    result = ask(server, services, asked, name="plain", template="default")

    assert isinstance(result, Issued)
    both = replace(asked.contents, extended_key_usage=(SERVER_AUTH, *asked.contents.extended_key_usage))
    check(result, result.chain[0], both, now())


def test_a_csr_with_other_names_than_were_approved_is_refused_by_the_default_template(
    server: StepCaServer, services: Services
) -> None:
    other = request(subject_alternative_names=(San(SanKind.DNS, "other.example.org"),))

    result = ask(server, services, replace(request(), csr=other.csr), name="plain", template="default")

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.NAME
    assert "does not contain the valid DNS names" in result.detail


def test_a_broken_signature_is_the_devices_fault(server: StepCaServer, services: Services) -> None:
    asked = request()

    result = ask(server, services, replace(asked, csr=asked.csr[:-4] + b"\0\0\0\0"))

    assert isinstance(result, Rejected), result
    assert result.rejection is Rejection.CSR


def test_a_longer_validity_than_the_provisioner_grants_is_the_operators_fault(
    server: StepCaServer, services: Services
) -> None:
    with pytest.raises(Misconfigured, match="more than the authorized maximum"):
        ask(server, services, request(validity=timedelta(days=90)))


def test_a_key_that_is_not_the_provisioners_is_not_accepted(
    server: StepCaServer, services: Services, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(
        pki.key("ec:p256", 9).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "key").chmod(0o600)
    block = server.options() | {"provisioner": {"type": "jwk", "name": "scep-ra", "key": tmp_path / "key"}}

    with pytest.raises(AuthFailed):
        issue("step", block, services, request())
    health = use("step", block, services, lambda connector: connector.health())

    assert not health.ready
    assert "with our key" in health.detail


def test_a_provisioner_without_a_template_is_found_before_a_device_comes(
    server: StepCaServer, services: Services
) -> None:
    health = use("step", server.options(name="plain"), services, lambda connector: connector.health())

    assert not health.ready
    assert "has no template" in health.detail


@pytest.mark.parametrize("reason", RevocationReason)
def test_every_reason_is_taken(server: StepCaServer, services: Services, reason: RevocationReason) -> None:
    result = ask(server, services, request())
    assert isinstance(result, Issued)

    async def revoke(connector: Any) -> x509.RevokedCertificate | None:
        await connector.revoke(result.certificate, reason)
        crl = x509.load_der_x509_crl(await connector.crl())
        serial = x509.load_der_x509_certificate(result.certificate).serial_number
        found: x509.RevokedCertificate | None = crl.get_revoked_certificate_by_serial_number(serial)
        return found

    revoked = use("step", server.options(publishes_crl=True), services, revoke)

    assert revoked is not None
