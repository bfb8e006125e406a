"""A worker's start, which waits for what it needs: `serve` has found it all there, so it will be there again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TypeVar

import structlog

from ra.errors import Unavailable

T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
"""Between two tries, growing."""

_ENDING = (signal.SIGTERM, signal.SIGINT)


async def build_patiently(
    build: Callable[[AsyncExitStack], Awaitable[T]], stack: AsyncExitStack, sleep: Callable[[float], Awaitable[None]]
) -> T:
    """What `build` makes, once the database and the CAs can be reached; `stack` closes what it has opened.

    A worker that gave up instead would end the service: uvicorn starts none again that has failed to start.
    """
    pause_seconds = FIRST_PAUSE_SECONDS
    with _ended_by_signals():
        while True:
            async with AsyncExitStack() as attempt:
                try:
                    built = await build(attempt)
                except Unavailable as error:
                    structlog.get_logger("ra.bootstrap").warning("the start waits", detail=str(error))
                else:
                    stack.push_async_exit(attempt.pop_all())
                    return built
            await sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Uvicorn notes the signals that end it, and looks at them only once it has started."""
    loop, before = asyncio.get_running_loop(), {each: signal.getsignal(each) for each in _ENDING}
    for each in _ENDING:
        loop.add_signal_handler(each, _end, each)
    try:
        yield
    finally:
        for each in _ENDING:
            loop.remove_signal_handler(each)
            signal.signal(each, before[each])


def _end(number: signal.Signals) -> None:
    """At once: nobody is served yet."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
