"""A value that is fetched from somewhere else now and then, and used on for a while when that place is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from connectors.api import ConnectorError

T = TypeVar("T")

TRY_AGAIN_AFTER = timedelta(seconds=30)
"""After a try that failed, and after one that was forced, for so long nobody asks again."""


@dataclass(slots=True, kw_only=True)
class Fetched(Generic[T]):
    """The last value that could be had. Only one asks at a time; the others wait for what it gets.

    Attributes:
        fetch: raises ConnectorError where it cannot be had.
        fresh: for so long a value is not asked for again.
        stale: for so long, from when it was fetched, a value does where no newer one can be had.
        on_stale: told why a value that is no longer fresh is used on.
    """

    fetch: Callable[[], Awaitable[T]]
    now: Callable[[], datetime]
    fresh: timedelta
    stale: timedelta
    on_stale: Callable[[ConnectorError], None]
    _value: tuple[T, datetime] | None = None
    _tried_at: datetime | None = None
    _error: ConnectorError | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, *, insist: bool = False) -> T:
        """The value; with `insist` a newer one, unless one was tried for a moment ago.

        Raises:
            ConnectorError: there is none, or the last one is too old.
        """
        if not insist and (kept := self._kept(self.fresh)) is not None:
            return kept[0]
        seen = self._value
        async with self._lock:
            if self._value is not seen and self._value is not None:  # somebody else has fetched it meanwhile
                return self._value[0]
            if self._may_try():
                await self._try()
        kept = self._kept(self.stale)
        if kept is not None:
            return kept[0]
        raise self._error or AssertionError("a value that was fetched just now is too old")

    def _kept(self, age: timedelta) -> tuple[T, datetime] | None:
        return self._value if self._value and self.now() - self._value[1] < age else None

    def _may_try(self) -> bool:
        return self._tried_at is None or self.now() - self._tried_at >= TRY_AGAIN_AFTER

    async def _try(self) -> None:
        self._tried_at = self.now()
        try:
            self._value = (await self.fetch(), self.now())
            self._error = None
        except ConnectorError as error:
            self._error = error
            if self._value is not None:
                self.on_stale(error)
