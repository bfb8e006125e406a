from __future__ import annotations

import asyncio

import pytest

from ra.service.background import Background

pytestmark = pytest.mark.anyio


async def test_work_goes_on_when_the_one_who_waits_is_cancelled() -> None:
    background: Background[str] = Background()
    may_end = asyncio.Event()
    ended = []

    async def work() -> str:
        await may_end.wait()
        ended.append("ended")
        return "result"

    async def request() -> None:
        await asyncio.wait({background.start("key", work())})

    waiting = asyncio.create_task(request())
    await asyncio.sleep(0)
    waiting.cancel()
    may_end.set()
    await background.drain()

    assert ended == ["ended"]


async def test_one_failure_is_not_anothers() -> None:
    background: Background[str] = Background()

    async def fail() -> str:
        raise OSError("the first")

    async def succeed() -> str:
        return "the second"

    first, second = background.start(1, fail()), background.start(2, succeed())
    await background.drain()

    assert isinstance(first.exception(), OSError)
    assert second.result() == "the second"


async def test_ended_work_is_no_longer_running() -> None:
    background: Background[None] = Background()

    async def work() -> None: ...

    task = background.start("key", work())
    running = background.running("key")
    await background.drain()

    assert running is task
    assert background.running("key") is None
