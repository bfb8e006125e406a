from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ra.web.recent import Recent
from tests.fakes.clock import FakeClock


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def __call__(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise LookupError
        return self.asked


def test_an_answer_is_kept_for_its_time() -> None:
    async def ask() -> list[int]:
        clock = FakeClock()
        recent = Recent(Source(), clock, keep_seconds=5)
        answers = [await recent.get()]
        clock.advance(timedelta(seconds=4.9))
        answers.append(await recent.get())
        clock.advance(timedelta(seconds=0.1))
        return [*answers, await recent.get()]

    assert asyncio.run(ask()) == [1, 1, 2]


def test_many_at_once_ask_once() -> None:
    async def ask() -> tuple[list[int], int]:
        source = Source()
        recent = Recent(source, FakeClock(), keep_seconds=5)
        return await asyncio.gather(*(recent.get() for _ in range(10))), source.asked

    assert asyncio.run(ask()) == ([1] * 10, 1)


def test_a_failure_is_not_kept() -> None:
    async def ask() -> int:
        source = Source()
        recent = Recent(source, FakeClock(), keep_seconds=5)
        source.fails = True
        with pytest.raises(LookupError):
            await recent.get()
        source.fails = False
        return await recent.get()

    assert asyncio.run(ask()) == 2
