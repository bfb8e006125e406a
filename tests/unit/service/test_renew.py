"""Renewal over a real journal and both codecs: who signs it decides, and what speaks against it is found."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors.api import BackendUnavailable, Capability, CertificateState, Pending, RevocationReason
from ra.challenge.api import Deny
from ra.challenge.combine import Checked
from ra.challenge.otp import OneTime
from ra.client import replies
from ra.client.csr import read_subject, self_signed
from ra.client.names import FailInfo, MessageType
from ra.client.requests import key_transaction_id
from ra.errors import Misconfigured, Unavailable
from ra.journal import settle
from ra.journal.certificates import holder_of
from ra.journal.states import State
from ra.journal.statistics import count
from ra.policy.profile import EXTENDED_KEY_USAGES
from ra.policy.sid import SID_EXTENSION
from ra.service.describe import capabilities
from ra.service.endpoint import Authority, Endpoint
from ra.service.pki_operation import Answer
from ra.service.renew import insist_on_naming_sids
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, OneChallenge, assembled, identity
from tests.fakes.device import Device, pooled_key
from tests.fakes.one_time import SECRET, FakeSecrets, a_one_time_secret
from tests.fakes.publishing import PublishingCa, sign_crl

pytestmark = pytest.mark.anyio

CA = pki.root()
OTHER_CA = pki.root(name="Another CA", number=1)
OLD, NEW = pooled_key(0), pooled_key(1)
SHORT_LIVED: dict[str, Any] = {"default_validity_days": 20}
"""So that a certificate may be renewed from its first day on."""


class AlwaysAsked(OneChallenge):
    """As one that has to hear of every certificate."""

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return True


REFUSED = replies.Failure(fail_info=FailInfo.BAD_REQUEST, text="")


@pytest.fixture
async def ca() -> PublishingCa:
    return PublishingCa(CA)


@pytest.fixture
async def ra(tmp_path: Path, ca: PublishingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, ca, CA, **SHORT_LIVED) as registration_authority:
        yield registration_authority


def digest_of(key: rsa.RSAPrivateKey) -> bytes:
    return hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


async def enrolled(ra: Assembled, subject: str = "CN=device.example,O=Example") -> Device:
    device = Device(subject=subject, key=OLD)
    device.obtain((await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))).body)
    return device


async def renew(
    ra: Assembled,
    device: Device,
    message_type: str = MessageType.RENEWAL_REQ,
    *,
    challenge: str | None = None,
    key: object = NEW,
    sans: Sequence[str] = (),
    extensions: Sequence[x509.ExtensionType] = (),
) -> replies.Result:
    own = NEW if key is NEW else OLD
    csr = device.csr(key=own, challenge=challenge, sans=sans, extensions=extensions)
    message = device.message(ra.ca, message_type, csr, transaction_id=key_transaction_id(own))
    return device.open((await ra.answer(message)).body)


async def detail(ra: Assembled, device: Device, **csr: Sequence[x509.ExtensionType]) -> str:
    """Why a renewal without a challenge is refused, as the operator reads it."""
    content = device.csr(key=NEW, extensions=csr.get("extensions", ()))
    answer = await ra.answer(device.message(ra.ca, MessageType.RENEWAL_REQ, content))
    assert REFUSED == device.open(answer.body)
    return answer.detail


@pytest.mark.rfc8894("renewal-by-certificate")
@pytest.mark.parametrize("message_type", [MessageType.RENEWAL_REQ, MessageType.PKCS_REQ])
async def test_a_certificate_of_ours_renews_itself_whatever_the_message_type(ra: Assembled, message_type: str) -> None:
    device = await enrolled(ra)

    result = await renew(ra, device, message_type)

    assert isinstance(result, replies.Success)
    assert NEW.public_key() == result.certificates[0].public_key()
    assert 1 == ra.validator.asked
    assert 1 == (await ra.journal.read(count)).renewals


async def test_a_renewal_is_audited_as_one(ra: Assembled) -> None:
    device = await enrolled(ra)
    assert device.certificate is not None

    await renew(ra, device)
    decision = (await ra.events())[2]

    assert ("renewal", f"serial {device.certificate.serial_number:x}") == (
        decision["grant_method"],
        decision["grant_label"],
    )
    assert decision["renewal_of"] is not None


async def test_a_renewal_with_the_same_key_is_no_resend(ra: Assembled) -> None:
    device = await enrolled(ra)

    result = await renew(ra, device, key=OLD)
    again = await renew(ra, device, key=OLD)

    assert isinstance(result, replies.Success)
    assert device.certificate != result.certificates[0]
    assert result == again


@pytest.mark.rfc8894("challenge-beside-a-renewal")
@pytest.mark.parametrize("challenge", ["long rotated", CHALLENGE])
async def test_the_challenge_that_came_along_is_not_looked_at(ra: Assembled, challenge: str) -> None:
    device = await enrolled(ra)
    ra.validator.verdict = Deny(detail="it is spent", alarm=True)

    result = await renew(ra, device, challenge=challenge)

    assert isinstance(result, replies.Success)
    assert {} == ra.counts.alarms


async def test_a_signer_that_only_claims_our_ca_is_nobody(ra: Assembled) -> None:
    device = await enrolled(ra)
    device.certificate = pki.root(name="Test CA", number=7).issue(OLD, name="device.example")

    assert "no secret matches" == await detail(ra, device)


async def test_a_certificate_that_the_journal_does_not_know_waives_nothing(ra: Assembled) -> None:
    device = Device(subject="CN=device.example", key=OLD, certificate=CA.issue(OLD, name="device.example"))

    assert "the journal does not know it" in await detail(ra, device)


@pytest.mark.rfc8894("alternate-ca")
async def test_a_certificate_of_another_ca_is_no_renewal(ra: Assembled) -> None:
    device = Device(subject="CN=device.example", key=OLD, certificate=OTHER_CA.issue(OLD, name="device.example"))

    assert "no secret matches" == await detail(ra, device)


async def test_the_ras_own_certificate_renews_nothing(ra: Assembled) -> None:
    own = x509.load_der_x509_certificate(identity(CA).certificates[0])
    device = Device(subject="CN=SCEP RA test", key=pki.rsa_key(), certificate=own)

    assert "it is the RA's own" in await detail(ra, device)


async def test_a_certificate_of_another_profile_renews_nothing(tmp_path: Path, ca: PublishingCa) -> None:
    async with assembled(tmp_path, ca, CA, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        other = replace(ra.endpoint, profile=replace(ra.endpoint.profile, name="other"))

        answer = await ra.work.operation.answer(other, device.renew_message(ra.ca, NEW))

    assert "it was issued under the profile 'default'" in answer.detail


async def test_a_certificate_is_not_renewed_before_its_time(tmp_path: Path, ca: PublishingCa) -> None:
    async with assembled(tmp_path, ca, CA) as ra:
        device = await enrolled(ra)

        assert "it can be renewed from" in await detail(ra, device)
        assert isinstance(await renew(ra, device, challenge=CHALLENGE), replies.Success)


@pytest.mark.parametrize(("grace_days", "is_renewed"), [(0, False), (5, True)])
async def test_what_has_expired_is_renewed_within_its_grace_alone(
    tmp_path: Path, ca: PublishingCa, grace_days: int, *, is_renewed: bool
) -> None:
    async with assembled(tmp_path, ca, CA, renewal_grace_days=grace_days, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        ra.clock.advance(timedelta(days=22))
        ca.published = sign_crl(
            CA, (), expired_on_crl(pki.NOW), next_update=pki.NOW + timedelta(days=60), critical=False
        )

        result = await renew(ra, device)

    assert is_renewed is isinstance(result, replies.Success)


@pytest.mark.parametrize("extensions", [(), (pki.NOW + timedelta(days=21),)], ids=["none said", "later ones alone"])
async def test_a_crl_that_need_not_list_what_has_expired_does_not_say_that_it_was_never_revoked(
    tmp_path: Path, ca: PublishingCa, extensions: tuple[datetime, ...]
) -> None:
    async with assembled(tmp_path, ca, CA, renewal_grace_days=5, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        ra.clock.advance(timedelta(days=22))
        said = [expired_on_crl(each) for each in extensions]
        ca.published = sign_crl(CA, (), *said, next_update=pki.NOW + timedelta(days=60), critical=False)

        told = await detail(ra, device)
        assert device.certificate is not None
        state = CertificateState(certificate=pki.der(device.certificate), revoked_at=None)
        ca.known = {device.certificate.serial_number: state}
        asked = await renew(ra, device)

    assert "whether it is revoked cannot be found out" in told
    assert isinstance(asked, replies.Success)


def expired_on_crl(since: datetime) -> x509.UnrecognizedExtension:
    """expiredCertsOnCRL: the CRL lists what has expired since then."""
    value = since.strftime("%Y%m%d%H%M%SZ").encode()
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.60"), bytes((0x18, len(value))) + value)


async def test_a_renewal_for_other_names_needs_the_challenge(ra: Assembled) -> None:
    device = await enrolled(ra)
    device.subject = "CN=domain.controller"

    assert "other names" in await detail(ra, device)
    assert isinstance(await renew(ra, device, challenge=CHALLENGE), replies.Success)


async def test_a_renewal_for_one_more_name_needs_the_challenge(ra: Assembled) -> None:
    device = await enrolled(ra)

    assert REFUSED == await renew(ra, device, sans=["dns:more.example"])


def sid_extension(sid: bytes) -> x509.UnrecognizedExtension:
    """The SID as AD CS writes it, for texts of a length that fits one byte."""
    octets = bytes((0x04, len(sid))) + sid
    held = bytes.fromhex("060a2b060104018237190201") + bytes((0xA0, len(octets))) + octets
    inner = bytes((0xA0, len(held))) + held
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(SID_EXTENSION), bytes((0x30, len(inner))) + inner)


@pytest.mark.parametrize(
    ("sid", "said"),
    [
        (b"S-1-5-21-1-2-3-500", "other names are asked for"),
        (b"S-1-5-21-1-2-3-500 ", "the Microsoft SID extension does not read"),
    ],
)
async def test_no_security_identifier_is_added_by_a_renewal(
    tmp_path: Path, ca: PublishingCa, sid: bytes, said: str
) -> None:
    async with assembled(tmp_path, ca, CA, allow_sid_extension=True, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        content = device.csr(key=NEW, extensions=[sid_extension(sid)])

        answer = await ra.answer(device.message(ra.ca, MessageType.RENEWAL_REQ, content))

    assert said in answer.detail


async def test_a_renewal_for_more_than_the_certificate_is_good_for_needs_the_challenge(
    tmp_path: Path, ca: PublishingCa
) -> None:
    usages = frozenset({EXTENDED_KEY_USAGES["clientAuth"], EXTENDED_KEY_USAGES["serverAuth"]})
    async with assembled(tmp_path, ca, CA, allowed_extended_key_usage=usages, **SHORT_LIVED) as ra:
        device = await enrolled(ra)

        told = await detail(ra, device, extensions=[pki.extended_key_usage(*usages)])

    assert "it is not good for 1.3.6.1.5.5.7.3.1" in told


async def test_a_certificate_that_the_ca_has_revoked_renews_nothing(ra: Assembled, ca: PublishingCa) -> None:
    device = await enrolled(ra)
    assert device.certificate is not None
    state = CertificateState(certificate=pki.der(device.certificate), revoked_at=pki.NOW)
    ca.known = {device.certificate.serial_number: state}

    assert "the CA has revoked it" in await detail(ra, device)


async def test_a_certificate_on_the_crl_renews_nothing(ra: Assembled, ca: PublishingCa) -> None:
    device = await enrolled(ra)
    assert device.certificate is not None
    ca.known = BackendUnavailable("the look-up is away", maybe_issued=False)
    ca.published = sign_crl(CA, [device.certificate.serial_number])

    assert "the CA has revoked it" in await detail(ra, device)


async def test_a_certificate_that_the_ra_has_revoked_renews_nothing(ra: Assembled) -> None:
    device = await enrolled(ra)
    (transaction,) = await ra.transactions()
    await ra.journal.write(
        lambda c: settle.revoke(c, transaction, RevocationReason.KEY_COMPROMISE, "stolen", ra.clock.now())
    )

    assert "its transaction is revoking" in await detail(ra, device)


async def test_while_the_ca_cannot_be_asked_the_device_is_told_to_come_back(ra: Assembled, ca: PublishingCa) -> None:
    device = await enrolled(ra)
    ca.known = BackendUnavailable("away", maybe_issued=False)
    ca.published = BackendUnavailable("away", maybe_issued=False)

    with pytest.raises(Unavailable):
        await renew(ra, device)
    assert isinstance(await renew(ra, device, challenge=CHALLENGE), replies.Success)


async def test_a_ca_that_never_tells_what_it_has_revoked_makes_the_challenge_needed(tmp_path: Path) -> None:
    silent = PublishingCa(CA, Capability.IDEMPOTENT)
    async with assembled(tmp_path, silent, CA, **SHORT_LIVED) as ra:
        device = await enrolled(ra)

        told = await detail(ra, device)
        offered = capabilities(ra.endpoint)

    assert "whether it is revoked cannot be found out" in told
    assert b"Renewal" not in offered


async def test_renewal_is_offered_where_it_is_served(ra: Assembled) -> None:
    assert b"Renewal" in capabilities(ra.endpoint).splitlines()


async def test_a_first_request_asks_the_ca_nothing_about_its_signer(ra: Assembled, ca: PublishingCa) -> None:
    await enrolled(ra)

    assert [] == ca.serials_asked
    assert 0 == ca.crls_asked


@pytest.mark.rfc8894("self-signed-proves-nothing")
async def test_a_signer_without_a_certificate_of_ours_is_self_signed(ra: Assembled) -> None:
    device = Device(key=OLD)
    device.certificate = self_signed(OLD, read_subject("CN=someone else"), pki.NOW, serial=5)

    assert "no secret matches" == await detail(ra, device)


@pytest.mark.rfc8894("challenge-beside-a-renewal")
async def test_a_validator_that_is_asked_at_renewal_too_leaves_no_waiver(ra: Assembled) -> None:
    device = await enrolled(ra)
    endpoint = replace(ra.endpoint, validator=Checked("intune", AlwaysAsked(), log_error=lambda *_: None))

    answer = await ra.work.operation.answer(endpoint, device.renew_message(ra.ca, NEW))

    assert "the challenge of this profile is needed on renewal too" in answer.detail
    assert b"Renewal" not in capabilities(endpoint)


async def test_where_the_challenge_finds_the_sid_it_is_asked_at_renewal_too(ra: Assembled) -> None:
    device = await enrolled(ra)
    endpoint = replace(ra.endpoint, profile=replace(ra.endpoint.profile, sid_from_challenge=True))

    answer = await ra.work.operation.answer(endpoint, device.renew_message(ra.ca, NEW))

    assert "the challenge of this profile is needed on renewal too" in answer.detail
    assert b"Renewal" not in capabilities(endpoint)


async def test_a_sid_that_the_ca_cannot_write_stops_the_start(ra: Assembled) -> None:
    profile = replace(ra.endpoint.profile, sid_from_challenge=True)

    with pytest.raises(Misconfigured, match="cannot put a SID into a certificate"):
        insist_on_naming_sids(profile, ra.endpoint.backend, has_challenge=True)


# ---------------------------------------------------------------- other CAs


def endpoint_of(ra: Assembled, ca: PublishingCa, issuer: pki.FakeCa, **changes: Any) -> Endpoint:
    """The same profile, whose connector has become another one, `new`."""
    moved = replace(ra.endpoint.backend, name="new", connector=ca, ca_chain=issuer.chain)
    return replace(ra.endpoint, backend=moved, **changes)


async def answer_to(ra: Assembled, endpoint: Endpoint, device: Device) -> Answer:
    return await ra.work.operation.answer(endpoint, device.renew_message(ra.ca, NEW))


async def test_a_profile_that_was_moved_renews_what_the_connector_before_has_issued_if_it_says_so(
    ra: Assembled,
) -> None:
    device, other = await enrolled(ra), PublishingCa(OTHER_CA)

    refused = await answer_to(ra, endpoint_of(ra, other, OTHER_CA), device)
    renewed = await answer_to(ra, endpoint_of(ra, other, OTHER_CA, renews_from=(ra.endpoint.backend,)), device)

    assert "it is of no CA whose certificates this profile renews" in refused.detail
    assert "success" == renewed.outcome
    assert {"lab", "new"} == {each.connector for each in await ra.transactions()}


async def test_what_a_ca_before_has_issued_is_not_renewed_once_it_has_expired(ra: Assembled, ca: PublishingCa) -> None:
    device = await enrolled(ra)
    subject = CA.certificate.subject
    certificate = (
        x509.CertificateBuilder()
        .serial_number(1)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(CA.key.public_key())
        .not_valid_before(pki.NOW - timedelta(days=9))
        .not_valid_after(pki.NOW - timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(CA.key, hashes.SHA256())
    )
    expired = replace(ra.endpoint.backend, ca_chain=(pki.der(certificate),))

    answer = await answer_to(ra, replace(ra.endpoint, backend=expired), device)

    assert "the certificate of its CA has expired" in answer.detail
    assert [] == ca.serials_asked


def authority(crl: bytes | Exception) -> Authority:
    def read_crl() -> bytes:
        if isinstance(crl, Exception):
            raise crl
        return crl

    return Authority(certificate=pki.der(OTHER_CA.certificate), read_crl=read_crl)


USAGES = pki.extended_key_usage(EXTENDED_KEY_USAGES["clientAuth"])


def stranger(name: str = "device.example") -> Device:
    """A device with a certificate that this RA has nothing to do with."""
    certificate = OTHER_CA.issue(OLD, name=name, extended=USAGES, not_after=pki.NOW + timedelta(days=10))
    return Device(subject="CN=device.example", key=OLD, certificate=certificate)


@pytest.mark.rfc8894("alternate-ca")
async def test_a_ca_that_is_named_for_renewal_is_as_good_as_ours_for_the_names_it_certified(ra: Assembled) -> None:
    endpoint = replace(ra.endpoint, renewal_authorities=(authority(sign_crl(OTHER_CA)),))

    renewed = await answer_to(ra, endpoint, stranger())
    refused = await answer_to(ra, endpoint, stranger("another.example"))

    assert "success" == renewed.outcome
    assert "other names are asked for" in refused.detail


async def test_a_certificate_that_the_journal_knows_is_known_however_its_signature_is_written(ra: Assembled) -> None:
    device = await enrolled(ra)
    assert device.certificate is not None
    kept, shown = pki.der(device.certificate), bytearray(pki.der(device.certificate))
    shown[-1] ^= 1

    serial = device.certificate.serial_number
    known = await ra.journal.read(lambda c: holder_of(c, kept, serial))
    same = await ra.journal.read(lambda c: holder_of(c, bytes(shown), serial))

    assert known is not None
    assert known == same


async def test_a_ca_below_one_that_is_named_for_renewal_is_no_device(ra: Assembled) -> None:
    endpoint = replace(ra.endpoint, renewal_authorities=(authority(sign_crl(OTHER_CA)),))
    below = OTHER_CA.issue(OLD, name="device.example", ca=True, extended=USAGES, not_after=pki.NOW + timedelta(days=10))
    device = Device(subject="CN=device.example", key=OLD, certificate=below)

    assert "it is a CA's" in (await answer_to(ra, endpoint, device)).detail


@pytest.mark.rfc8894("alternate-ca")
async def test_a_ca_that_is_named_for_renewal_still_has_to_say_what_it_has_revoked(ra: Assembled) -> None:
    device = stranger()
    assert device.certificate is not None
    revoked = authority(sign_crl(OTHER_CA, [device.certificate.serial_number]))

    answer = await answer_to(ra, replace(ra.endpoint, renewal_authorities=(revoked,)), device)
    with pytest.raises(Unavailable):
        await answer_to(ra, replace(ra.endpoint, renewal_authorities=(authority(OSError("gone")),)), device)

    assert "the CA has revoked it" in answer.detail


# ---------------------------------------------------------------- what comes of the certificate before


async def test_a_certificate_that_was_replaced_is_revoked_an_hour_after_its_successor_was_delivered(
    tmp_path: Path,
) -> None:
    ca = PublishingCa(CA, Capability.GET_CERTIFICATE, Capability.CRL, Capability.REVOKE)
    async with assembled(tmp_path, ca, CA, revoke_on_replace=True, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        assert device.certificate is not None

        first = await renew(ra, device)
        await ra.sweep(timedelta(minutes=59))
        early = list(ca.revoked)
        again = await renew(ra, device)
        await ra.sweep(timedelta(minutes=2))
        states = {each.state for each in await ra.transactions()}

    assert [] == early
    assert first == again
    assert [(pki.der(device.certificate), RevocationReason.SUPERSEDED)] == ca.revoked
    assert {State.REVOKED, State.RELEASED} == states


async def test_a_successor_that_nobody_has_fetched_replaces_nothing_yet(tmp_path: Path) -> None:
    ca = PublishingCa(CA, Capability.GET_CERTIFICATE, Capability.CRL, Capability.REVOKE, Capability.POLL)
    async with assembled(tmp_path, ca, CA, revoke_on_replace=True, **SHORT_LIVED) as ra:
        device = await enrolled(ra)
        ca.answer = Pending(reference="order 2", retry_after_seconds=60)
        await renew(ra, device)
        await ra.sweep(timedelta(hours=3))
        early = list(ca.revoked)

        fetched = await renew(ra, device)
        await ra.sweep(timedelta(hours=1))

    assert [] == early
    assert isinstance(fetched, replies.Success)
    assert 1 == len(ca.revoked)


async def test_without_the_option_a_certificate_that_was_replaced_stays(tmp_path: Path) -> None:
    ca = PublishingCa(CA, Capability.GET_CERTIFICATE, Capability.CRL, Capability.REVOKE)
    async with assembled(tmp_path, ca, CA, **SHORT_LIVED) as ra:
        await renew(ra, await enrolled(ra))
        await ra.sweep(timedelta(hours=3))

    assert [] == ca.revoked


async def test_the_secret_that_let_the_device_in_once_is_no_theft_when_its_renewal_brings_it_again(
    tmp_path: Path, ca: PublishingCa
) -> None:
    async with assembled(tmp_path, ca, CA) as ra:
        device, thief = await enrolled(ra), Device(key=pooled_key(2))
        spent = a_one_time_secret(method="once", spent_key=digest_of(OLD), expires_at=pki.NOW + timedelta(days=1))
        secrets = FakeSecrets()
        secrets.keep(SECRET, spent)
        endpoint = replace(ra.endpoint, validator=OneTime("once", secrets))

        csr = device.csr(key=NEW, challenge=SECRET)
        own = await ra.work.operation.answer(endpoint, device.message(ra.ca, MessageType.RENEWAL_REQ, csr))
        theft = await ra.work.operation.answer(endpoint, thief.enrol_message(ra.ca, challenge=SECRET))

    assert (False, True) == (own.alarm, theft.alarm)
    assert "is spent, by this device itself" in own.detail
