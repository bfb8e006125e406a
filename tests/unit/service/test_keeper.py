"""The life of the RA's own identity by a clock that stands still until it is told to move."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    Issued,
    IssueResult,
    Pending,
    RateLimited,
    Rejected,
    Rejection,
)
from ra.journal.events import EVENTS
from ra.keyring.checks import examine
from ra.service.ring import Ring
from tests.fakes import pki
from tests.fakes.clock import FakeClock
from tests.fakes.keeping import RENEW_BEFORE, SHOW_AFTER, OwnCa, keeping

pytestmark = pytest.mark.anyio

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
VALIDITY = timedelta(days=730)
GIVEN_UP = timedelta(minutes=10)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(pki.NOW)


async def test_a_first_start_obtains_a_certificate_and_shows_it_at_once(journal_url: str) -> None:
    async with keeping(journal_url) as ra:
        assert await ra.round() != []

        assert () == examine(ra.holding.identities[0], ra.ca.ca.chain, pki.NOW, os.urandom)
        assert ra.holding.trouble is None
        assert {"ra-key-made": 1, "ra-certificate": 1} == await ra.audited()


async def test_the_key_lies_sealed_in_the_journal(journal_url: str) -> None:
    async with keeping(journal_url) as ra:
        await ra.round()

        (kept,) = await ra.keys()
        modulus = ra.holding.identities[0].decryptor.certificate[-600:-300]
        assert modulus not in kept.key
        assert b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" not in kept.key
        assert kept.key.hex() not in repr(kept)


async def test_it_renews_itself_before_the_end_and_overlaps(journal_url: str) -> None:
    async with keeping(journal_url) as ra:
        (first,) = await ra.round()
        assert [first] == await ra.round(VALIDITY - RENEW_BEFORE - SECOND)
        obtained = await ra.round(SECOND)
        second = obtained[1]
        before = await ra.round(SHOW_AFTER - SECOND)
        shown = await ra.round(SECOND)
        last = await ra.round(RENEW_BEFORE - SHOW_AFTER - SECOND)
        over = await ra.round(SECOND)

        assert [first, second] == obtained == before
        assert [second, first] == shown == last
        assert [second] == over
        assert 1 == len(await ra.keys())
        assert {"ra-key-made": 2, "ra-certificate": 2, "ra-key-forgotten": 1} == await ra.audited()


async def test_a_configured_overlap_ends_before_the_certificate_does(journal_url: str) -> None:
    async with keeping(journal_url, overlap=7 * DAY) as ra:
        (first,) = await ra.round()
        _, second = await ra.round(VALIDITY - RENEW_BEFORE)
        shown = await ra.round(SHOW_AFTER)

        assert [second, first] == shown == await ra.round(7 * DAY - SECOND)
        assert [second] == await ra.round(SECOND)


async def test_what_lives_shortly_is_renewed_after_two_thirds_of_its_time(journal_url: str) -> None:
    async with keeping(journal_url) as ra:
        ra.ca.longest = timedelta(hours=72)
        (first,) = await ra.round()

        assert [first] == await ra.round(timedelta(hours=48) - SECOND)
        assert 2 == len(await ra.round(SECOND))


async def test_the_last_one_is_kept_beyond_its_end(journal_url: str) -> None:
    """Some devices do not mind; readiness says that it has run out."""
    async with keeping(journal_url) as ra:
        (first,) = await ra.round()
        ra.ca.instead = [BackendUnavailable("away", maybe_issued=False)]

        assert [first] == await ra.round(VALIDITY + DAY)
        assert ra.holding.trouble == "the CA could not be asked: away"


async def test_a_ca_whose_clock_is_ahead_is_waited_for(journal_url: str) -> None:
    async with keeping(journal_url) as ra:
        (first,) = await ra.round()
        ra.ca.ahead = timedelta(minutes=5)
        obtained = await ra.round(VALIDITY - RENEW_BEFORE)
        early = await ra.round(timedelta(minutes=5) + SHOW_AFTER - SECOND)

        assert first == obtained[0] == early[0]
        assert obtained[1] == (await ra.round(SECOND))[0]


async def test_two_processes_share_one_identity_and_one_of_them_asks(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock)
    async with keeping(journal_url, clock=clock, ca=ca) as one, keeping(journal_url, clock=clock, ca=ca) as other:
        await one.round()
        await other.round()
        await other.round(VALIDITY - RENEW_BEFORE)
        await one.round()

        assert 2 == len(one.serials)
        assert one.serials == other.serials
        assert 2 == len(ca.requests)


async def test_while_one_process_waits_for_the_ca_nobody_else_asks(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock)
    async with keeping(journal_url, clock=clock, ca=ca) as one, keeping(journal_url, clock=clock, ca=ca) as other:
        ca.instead = [BackendUnavailable("away", maybe_issued=True)]
        await one.round()
        await other.round()

        assert 1 == len(ca.requests)


async def test_beside_another_identity_even_the_first_is_held_back(journal_url: str) -> None:
    """Devices know the other one: until every process has this one's key, nobody may show it."""
    async with keeping(journal_url, is_alone=False) as ra:
        (first,) = await ra.round()

        (kept,) = await ra.keys()
        assert pki.NOW + SHOW_AFTER == kept.shown_at
        assert [first] == ra.serials


async def test_a_ca_that_takes_its_time_is_polled_also_after_a_restart(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock)
    ca.instead = [Pending(reference="order 7", retry_after_seconds=60)] * 2
    async with keeping(journal_url, clock=clock, ca=ca) as ra:
        assert [] == await ra.round()
        assert ra.holding.trouble == "the CA has not decided yet"
        assert [] == await ra.round(60 * SECOND)
    async with keeping(journal_url, clock=clock, ca=ca) as ra:
        assert [] == await ra.round(59 * SECOND)
        assert 1 == len(await ra.round(SECOND))

    assert ["order 7", "order 7"] == ca.polled
    assert 1 == len(ca.requests)


async def test_what_is_asked_again_is_asked_with_the_same_bytes(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock)
    ca.instead = [BackendUnavailable("lost", maybe_issued=True)]
    async with keeping(journal_url, clock=clock, ca=ca) as ra:
        await ra.round()
    async with keeping(journal_url, clock=clock, ca=ca) as ra:
        await ra.round(timedelta(minutes=5))

    first, second = ca.requests
    assert first == second


async def test_a_ca_that_can_say_what_it_has_issued_is_not_asked_twice(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock, frozenset({Capability.RA_CERTIFICATE, Capability.FIND_ISSUED}))
    ca.instead = [BackendUnavailable("lost", maybe_issued=True)]
    async with keeping(journal_url, clock=clock, ca=ca) as ra:
        await ra.round()

        assert 1 == len(await ra.round(timedelta(minutes=5)))

    assert (1, 1) == (len(ca.requests), len(ca.found))


OTHERS = Issued(certificate=pki.der(pki.root().issue(pki.rsa_key(1))), chain=(), reference="1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Rejected(rejection=Rejection.POLICY, detail="no RA here"), "refuses the RA's certificate: no RA here"),
        (OTHERS, "sent a certificate that will not do"),
    ],
    ids=["refused", "somebody else's certificate"],
)
async def test_what_a_person_has_to_mend_is_tried_anew_after_a_while(
    journal_url: str, answer: IssueResult, said: str
) -> None:
    async with keeping(journal_url) as ra:
        ra.ca.instead = [answer]

        assert [] == await ra.round()
        assert said in (ra.holding.trouble or "")
        assert [] == await ra.round(GIVEN_UP - SECOND)
        assert 1 == len(await ra.round(SECOND))
        assert ra.holding.trouble is None
        assert 2 == len({each.idempotency_key for each in ra.ca.requests})


@pytest.mark.parametrize(
    "error", [AuthFailed("bad token"), RateLimited("later", 200), RuntimeError("broken"), TimeoutError()]
)
async def test_a_ca_that_fails_is_asked_again_and_what_there_was_goes_on(journal_url: str, error: Exception) -> None:
    async with keeping(journal_url) as ra:
        (first,) = await ra.round()
        ra.ca.instead = [error]

        assert [first] == await ra.round(VALIDITY - RENEW_BEFORE)
        assert "could not be asked" in (ra.holding.trouble or "")
        assert 2 == len(await ra.round(timedelta(minutes=5)))
        assert {type(error).__name__: 1} == ra.counts.failures


async def test_a_request_sealed_to_what_another_process_shows_has_it_taken_up(
    journal_url: str, clock: FakeClock
) -> None:
    ca = OwnCa(clock)
    async with keeping(journal_url, clock=clock, ca=ca) as one, keeping(journal_url, clock=clock, ca=ca) as other:
        await one.round()
        clock.advance(SECOND)

        await Ring((other.holding,)).look()

        assert one.serials == other.serials


async def test_strangers_cause_one_look_a_second(journal_url: str, clock: FakeClock) -> None:
    ca = OwnCa(clock)
    async with keeping(journal_url, clock=clock, ca=ca) as one, keeping(journal_url, clock=clock, ca=ca) as other:
        await other.holding.look()
        await one.round()

        await other.holding.look()

        assert [] == other.serials


def test_what_is_audited_is_described() -> None:
    assert {"ra-key-made", "ra-certificate", "ra-key-forgotten"} <= EVENTS.keys()
