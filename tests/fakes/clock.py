"""A clock that stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements ra.service.ports.Clock; `slept_seconds` is what was asked of it."""

    def __init__(self, now: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)) -> None:
        self._start = now
        self._passed = timedelta()
        self.slept_seconds: list[float] = []

    def now(self) -> datetime:
        return self._start + self._passed

    def monotonic_seconds(self) -> float:
        return self._passed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.slept_seconds.append(seconds)
        self.advance(timedelta(seconds=seconds))

    def advance(self, by: timedelta) -> None:
        self._passed += by
