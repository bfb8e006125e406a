"""An answer that is kept for some seconds: what strangers may ask for must not cost a database or a CA at every call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ra.service.ports import Clock

T = TypeVar("T")


class Recent(Generic[T]):
    """Asks `source` at most once in `keep_seconds`, and once at a time. What it raises is not kept."""

    def __init__(self, source: Callable[[], Awaitable[T]], clock: Clock, keep_seconds: float) -> None:
        self._source = source
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._kept: tuple[float, T] | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        async with self._lock:
            now = self._clock.monotonic_seconds()
            if self._kept is None or now - self._kept[0] >= self._keep_seconds:
                self._kept = (now, await self._source())
            return self._kept[1]
