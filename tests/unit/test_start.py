"""A worker's start waits for what cannot be reached, and for nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import pytest

from ra.bootstrap.start import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, build_patiently
from ra.errors import Misconfigured, Unavailable

pytestmark = pytest.mark.anyio


class Building:
    """Fails so often, and counts what is opened and closed."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.opened = self.closed = 0
        self.pauses: list[float] = []

    async def build(self, stack: AsyncExitStack) -> str:
        self.opened += 1
        stack.callback(self.close)
        if self.opened <= self.failures:
            raise self.error
        return "built"

    def close(self) -> None:
        self.closed += 1

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_it_is_tried_until_it_can_be_had_with_pauses_that_grow() -> None:
    building = Building(7, Unavailable("the database is away"))

    async with AsyncExitStack() as stack:
        built = await build_patiently(building.build, stack, building.sleep)
        while_it_is_used = building.opened, building.closed

    assert "built" == built
    assert (8, 7) == while_it_is_used
    assert 8 == building.closed
    assert [FIRST_PAUSE_SECONDS, 1, 2, 4, 8, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS] == building.pauses


async def test_what_is_wrong_stays_wrong_and_is_not_waited_for() -> None:
    building = Building(1, Misconfigured("that is no URL"))

    async with AsyncExitStack() as stack:
        with pytest.raises(Misconfigured):
            await build_patiently(building.build, stack, building.sleep)

    assert (1, 1, []) == (building.opened, building.closed, building.pauses)


async def test_afterwards_the_signals_are_whose_they_were() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        building = Building(0, Misconfigured(""))
        async with AsyncExitStack() as stack:
            await build_patiently(building.build, stack, building.sleep)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert [signal.SIGTERM] == seen
