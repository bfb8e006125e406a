"""What every connector must do, as tests: subclass ConnectorContract in a pytest module, against a double or a live CA.

    class TestVault(ConnectorContract):
        kind = "vault"
        secrets = ("s.token",)

        def options(self, directory: Path) -> dict[str, Any]:
            return {"url": ..., "token": "file:token"}

`directory` is new for every test; what the connector needs to find there, `options` puts there. A test of a capability
that the connector does not have is skipped.
"""

# ruff: noqa: S101, SIM300 - tests speak by assert, what is expected first
from __future__ import annotations

import asyncio
import inspect
import re
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from connectors import registry
from connectors.api import (
    ApprovedContents,
    Capability,
    Connector,
    Issued,
    IssueRequest,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    Pending,
    RevocationReason,
    San,
    SanKind,
    Secret,
    Services,
)
from connectors.keyfiles import make_key

CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
_POLLS = 50
_RA = 99
"""The number of the RA among the devices."""
_CLOCK_SKEW = timedelta(hours=1)


@cache
def _device_key(number: int = 0) -> rsa.RSAPrivateKey:  # noqa: ARG001 - the number tells devices apart
    key = make_key("rsa:2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _csr(*dns_names: str, ca: bool, device: int = 0, name: str = "device-1") -> bytes:
    builder = x509.CertificateSigningRequestBuilder(_name(name))
    names = x509.SubjectAlternativeName([x509.DNSName(each) for each in dns_names])
    builder = builder.add_extension(names, critical=False)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(_device_key(device), hashes.SHA256()).public_bytes(Encoding.DER)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _with_connector(test: Callable[[Any, Connector], Awaitable[None]]) -> Callable[[Any, Path], None]:
    """Runs a test in an event loop of its own, with a connector that is open."""

    def run(self: ConnectorContract, tmp_path: Path) -> None:
        async def opened() -> None:
            async with self.connected(tmp_path) as connector:
                await test(self, connector)

        asyncio.run(opened())

    run.__doc__ = test.__doc__
    return run


class ConnectorContract:
    """The contract of connectors.api, to be subclassed once for each connector.

    Attributes:
        kind: what the registry finds the connector by.
        secrets: strings that must not show anywhere.
        ra_validity: what is approved for a certificate of the RA's own.
    """

    kind: ClassVar[str]
    secrets: ClassVar[tuple[str, ...]] = ()
    ra_validity: ClassVar[timedelta] = timedelta(days=30)

    def options(self, directory: Path) -> dict[str, Any]:
        """The connector's block of the configuration, without `type`."""
        raise NotImplementedError

    def services(self, directory: Path) -> Services:
        """What the connector is given; a secret reference reads a file below `directory`."""
        return Services(
            name=self.kind,
            directory=directory,
            now=lambda: datetime.now(UTC),  # noqa: TID251 - the contract may be run against a live CA
            read_secret=lambda reference: Secret((directory / reference.removeprefix("file:")).read_text().strip()),
        )

    def request(self, device: int = 0) -> IssueRequest:
        """One device's request, with an idempotency key of its own; every device has a key of its own."""
        contents = ApprovedContents(
            subject=((NameAttribute(NameOID.COMMON_NAME.dotted_string, "device-1"),),),
            subject_alternative_names=(San(SanKind.DNS, "device-1.example.org"),),
            spki=_device_key(device).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
            extended_key_usage=(CLIENT_AUTH,),
            validity=timedelta(days=30),
        )
        return IssueRequest(
            csr=_csr("device-1.example.org", ca=False, device=device),
            contents=contents,
            profile="default",
            idempotency_key=uuid4(),
            requested_at=self.services(Path()).now(),
        )

    async def connect(self, directory: Path) -> Connector:
        plugin = registry.load(self.kind)
        return await plugin.connect(plugin.options(**self.options(directory)), self.services(directory))

    @asynccontextmanager
    async def connected(self, directory: Path) -> AsyncIterator[Connector]:
        connector = await self.connect(directory)
        try:
            yield connector
        finally:
            await connector.aclose()

    async def issued(self, connector: Connector, request: IssueRequest) -> Issued:
        """The certificate of a request, polled for where the CA takes its time."""
        result = await connector.issue(request)
        for _ in range(_POLLS):
            if not isinstance(result, Pending):
                break
            result = await connector.poll(result.reference, request)
        assert isinstance(result, Issued), result
        return result

    async def certificate(self, connector: Connector, request: IssueRequest) -> x509.Certificate:
        return x509.load_der_x509_certificate((await self.issued(connector, request)).certificate)

    # ---------------------------------------------------------------- the plugin

    def test_unknown_options_are_refused(self, tmp_path: Path) -> None:
        plugin = registry.load(self.kind)
        block = self.options(tmp_path)

        with pytest.raises(pydantic.ValidationError):
            plugin.options(**block, no_such_option=1)

    def test_the_documented_configuration_is_valid(self) -> None:
        plugin = registry.load(self.kind)
        module = inspect.getmodule(plugin.connect)
        example = re.search(r"```toml\n(.*?)```", (module and module.__doc__) or "", re.DOTALL)

        assert example is not None, "the module's docstring shows no ```toml block"
        block = tomllib.loads(example[1])

        assert self.kind == block.pop("type")
        plugin.options(**block)

    def test_connecting_waits_for_nothing(self, tmp_path: Path) -> None:
        """No request is sent before the first call, so that a CA that is down does not stop the start."""

        async def connect_at_once() -> Connector:
            try:
                self.connect(tmp_path).send(None)  # driven by hand: the first wait would come out here
            except StopIteration as finished:
                connector: Connector = finished.value
                return connector
            pytest.fail("connect() waited for something")

        async def connect_and_close() -> None:
            await (await connect_at_once()).aclose()

        asyncio.run(connect_and_close())

    @_with_connector
    async def test_closing_twice_does_no_harm(self, connector: Connector) -> None:
        await connector.aclose()

    def test_no_secret_shows(self, tmp_path: Path) -> None:
        async def representations() -> str:
            options = registry.load(self.kind).options(**self.options(tmp_path))
            async with self.connected(tmp_path) as connector:
                return repr(options) + str(options) + repr(connector) + str(connector)

        shown = asyncio.run(representations())

        for secret in self.secrets:
            assert secret not in shown

    @_with_connector
    async def test_what_it_cannot_do_it_refuses_as_misconfigured(self, connector: Connector) -> None:
        request = self.request()
        calls: dict[Capability, Callable[[], Awaitable[object]]] = {
            Capability.POLL: lambda: connector.poll("1", request),
            Capability.FIND_ISSUED: lambda: connector.find_issued(request, request.requested_at),
            Capability.REVOKE: lambda: connector.revoke(b"", RevocationReason.UNSPECIFIED),
            Capability.CRL: connector.crl,
            Capability.GET_CERTIFICATE: lambda: connector.get_certificate(1),
            Capability.NEXT_CA: connector.next_ca,
            Capability.SIGN_NEXT_CA: lambda: connector.sign_next_ca(b""),
        }

        for capability in calls.keys() - connector.capabilities:
            with pytest.raises(Misconfigured):
                await calls[capability]()

    @_with_connector
    async def test_it_is_ready(self, connector: Connector) -> None:
        health = await connector.health()

        assert health.ready, health.detail

    @_with_connector
    async def test_a_rehearsal_finds_nothing_wrong(self, connector: Connector) -> None:
        await connector.rehearse()

    # ---------------------------------------------------------------- issuing

    @_with_connector
    async def test_the_certificate_has_the_approved_key_and_names(self, connector: Connector) -> None:
        request = self.request()

        certificate = await self.certificate(connector, request)

        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert request.contents.spki == key
        assert _name("device-1") == certificate.subject
        assert ["device-1.example.org"] == names.get_values_for_type(x509.DNSName)

    @_with_connector
    async def test_the_certificate_is_good_for_nothing_that_was_not_approved(self, connector: Connector) -> None:
        certificate = await self.certificate(connector, self.request())

        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert not _is_ca(certificate)
        assert not usage.key_cert_sign
        assert not usage.crl_sign
        assert [CLIENT_AUTH] == [each.dotted_string for each in extended]

    @_with_connector
    async def test_two_requests_get_two_serial_numbers(self, connector: Connector) -> None:
        first = await self.certificate(connector, self.request())
        second = await self.certificate(connector, self.request())

        assert first.serial_number != second.serial_number

    @_with_connector
    async def test_the_chain_leads_from_the_certificate_upwards(self, connector: Connector) -> None:
        issued = await self.issued(connector, self.request())

        chain = await connector.ca_chain()

        assert issued.chain[0] == chain[0]
        path = [x509.load_der_x509_certificate(each) for each in (issued.certificate, *chain)]
        for below, above in pairwise(path):
            below.verify_directly_issued_by(above)

    @_with_connector
    async def test_idempotent_the_same_request_gets_the_same_certificate(self, connector: Connector) -> None:
        _needs(connector, Capability.IDEMPOTENT)
        request = self.request()

        first = await self.issued(connector, request)
        second = await self.issued(connector, request)

        assert first.certificate == second.certificate

    @_with_connector
    async def test_explicit_contents_what_the_csr_asks_for_beyond_is_not_granted(self, connector: Connector) -> None:
        _needs(connector, Capability.EXPLICIT_CONTENTS)
        request = replace(self.request(), csr=_csr("device-1.example.org", "login.example.org", ca=True))

        certificate = await self.certificate(connector, request)

        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert ["device-1.example.org"] == names.get_values_for_type(x509.DNSName)
        assert not _is_ca(certificate)

    @_with_connector
    async def test_not_after_the_approved_validity_is_kept(self, connector: Connector) -> None:
        _needs(connector, Capability.NOT_AFTER)
        request = self.request()

        certificate = await self.certificate(connector, request)

        wanted = request.requested_at + request.contents.validity
        assert abs(certificate.not_valid_after_utc - wanted) < _CLOCK_SKEW

    @_with_connector
    async def test_ra_certificate_one_with_both_key_usages_is_issued(self, connector: Connector) -> None:
        _needs(connector, Capability.RA_CERTIFICATE)
        usages = (SERVER_AUTH, CERTIFICATE_REQUEST_AGENT)
        # Key and name are nobody else's: there are CAs that refuse both to a second owner.
        request = self.request(device=_RA)
        contents = replace(
            request.contents,
            subject=((NameAttribute(NameOID.COMMON_NAME.dotted_string, "scep-ra"),),),
            extended_key_usage=usages,
            validity=self.ra_validity,
        )
        csr = _csr("device-1.example.org", ca=False, device=_RA, name="scep-ra")
        request = replace(request, csr=csr, contents=contents)

        certificate = await self.certificate(connector, request)

        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found = {each.dotted_string for each in extended}
        assert {*usages} - connector.may_drop <= found <= {*usages} | connector.ca_adds
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert usage.key_encipherment

    # ---------------------------------------------------------------- afterwards

    @_with_connector
    async def test_revoke_twice_succeeds_and_the_crl_says_so(self, connector: Connector) -> None:
        _needs(connector, Capability.REVOKE, Capability.CRL)
        issued = await self.issued(connector, self.request())
        serial = x509.load_der_x509_certificate(issued.certificate).serial_number

        before = x509.load_der_x509_crl(await connector.crl())
        await connector.revoke(issued.certificate, RevocationReason.SUPERSEDED)
        await connector.revoke(issued.certificate, RevocationReason.SUPERSEDED)
        after = x509.load_der_x509_crl(await connector.crl())

        assert before.get_revoked_certificate_by_serial_number(serial) is None
        assert after.get_revoked_certificate_by_serial_number(serial) is not None

    @_with_connector
    async def test_find_issued_finds_what_was_issued_and_nothing_else(self, connector: Connector) -> None:
        _needs(connector, Capability.FIND_ISSUED)
        request, other = self.request(device=1), self.request(device=2)

        issued = await self.issued(connector, request)
        found = await connector.find_issued(request, request.requested_at)

        assert found is not None
        assert issued.certificate == found.certificate
        assert await connector.find_issued(other, other.requested_at) is None

    @_with_connector
    async def test_get_certificate_knows_what_was_issued(self, connector: Connector) -> None:
        _needs(connector, Capability.GET_CERTIFICATE)
        certificate = await self.certificate(connector, self.request())

        state = await connector.get_certificate(certificate.serial_number)

        assert state is not None
        assert state.revoked_at is None
        assert await connector.get_certificate(certificate.serial_number ^ 1) is None


def _is_ca(certificate: x509.Certificate) -> bool:
    """RFC 5280 §4.2.1.9: in an end entity's certificate the extension may be absent."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _needs(connector: Connector, *capabilities: Capability) -> None:
    missing = ", ".join(each.value for each in capabilities if each not in connector.capabilities)
    if missing:
        pytest.skip(f"the connector cannot do {missing}")
