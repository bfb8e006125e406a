"""The ACME connector against Pebble: the contract, and what only a real server shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from connectors import registry
from connectors.acme import AcmeCa
from connectors.api import (
    AuthFailed,
    ConnectorError,
    Issued,
    IssueRequest,
    Misconfigured,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
)
from connectors.testing import ConnectorContract
from tests.fakes import pki
from tests.fakes.pebble import BLOCKED_DOMAIN, CA_ADDS, MAC_KEY, MAY_DROP, Behaviour, Pebble, running_pebble

NAME = "device-1.example.org"


class AcmeContract(ConnectorContract):
    """The contract, but for what an ACME server decides on by itself, which is declared."""

    kind = "acme"
    secrets = (MAC_KEY,)
    behaviour: ClassVar[Behaviour]
    pebble: ClassVar[Pebble]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with running_pebble(tmp_path_factory.mktemp("pebble"), cls.behaviour) as cls.pebble:
            cls.prepare(tmp_path_factory.mktemp("prepared"))
            yield

    @classmethod
    def prepare(cls, directory: Path) -> None:
        """What has to be done at the server beforehand."""

    def options(self, directory: Path) -> dict[str, Any]:
        return {**self.pebble.options(directory), "dns01": {"command": self.pebble.hook(directory)}}

    def test_the_certificate_has_the_approved_key_and_names(self, tmp_path: Path) -> None:
        request = self.request()

        _, issued = self.issued_once(tmp_path, request)

        certificate = x509.load_der_x509_certificate(issued.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        approved = {each.oid for rdn in request.contents.subject for each in rdn}
        found = {each.oid.dotted_string for each in certificate.subject}
        assert [NAME] == names.get_values_for_type(x509.DNSName)
        assert found - approved <= CA_ADDS
        assert approved - found <= MAY_DROP

    def test_the_certificate_is_good_for_nothing_that_was_not_approved(self, tmp_path: Path) -> None:
        request = self.request()

        _, issued = self.issued_once(tmp_path, request)

        extensions = x509.load_der_x509_certificate(issued.certificate).extensions
        extended = {each.dotted_string for each in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not usage.key_cert_sign
        assert not usage.crl_sign
        assert set(request.contents.extended_key_usage) <= extended
        assert extended - set(request.contents.extended_key_usage) <= CA_ADDS

    def issued_once(self, directory: Path, request: IssueRequest) -> tuple[AcmeCa, Issued]:
        async def issued(connector: AcmeCa) -> tuple[AcmeCa, Issued]:
            return connector, await self.issued(connector, request)

        found: tuple[AcmeCa, Issued] = self.run(directory, issued)
        return found

    def run(self, directory: Path, use: Callable[[AcmeCa], Awaitable[Any]], **options: Any) -> Any:
        """What `use` returns, with a connector that is open."""

        async def opened() -> Any:
            plugin = registry.load(self.kind)
            block = {**self.options(directory), **options}
            connector = await plugin.connect(plugin.options(**block), self.services(directory))
            assert isinstance(connector, AcmeCa)
            try:
                return await use(connector)
            finally:
                await connector.aclose()

        return asyncio.run(opened())


class TestPebbleThatProvesEveryName(AcmeContract):
    """Three good nonces of ten are refused, no authorization is used twice, and TXT records are looked up."""

    behaviour = Behaviour(nonce_reject_percent=30, alternate_roots=1)

    def test_the_record_is_set_and_removed(self, tmp_path: Path) -> None:
        self.issued_once(tmp_path, self.request())

        lines = (tmp_path / "hook.log").read_text().splitlines()
        assert [f"present _acme-challenge.{NAME}", f"cleanup _acme-challenge.{NAME}"] == lines

    def test_a_wildcard_is_proved_by_the_record_of_its_domain(self, tmp_path: Path) -> None:
        _, issued = self.issued_once(tmp_path, named("*.example.org"))

        names = x509.load_der_x509_certificate(issued.certificate).extensions
        found = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        assert ["*.example.org"] == found
        assert "present _acme-challenge.example.org\n" in (tmp_path / "hook.log").read_text()

    def test_a_record_that_is_not_there_is_the_operators_to_mend(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match=f"{NAME} is not proved to be ours.*No TXT records found"):
            self.run(tmp_path, lambda ca: ca.issue(self.request()), dns01={"command": ["true"]})

    def test_after_a_failed_proof_the_next_try_is_made_with_a_new_order(self, tmp_path: Path) -> None:
        request = self.request()
        with pytest.raises(ConnectorError):
            self.run(tmp_path, lambda ca: ca.issue(request), dns01={"command": ["true"]})

        assert isinstance(self.run(tmp_path, lambda ca: ca.issue(request)), Issued)

    def test_without_a_command_a_name_cannot_be_proved(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match=f"wants {NAME} to be proved"):
            self.run(tmp_path, lambda ca: ca.issue(self.request()), dns01=None)

    def test_an_ip_address_has_no_record(self, tmp_path: Path) -> None:
        request = self.request()
        contents = replace(request.contents, subject_alternative_names=(San(SanKind.IP, "192.0.2.1"),))

        with pytest.raises(Misconfigured, match=r"wants 192\.0\.2\.1 to be proved"):
            self.run(tmp_path, lambda ca: ca.issue(replace(request, contents=contents)))

    def test_a_forbidden_name_is_refused(self, tmp_path: Path) -> None:
        result = self.run(tmp_path, lambda ca: ca.issue(named(f"x.{BLOCKED_DOMAIN}")))

        assert isinstance(result, Rejected)
        assert Rejection.NAME is result.rejection
        assert BLOCKED_DOMAIN in result.detail

    def test_a_csr_with_other_names_than_were_approved_is_refused(self, tmp_path: Path) -> None:
        request = replace(self.request(), csr=named("device-2.example.org", NAME).csr)

        result = self.run(tmp_path, lambda ca: ca.issue(request))

        assert isinstance(result, Rejected)
        assert Rejection.CSR is result.rejection

    def test_another_chain_is_had_by_the_name_of_its_root(self, tmp_path: Path) -> None:
        root = x509.load_pem_x509_certificates(self.pebble.chain(1))[1]
        preferred = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value

        async def issued(connector: AcmeCa) -> Issued:
            return await self.issued(connector, self.request())

        first = self.run(tmp_path, issued)
        other = self.run(tmp_path, issued, preferred_chain=preferred)

        assert x509.load_der_x509_certificate(first.chain[-1]).issuer != root.subject
        assert x509.load_der_x509_certificate(other.chain[-1]).issuer == root.subject

    def test_revoking_twice_succeeds_and_the_server_knows_why(self, tmp_path: Path) -> None:
        async def revoked(connector: AcmeCa) -> x509.Certificate:
            issued = await self.issued(connector, self.request())
            await connector.revoke(issued.certificate, RevocationReason.SUPERSEDED)
            await connector.revoke(issued.certificate, RevocationReason.SUPERSEDED)
            return x509.load_der_x509_certificate(issued.certificate)

        status = self.pebble.status(self.run(tmp_path, revoked).serial_number)

        assert "Revoked" == status["Status"]
        assert 4 == status["Reason"]

    def test_another_accounts_certificate_is_not_ours_to_revoke(self, tmp_path: Path) -> None:
        for each in ("one", "two"):
            (tmp_path / each).mkdir()
        _, issued = self.issued_once(tmp_path / "one", self.request())

        with pytest.raises(AuthFailed):
            self.run(tmp_path / "two", lambda ca: ca.revoke(issued.certificate, RevocationReason.UNSPECIFIED))

    def test_the_account_is_found_again_by_its_key(self, tmp_path: Path) -> None:
        first = self.run(tmp_path, lambda ca: ca.health())
        second = self.run(tmp_path, lambda ca: ca.health(), eab_key_id=None, eab_hmac_key=None)

        assert first.ready
        assert first.detail == second.detail

    def test_an_account_without_a_binding_is_refused(self, tmp_path: Path) -> None:
        health = self.run(tmp_path, lambda ca: ca.health(), eab_key_id=None, eab_hmac_key=None)

        assert not health.ready
        assert "set eab_key_id and eab_hmac_key" in health.detail

    def test_a_binding_with_a_wrong_key_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "other.eab").write_text("d3Jvbmc")

        health = self.run(tmp_path, lambda ca: ca.health(), eab_hmac_key="file:other.eab")

        assert not health.ready

    def test_after_a_restart_a_request_still_has_its_certificate(self, tmp_path: Path) -> None:
        request = self.request()

        first = self.run(tmp_path, lambda ca: self.issued(ca, request))
        again = self.run(tmp_path, lambda ca: self.issued(ca, request))
        found = self.run(tmp_path, lambda ca: ca.find_issued(request, request.requested_at))

        assert first.certificate == again.certificate == found.certificate

    def test_requests_at_the_same_time_get_a_certificate_each(self, tmp_path: Path) -> None:
        requests = [named(f"device-{number}.example.org") for number in range(8)]

        async def all_issued(connector: AcmeCa) -> list[Issued]:
            return await asyncio.gather(*(self.issued(connector, each) for each in requests))

        issued = self.run(tmp_path, all_issued)

        assert len(requests) == len({each.certificate for each in issued})


class TestPebbleThatKnowsTheNames(AcmeContract):
    """The names are authorised for the account beforehand: no command is needed."""

    behaviour = Behaviour(authorization_reuse_percent=100)
    account: ClassVar[bytes]

    @classmethod
    def prepare(cls, directory: Path) -> None:
        block = {**cls.pebble.options(directory), "dns01": {"command": cls.pebble.hook(directory)}}
        cls().run(directory, lambda ca: ca.issue(cls().request()), **block)
        cls.account = (directory / "acme-account.key").read_bytes()

    def options(self, directory: Path) -> dict[str, Any]:
        if hasattr(self, "account") and not (directory / "acme-account.key").exists():
            (directory / "acme-account.key").touch(0o600)
            (directory / "acme-account.key").write_bytes(self.account)
        return self.pebble.options(directory)


def named(*names: str) -> IssueRequest:
    """A request for other names, with a key of its own."""
    key = pki.key("ec:p256", sum(map(ord, "".join(names))))
    alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
    csr = (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .add_extension(alternative, critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    request = AcmeContract().request()
    contents = replace(
        request.contents,
        subject=(),
        subject_alternative_names=tuple(San(SanKind.DNS, each) for each in names),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )
    return replace(request, csr=csr, contents=contents)
