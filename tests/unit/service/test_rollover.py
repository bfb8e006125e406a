"""GetNextCACert shows the CA that follows, while there is one and somebody may sign for it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from connectors.api import BackendUnavailable, Capability
from ra.client.authority import read_ca_certificates, read_next_ca
from ra.client.errors import BadReply
from ra.errors import Misconfigured
from ra.policy.profile import Profile
from ra.scep.encode import next_ca_response
from ra.scep.names import Digest
from ra.service.describe import ca_certificate_message, capabilities
from ra.service.endpoint import Endpoint
from ra.service.ring import Ring
from ra.service.rollover import REFRESH, NoNextCa, Rollover, check_next_chain, insist_on_next_ca
from tests.fakes import pki
from tests.fakes.assembled import Counts, identity
from tests.fakes.clock import FakeClock
from tests.fakes.issuing import IssuingCa
from tests.fakes.publishing import backend

pytestmark = pytest.mark.anyio

CA = pki.root("rsa:2048")
NEXT = pki.root(name="Next CA", number=1)
OTHER = pki.root(name="Other CA", number=2)
DOWN = BackendUnavailable("refused", maybe_issued=False)
BOTH = (Capability.NEXT_CA, Capability.SIGN_NEXT_CA)


class LeavingCa(IssuingCa):
    """A CA that will be followed by another one."""

    def __init__(self, *capabilities: Capability) -> None:
        super().__init__(CA, *capabilities)
        self.following: tuple[bytes, ...] | Exception = NEXT.chain
        self.signature: Exception | None = None
        self.questions = 0

    async def next_ca(self) -> tuple[bytes, ...]:
        self.questions += 1
        if isinstance(self.following, Exception):
            raise self.following
        return self.following

    async def sign_next_ca(self, content: bytes) -> bytes:
        if self.signature is not None:
            raise self.signature
        return b"signed " + content


class CountingSigner:
    """The RA's, which notes in which threads it is used."""

    def __init__(self) -> None:
        self._signer = identity(CA).signer
        self.certificate, self.certificate_id = self._signer.certificate, self._signer.certificate_id
        self.signature_algorithm = self._signer.signature_algorithm
        self.threads: list[int] = []

    def sign(self, message: bytes, digest: Digest) -> bytes:
        self.threads.append(threading.get_ident())
        return self._signer.sign(message, digest)


def served(ca: LeavingCa, clock: FakeClock, *, next_ca: tuple[bytes, ...] = (), **rules: Any) -> Endpoint:
    return Endpoint(
        profile=Profile(name="default", **rules),
        ca_id=1,
        backend=replace(backend(ca, CA, clock), next_ca=next_ca),
        validator=None,
        ring=Ring.of(identity(CA)),
    )


async def message(endpoint: Endpoint, clock: FakeClock) -> bytes | None:
    return await Rollover(clock=clock, metrics=Counts()).message(endpoint)


@pytest.mark.rfc8894("next-ca-signed")
async def test_the_ca_signs_where_it_can() -> None:
    clock = FakeClock(pki.NOW)

    body = await message(served(LeavingCa(*BOTH), clock, next_ca_signed_by_ra=True), clock)

    assert body is not None
    assert body.startswith(b"signed ")


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.rfc8894("next-ca-signed")
async def test_the_ra_signs_where_the_profile_wants_it_and_the_ca_cannot(*, configured: bool) -> None:
    clock, ca = FakeClock(pki.NOW), LeavingCa(*(() if configured else (Capability.NEXT_CA,)))
    endpoint = served(ca, clock, next_ca=NEXT.chain if configured else (), next_ca_signed_by_ra=True)

    body = await message(endpoint, clock)

    present = read_ca_certificates(ca_certificate_message(endpoint)[0])
    assert body is not None
    assert (NEXT.certificate,) == read_next_ca(body, present)
    assert int(not configured) == ca.questions


@pytest.mark.parametrize(
    ("ca", "rules"),
    [
        (LeavingCa(Capability.NEXT_CA), {}),
        (LeavingCa(Capability.SIGN_NEXT_CA), {}),
        (LeavingCa(), {"next_ca_signed_by_ra": True}),
    ],
    ids=["nobody signs", "none follows", "none follows for the RA either"],
)
async def test_else_nothing_is_offered_and_the_ca_not_asked(ca: LeavingCa, rules: dict[str, Any]) -> None:
    clock = FakeClock(pki.NOW)

    assert await message(served(ca, clock, **rules), clock) is None
    assert 0 == ca.questions


@pytest.mark.parametrize("following", [(), CA.chain, DOWN], ids=["none", "the present one", "away"])
async def test_a_ca_without_a_next_one_offers_none(following: tuple[bytes, ...] | Exception) -> None:
    clock, ca = FakeClock(pki.NOW), LeavingCa(*BOTH)
    ca.following = following

    assert await message(served(ca, clock), clock) is None


async def test_what_was_known_is_kept_for_a_while_and_while_the_ca_is_away() -> None:
    clock, ca = FakeClock(pki.NOW), LeavingCa(*BOTH)
    endpoint, rollover = served(ca, clock), Rollover(clock=clock, metrics=Counts())
    first = await rollover.message(endpoint)

    assert first == await rollover.message(endpoint)
    assert 1 == ca.questions
    ca.signature = DOWN
    clock.advance(REFRESH)
    assert first == await rollover.message(endpoint)
    ca.following = ()
    clock.advance(REFRESH)
    assert await rollover.message(endpoint) is None


async def test_the_ra_signs_once_whoever_asks_and_in_a_thread_where_its_key_is_in_a_token() -> None:
    clock, signer = FakeClock(pki.NOW), CountingSigner()
    endpoint = served(LeavingCa(Capability.NEXT_CA), clock, next_ca_signed_by_ra=True)
    held = replace(identity(CA), signer=signer, is_remote=True)
    endpoint, rollover = replace(endpoint, ring=Ring.of(held)), Rollover(clock=clock, metrics=Counts())

    bodies = [await rollover.message(endpoint) for _ in range(3)]

    assert 1 == len(set(bodies))
    assert 1 == len(signer.threads)
    assert threading.get_ident() not in signer.threads


async def test_the_ca_is_asked_by_one_request_at_a_time() -> None:
    clock, ca = FakeClock(pki.NOW), LeavingCa(*BOTH)
    endpoint, rollover = served(ca, clock), Rollover(clock=clock, metrics=Counts())

    first = await asyncio.gather(*(rollover.message(endpoint) for _ in range(4)))
    clock.advance(REFRESH)
    later = await asyncio.gather(*(rollover.message(endpoint) for _ in range(4)))

    assert 1 == len({*first, *later})
    assert 2 == ca.questions


async def test_a_message_that_another_ra_signed_is_not_believed() -> None:
    endpoint = served(LeavingCa(), FakeClock(pki.NOW))
    present = read_ca_certificates(ca_certificate_message(endpoint)[0])

    with pytest.raises(BadReply):
        read_next_ca(next_ca_response(NEXT.chain, identity(OTHER).signer), present)


@pytest.mark.parametrize(
    "chain",
    [
        CA.chain,
        (b"no certificate",),
        (pki.der(NEXT.issue(pki.rsa_key())),),
        (*NEXT.chain, *OTHER.chain),
    ],
    ids=["the present one", "garbage", "no CA", "no chain"],
)
async def test_what_cannot_follow_is_refused(chain: tuple[bytes, ...]) -> None:
    configured = replace(backend(LeavingCa(), CA, FakeClock()), next_ca=chain)

    with pytest.raises(NoNextCa):
        check_next_chain(chain, CA.chain)
    with pytest.raises(Misconfigured, match="next_ca"):
        insist_on_next_ca(configured)


@pytest.mark.rfc8894("more-caps")
async def test_capabilities_say_what_there_is_and_what_the_profile_adds() -> None:
    endpoint = served(LeavingCa(), FakeClock(), capabilities_extra=("SHA-384",))

    with_one = capabilities(endpoint, has_next_ca=True).decode().split()
    without = capabilities(endpoint, has_next_ca=False).decode().split()

    assert ["GetNextCACert"] == [each for each in with_one if each not in without]
    assert "SHA-384" == without[-1]


@pytest.mark.parametrize("word", ["", "two words", "line\nbreak", "GetNextCACert", "ümlaut"])
async def test_a_word_that_is_none_or_would_be_a_lie_cannot_be_added(word: str) -> None:
    with pytest.raises(Misconfigured, match="capabilities_extra"):
        Profile(name="default", capabilities_extra=(word,))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("chain", ["SCEP RA test", "Test CA", "Policy CA", "Root"]),
        ("without-root", ["SCEP RA test", "Test CA", "Policy CA"]),
        ("issuer", ["SCEP RA test", "Test CA"]),
        ("ca-first", ["Test CA", "Policy CA", "Root", "SCEP RA test"]),
    ],
)
@pytest.mark.rfc8894("single-ca")
async def test_what_getcacert_shows_follows_the_profile(form: str, expected: list[str]) -> None:
    root = pki.root(name="Root", number=3)
    policy = root.issue(pki.key("ec:p256", 4), name="Policy CA", ca=True)
    endpoint = served(LeavingCa(), FakeClock(), ca_cert_form=form)
    chain = (*CA.chain, pki.der(policy), *root.chain)
    endpoint = replace(endpoint, backend=replace(endpoint.backend, ca_chain=chain))

    shown = read_ca_certificates(ca_certificate_message(endpoint)[0]).all

    assert expected == [_name(each) for each in shown]


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string().removeprefix("CN=")
