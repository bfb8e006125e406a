"""GetCert and GetCRL over a real journal and both codecs: who may ask, and for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import BackendUnavailable, Capability, CertificateState, RevocationReason
from ra.client import replies
from ra.client.identifiers import issuer_and_serial
from ra.client.names import FailInfo, MessageType
from ra.errors import Misconfigured, Unavailable
from ra.journal import settle
from ra.policy.profile import Profile
from ra.service.crls import REFRESH
from ra.service.retrieve import insist_on_source
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, FLOOR_SECONDS, Assembled, assembled
from tests.fakes.clock import FakeClock
from tests.fakes.device import Device
from tests.fakes.publishing import PublishingCa, backend, sign_crl

pytestmark = pytest.mark.anyio

CA = pki.root()
OTHER_CA = pki.root(name="Other CA", number=1)
NOT_FOUND = replies.Failure(fail_info=FailInfo.BAD_CERT_ID, text="")
DOWN = BackendUnavailable("refused", maybe_issued=False)


@dataclass
class Served:
    """An RA that serves both, and a device that holds a certificate of it."""

    ra: Assembled
    ca: PublishingCa
    device: Device = field(default_factory=Device)

    @property
    def own(self) -> x509.Certificate:
        assert self.device.certificate is not None
        return self.device.certificate

    async def enrol(self, device: Device) -> x509.Certificate:
        answer = await self.ra.answer(device.enrol_message(self.ra.ca, challenge=CHALLENGE))
        return device.obtain(answer.body)

    async def get_cert(self, serial: int, device: Device | None = None) -> replies.Result:
        asking = device or self.device
        return asking.open((await self.ra.answer(asking.get_cert_message(self.ra.ca, serial))).body)

    async def get_crl(self, device: Device | None = None) -> replies.Result:
        asking = device or self.device
        return asking.open((await self.ra.answer(asking.get_crl_message(self.ra.ca, 1))).body)


@pytest.fixture
async def ca() -> PublishingCa:
    return PublishingCa(CA)


@pytest.fixture
async def serve(tmp_path: Path, ca: PublishingCa) -> AsyncIterator[Callable[..., Any]]:
    """Begins to serve with a profile's options."""
    running: list[Any] = []

    async def begin(**rules: Any) -> Served:
        context = assembled(tmp_path, ca, CA, **rules)
        running.append(context)
        served = Served(await context.__aenter__(), ca)
        await served.enrol(served.device)
        return served

    yield begin
    for context in running:
        await context.__aexit__(None, None, None)


@pytest.fixture
async def served(serve: Callable[..., Any]) -> Served:
    made: Served = await serve(get_cert="own", get_crl=True)
    return made


@pytest.mark.rfc8894("requested-is-leaf", "query-is-decided")
async def test_a_device_gets_a_certificate_of_its_profile_and_nothing_beside(served: Served) -> None:
    neighbour = await served.enrol(Device(subject="CN=neighbour"))

    result = await served.get_cert(neighbour.serial_number)

    assert isinstance(result, replies.Success)
    assert (neighbour,) == result.certificates
    assert result.crl is None


@pytest.mark.rfc8894("requested-is-leaf")
async def test_the_chain_comes_where_the_profile_says_so(serve: Callable[..., Any]) -> None:
    served = await serve(get_cert="own", include_chain=True)

    result = await served.get_cert(served.own.serial_number)

    assert (served.own, CA.certificate) == result.certificates


async def test_a_device_gets_the_crl_and_nothing_beside(served: Served) -> None:
    served.ca.published = sign_crl(CA, [4711])

    result = await served.get_crl()

    assert isinstance(result, replies.Success)
    assert () == result.certificates
    assert result.crl is not None
    assert served.ca.published == result.crl.public_bytes(Encoding.DER)


@pytest.mark.parametrize("message_type", [MessageType.GET_CERT, MessageType.GET_CRL])
@pytest.mark.rfc8894("prefer-stores")
async def test_both_are_off_unless_the_profile_says_so(serve: Callable[..., Any], message_type: str) -> None:
    served = await serve()
    content = issuer_and_serial(CA.certificate, served.own.serial_number)
    before = served.ra.clock.monotonic_seconds()

    answer = await served.ra.answer(served.device.message(served.ra.ca, message_type, content))

    assert NOT_FOUND == served.device.open(answer.body)
    assert "switched off" in answer.detail
    assert FLOOR_SECONDS <= served.ra.clock.monotonic_seconds() - before


async def test_who_holds_no_certificate_is_told_the_same_before_anything_is_opened(served: Served) -> None:
    stranger = Device(subject="CN=stranger")
    garbage = stranger.message(served.ra.ca, MessageType.GET_CERT, b"no question at all")

    answer = await served.ra.answer(garbage)

    assert NOT_FOUND == stranger.open(answer.body)
    assert "none that was issued for this profile" in answer.detail
    assert NOT_FOUND == await served.get_cert(served.own.serial_number, stranger)
    assert NOT_FOUND == await served.get_crl(stranger)


async def test_a_certificate_of_the_same_serial_number_is_not_enough(served: Served) -> None:
    device = Device(subject="CN=impostor")
    assert isinstance(device.key, rsa.RSAPrivateKey)
    builder = x509.CertificateBuilder(
        CA.certificate.subject,
        served.own.subject,
        device.key.public_key(),
        served.own.serial_number,
        served.own.not_valid_before_utc,
        served.own.not_valid_after_utc,
    )
    device.certificate = builder.sign(device.key, hashes.SHA256())

    assert NOT_FOUND == await served.get_cert(served.own.serial_number, device)


async def test_a_certificate_that_has_run_out_opens_nothing(served: Served) -> None:
    served.ca.published = sign_crl(CA, next_update=pki.NOW + timedelta(days=1000))
    served.ra.clock.advance(timedelta(days=366))

    assert NOT_FOUND == await served.get_cert(served.own.serial_number)
    assert NOT_FOUND == await served.get_crl()


async def test_what_the_ca_has_revoked_opens_nothing(served: Served) -> None:
    assert isinstance(await served.get_crl(), replies.Success)
    served.ca.published = sign_crl(CA, [served.own.serial_number])
    served.ra.clock.advance(REFRESH)

    assert NOT_FOUND == await served.get_crl()
    assert NOT_FOUND == await served.get_cert(served.own.serial_number)


async def test_what_was_revoked_here_opens_nothing_and_is_not_found(served: Served) -> None:
    neighbour = Device(subject="CN=neighbour")
    certificate = await served.enrol(neighbour)
    serial = f"{certificate.serial_number:x}"
    row = next(each for each in await served.ra.transactions() if each.serial == serial)
    now, why = served.ra.clock.now(), RevocationReason.KEY_COMPROMISE
    await served.ra.journal.write(lambda c: settle.revoke(c, row, why, "", now, who="operator"))

    assert NOT_FOUND == await served.get_cert(certificate.serial_number, neighbour)
    assert NOT_FOUND == await served.get_cert(certificate.serial_number)


async def test_what_was_revoked_here_is_on_the_crl_at_once(served: Served) -> None:
    neighbour = Device(subject="CN=neighbour")
    serial = (await served.enrol(neighbour)).serial_number
    assert isinstance(await served.get_crl(), replies.Success)
    row = next(each for each in await served.ra.transactions() if each.serial == f"{serial:x}")
    now, why = served.ra.clock.now(), RevocationReason.KEY_COMPROMISE
    revoking = await served.ra.journal.write(lambda c: settle.revoke(c, row, why, "", now, who="operator"))
    await served.ra.journal.write(lambda c: settle.revoked(c, revoking, now))
    served.ca.published = sign_crl(CA, [serial])
    served.ra.clock.advance(timedelta(seconds=1))

    result = await served.get_crl()

    assert isinstance(result, replies.Success)
    assert result.crl is not None
    assert served.ca.published == result.crl.public_bytes(Encoding.DER)
    assert 2 == served.ca.crls_asked


async def test_a_certificate_of_the_ca_before_asks_for_its_own_and_for_that_cas_crl(served: Served) -> None:
    connector = PublishingCa(OTHER_CA)
    now = backend(connector, OTHER_CA, served.ra.clock)
    before = served.ra.endpoint.backend
    served.ra.endpoint = replace(served.ra.endpoint, backend=replace(now, name="other"), renews_from=(before,))

    about = issuer_and_serial(CA.certificate, served.own.serial_number)

    crl, own = [
        served.device.open((await served.ra.answer(served.device.message(served.ra.ca, kind, about))).body)
        for kind in (MessageType.GET_CRL, MessageType.GET_CERT)
    ]

    assert isinstance(crl, replies.Success)
    assert isinstance(own, replies.Success)
    assert (served.own,) == own.certificates
    assert 0 == connector.crls_asked


async def test_where_the_crl_cannot_be_had_the_device_is_told_to_come_back(served: Served) -> None:
    served.ca.published = DOWN

    with pytest.raises(Unavailable):
        await served.get_crl()
    with pytest.raises(Unavailable):
        await served.get_cert(served.own.serial_number)


@pytest.mark.parametrize("content", [b"", b"\x30\x00", issuer_and_serial(OTHER_CA.certificate, 1)])
@pytest.mark.parametrize("message_type", [MessageType.GET_CERT, MessageType.GET_CRL])
@pytest.mark.rfc8894("query-is-decided")
async def test_whatever_is_wrong_inside_looks_the_same(served: Served, message_type: str, content: bytes) -> None:
    answer = await served.ra.answer(served.device.message(served.ra.ca, message_type, content))

    assert NOT_FOUND == served.device.open(answer.body)


async def test_a_certificate_that_is_not_known_is_not_asked_for_at_the_ca(served: Served) -> None:
    served.ca.known = {4711: CertificateState(certificate=pki.der(CA.certificate), revoked_at=None)}

    assert NOT_FOUND == await served.get_cert(4711)
    assert [] == served.ca.serials_asked


async def test_any_certificate_of_the_ca_where_the_profile_says_so(serve: Callable[..., Any]) -> None:
    served = await serve(get_cert="any")
    old = CA.issue(pki.rsa_key())
    served.ca.known = {old.serial_number: CertificateState(certificate=pki.der(old), revoked_at=None)}

    result = await served.get_cert(old.serial_number)

    assert (old,) == result.certificates


@pytest.mark.parametrize(
    "known",
    [
        {},
        {4711: CertificateState(certificate=None, revoked_at=None)},
        {4711: CertificateState(certificate=b"no certificate", revoked_at=None)},
        {4711: CertificateState(certificate=pki.der(CA.issue(pki.rsa_key())), revoked_at=None)},
        {4711: CertificateState(certificate=pki.der(OTHER_CA.issue(pki.rsa_key())), revoked_at=None)},
    ],
    ids=["nothing", "no bytes", "garbage", "another one", "another CA's"],
)
async def test_what_the_ca_says_is_looked_at(serve: Callable[..., Any], known: dict[int, CertificateState]) -> None:
    served = await serve(get_cert="any")
    served.ca.known = known

    assert NOT_FOUND == await served.get_cert(4711)
    assert [4711] == served.ca.serials_asked


async def test_a_ca_that_cannot_be_asked_is_no_answer(serve: Callable[..., Any]) -> None:
    served = await serve(get_cert="any")
    served.ca.known = DOWN

    with pytest.raises(Unavailable, match="refused"):
        await served.get_cert(4711)
    served.ra.endpoint.backend.gate.stop()
    with pytest.raises(Unavailable, match="stops"):
        await served.get_cert(4711)


@pytest.mark.parametrize(("options", "lacking"), [({"get_crl": True}, "CRL"), ({"get_cert": "any"}, "look up")])
async def test_what_the_ca_cannot_give_cannot_be_offered(options: dict[str, Any], lacking: str) -> None:
    clock = FakeClock()
    able, unable = PublishingCa(CA), PublishingCa(CA, Capability.REVOKE)

    insist_on_source(Profile(name="default", **options), backend(able, CA, clock))
    with pytest.raises(Misconfigured, match=lacking):
        insist_on_source(Profile(name="default", **options), backend(unable, CA, clock))
