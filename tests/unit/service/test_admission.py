"""Who is let in when there is too much to do: whoever asks again, and polls, go before what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from ra.errors import Reason, Refused, Unavailable
from ra.scep.decode import read_outer
from ra.scep.messages import Outer
from ra.service.admission import LOOK_SECONDS, RETRY_SECONDS, TOO_LATE_SECONDS, Admission
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, assembled
from tests.fakes.device import Device
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()


@pytest.fixture
async def ra(tmp_path: Path) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, IssuingCa(CA), CA) as registration_authority:
        yield registration_authority


def admission(ra: Assembled, *, max_in_flight: int = 1, entropy: int = 0) -> Admission:
    return Admission(
        max_in_flight=max_in_flight,
        journal=ra.journal,
        clock=ra.clock,
        entropy=lambda size: bytes([entropy] * size),
        metrics=ra.counts,
    )


def outer(message: bytes) -> Outer:
    return read_outer(message, frozenset())


def new(ra: Assembled) -> Outer:
    return outer(Device().enrol_message(ra.ca, challenge=CHALLENGE))


async def test_so_many_are_let_in_and_then_no_more(ra: Assembled) -> None:
    door = admission(ra, max_in_flight=2)

    async with AsyncExitStack() as inside:
        for _ in range(2):
            await inside.enter_async_context(door.admitted("default", new(ra)))
        with pytest.raises(Unavailable) as caught:
            await inside.enter_async_context(door.admitted("default", new(ra)))
    async with door.admitted("default", new(ra)):
        pass

    assert caught.value.retry_after_seconds in RETRY_SECONDS
    assert {"in-flight": 1} == ra.counts.away
    assert [1, 2, 1, 0, 1, 0] == ra.counts.in_flight


@pytest.mark.parametrize("error", [Refused(Reason.CA_REFUSED), asyncio.CancelledError()], ids=repr)
async def test_whoever_ends_otherwise_is_not_counted_any_more(ra: Assembled, error: BaseException) -> None:
    door = admission(ra)

    with pytest.raises(type(error)):
        async with door.admitted("default", new(ra)):
            raise error

    assert [1, 0] == ra.counts.in_flight


async def test_not_all_are_told_to_come_back_at_once(ra: Assembled) -> None:
    told, message = set(), new(ra)

    for entropy in range(256):
        door = admission(ra, max_in_flight=0, entropy=entropy)
        with pytest.raises(Unavailable) as caught:
            async with door.admitted("default", message):
                pass
        told.add(caught.value.retry_after_seconds)

    assert set(RETRY_SECONDS) == told


async def test_what_the_journal_knows_is_let_in_however_many_there_are(ra: Assembled) -> None:
    device, stranger = Device(), Device()
    message = device.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id="known")
    await ra.answer(message)
    full = admission(ra, max_in_flight=0)

    again = device.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id="another")  # RFC 8894 §5.2
    async with full.admitted("default", outer(message)), full.admitted("default", outer(again)):
        in_flight = ra.counts.in_flight[-1]

    assert in_flight == 2
    for profile, other in (
        ("default", stranger.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id="known")),
        ("other", message),
    ):
        with pytest.raises(Unavailable):
            async with full.admitted(profile, outer(other)):
                pass


async def test_a_poll_is_let_in_and_not_counted(ra: Assembled) -> None:
    poll = outer(Device().poll_message(ra.ca))

    async with admission(ra, max_in_flight=0).admitted("default", poll):
        pass

    assert [] == ra.counts.in_flight


# ---------------------------------------------------------------- a process that is late
class LateClock:
    """A clock whose sleeps take longer than was asked; after the last of them it sleeps for ever."""

    def __init__(self, ra: Assembled, *late_seconds: float) -> None:
        self._clock = ra.clock
        self._late_seconds = list(late_seconds)
        self.now, self.monotonic_seconds = ra.clock.now, ra.clock.monotonic_seconds

    async def sleep(self, seconds: float) -> None:
        if not self._late_seconds:
            await asyncio.Event().wait()
        self._clock.advance(timedelta(seconds=seconds + self._late_seconds.pop(0)))


async def watched(ra: Assembled, *late_seconds: float) -> Admission:
    """One that has looked that often, and waits for its next look."""
    door = Admission(
        max_in_flight=1000,
        journal=ra.journal,
        clock=LateClock(ra, *late_seconds),
        entropy=bytes,
        metrics=ra.counts,
    )
    watching = asyncio.create_task(door.watch())
    await asyncio.sleep(0)
    watching.cancel()
    return door


async def test_a_process_that_is_late_takes_nothing_new_on(ra: Assembled) -> None:
    late = await watched(ra, TOO_LATE_SECONDS + 0.5)

    with pytest.raises(Unavailable):
        async with late.admitted("default", new(ra)):
            pass

    assert {"lag": 1} == ra.counts.away
    assert [TOO_LATE_SECONDS + 0.5] == ra.counts.lags


async def test_a_process_that_has_caught_up_does(ra: Assembled) -> None:
    late = await watched(ra, TOO_LATE_SECONDS + 0.5, 0.0)

    async with late.admitted("default", new(ra)):
        pass

    assert [TOO_LATE_SECONDS + 0.5, 0.0] == ra.counts.lags
    assert {} == ra.counts.away


async def test_lateness_counts_before_it_is_measured(ra: Assembled) -> None:
    late = await watched(ra)

    ra.clock.advance(timedelta(seconds=LOOK_SECONDS + TOO_LATE_SECONDS + 0.5))
    with pytest.raises(Unavailable):
        async with late.admitted("default", new(ra)):
            pass

    assert [] == ra.counts.lags
