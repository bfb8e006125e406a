"""CRLs are verified, shared, kept until the CA may have a newer one, and never made use of after their nextUpdate."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509

from connectors.api import BackendUnavailable, Capability
from ra.errors import Unavailable
from ra.service.backend import Backend
from ra.service.crls import REFRESH, RETRY, Crls, NoCrl, read_crl
from ra.service.gate import CONSECUTIVE_FAILURES
from tests.fakes import pki
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock
from tests.fakes.publishing import PublishingCa, backend, sign_crl

pytestmark = pytest.mark.anyio

DOWN = BackendUnavailable("refused", maybe_issued=False)
CA = pki.root()
DAY = timedelta(days=1)
PART = x509.IssuingDistributionPoint(None, None, False, True, None, False, False)
WHOLE = x509.IssuingDistributionPoint(
    [x509.UniformResourceIdentifier("http://ca.example.org/ca.crl")], None, False, False, None, False, False
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Crls before one CA."""

    ca: PublishingCa
    backend: Backend
    clock: FakeClock
    crls: Crls

    async def current(self) -> bytes:
        return (await self.crls.current(self.backend)).der


@pytest.fixture
def kept() -> Kept:
    ca, clock = PublishingCa(CA), FakeClock(pki.NOW)
    return Kept(ca, backend(ca, CA, clock), clock, Crls(clock=clock, metrics=Counts()))


async def test_a_crl_says_who_is_revoked_and_since_when(kept: Kept) -> None:
    kept.ca.published = sign_crl(CA, [7, 8])

    crl = await kept.crls.current(kept.backend)

    assert kept.ca.published == crl.der
    assert pki.NOW - timedelta(hours=1) == crl.this_update == crl.revocation(7)
    assert crl.revocation(9) is None


async def test_a_crl_is_kept_for_a_while(kept: Kept) -> None:
    first = await kept.current()
    kept.ca.published = sign_crl(CA, [7])

    kept.clock.advance(REFRESH - timedelta(seconds=1))
    assert first == await kept.current()
    kept.clock.advance(timedelta(seconds=1))
    assert kept.ca.published == await kept.current()
    assert 2 == kept.ca.crls_asked


async def test_who_asks_at_the_same_time_shares_one_answer_and_the_first_may_go(kept: Kept) -> None:
    kept.ca.may_publish.clear()
    asking = [asyncio.create_task(kept.current()) for _ in range(3)]
    await kept.ca.asked.wait()

    asking[0].cancel()
    kept.ca.may_publish.set()

    assert [kept.ca.published] * 2 == await asyncio.gather(*asking[1:])
    assert 1 == kept.ca.crls_asked


async def test_a_crl_that_cannot_be_renewed_is_used_to_its_end_and_not_after(kept: Kept) -> None:
    first = await kept.current()
    kept.ca.published = DOWN

    kept.clock.advance(DAY - timedelta(seconds=1))
    assert first == await kept.current()
    kept.clock.advance(timedelta(seconds=1))
    with pytest.raises(Unavailable):
        await kept.current()


async def test_a_ca_that_fails_is_not_asked_by_every_device(kept: Kept) -> None:
    published, kept.ca.published = kept.ca.published, DOWN
    for _ in range(CONSECUTIVE_FAILURES):
        with pytest.raises(Unavailable, match="refused"):
            await kept.current()
    assert 1 == kept.ca.crls_asked

    kept.ca.published = published
    kept.clock.advance(RETRY)

    assert published == await kept.current()


async def test_an_older_crl_than_the_one_before_is_not_taken(kept: Kept) -> None:
    first = kept.ca.published = sign_crl(CA, [7])
    await kept.current()
    kept.ca.published = sign_crl(CA, this_update=pki.NOW - DAY)
    kept.clock.advance(REFRESH)

    assert first == await kept.current()
    assert 2 == kept.ca.crls_asked


async def test_the_gate_is_asked_first(kept: Kept) -> None:
    kept.backend.gate.stop()

    with pytest.raises(Unavailable, match="stops"):
        await kept.current()

    assert 0 == kept.ca.crls_asked


async def test_a_ca_that_gives_none_is_not_asked() -> None:
    ca, clock = PublishingCa(CA, Capability.REVOKE), FakeClock(pki.NOW)

    with pytest.raises(Unavailable, match="cannot give"):
        await Crls(clock=clock, metrics=Counts()).current(backend(ca, CA, clock))

    assert 0 == ca.crls_asked


@pytest.mark.parametrize(
    ("der", "why"),
    [
        pytest.param(b"", "cannot be read", id="nothing"),
        pytest.param(sign_crl(pki.root(number=1)), "not signed it", id="another key"),
        pytest.param(sign_crl(pki.root(name="Other CA")), "another CA", id="another name"),
        pytest.param(sign_crl(CA, next_update=pki.NOW), "not now", id="run out"),
        pytest.param(sign_crl(CA, this_update=pki.NOW + timedelta(hours=2)), "not now", id="to come"),
        pytest.param(sign_crl(CA, (), PART), "a part", id="CA certificates alone"),
        pytest.param(sign_crl(CA, (), x509.DeltaCRLIndicator(1)), "2.5.29.27", id="a delta"),
    ],
)
async def test_what_is_no_crl_to_rely_on_is_refused(der: bytes, why: str) -> None:
    with pytest.raises(NoCrl, match=why):
        read_crl(der, CA.chain[0], pki.NOW)


@pytest.mark.parametrize("extension", [WHOLE, x509.CRLNumber(3)])
async def test_a_crl_of_everything_may_say_where_it_is_and_which_it_is(extension: x509.ExtensionType) -> None:
    der = sign_crl(CA, [7], extension, critical=isinstance(extension, x509.IssuingDistributionPoint))

    assert 7 in read_crl(der, CA.chain[0], pki.NOW).revoked_at
