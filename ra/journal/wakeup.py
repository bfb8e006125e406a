"""Says that there is work to do, so that it need not wait for the next look. It only saves time: a call may be missed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import Connection

_ANNOUNCED = "announced"


def announce(connection: Connection) -> None:
    """Has `Journal.wait_for_work` return once the transaction is committed; on PostgreSQL in every process.

    PostgreSQL makes the commits that announce something wait for each other: not for what every enrolment does.
    """
    connection.info[_ANNOUNCED] = True


def take_announcement(connection: Connection) -> bool:
    """Whether an operation has announced work since this was asked last."""
    return connection.info.pop(_ANNOUNCED, None) is not None


class Bell:
    """Wakes everybody who waits; who comes later waits for the next time. Belongs to one loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
