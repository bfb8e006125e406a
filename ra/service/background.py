"""Work that outlives the request that began it.

From the commit that authorises on, an enrolment is carried out here: a device that hangs up cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

import structlog

from ra.errors import RaError

T = TypeVar("T")

_log = structlog.get_logger("ra.service.background")


class Background(Generic[T]):
    """Tasks by key, the newest of each to be waited for; a task's own failure is its result's, never another's."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}
        self._all: set[asyncio.Task[T]] = set()

    def start(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task
        self._all.add(task)
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: Hashable, done: asyncio.Task[T]) -> None:
        """Says what went wrong with a task: perhaps nobody waits for it any more."""
        self._all.discard(done)
        if self._tasks.get(key) is done:
            del self._tasks[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            known = isinstance(error, RaError)  # anything else is a defect, and its text may quote what a device sent
            _log.warning(
                "work was cut short", what=str(key), **({"detail": str(error)} if known else {"exc_info": error})
            )

    def running(self, key: Hashable) -> asyncio.Task[T] | None:
        return self._tasks.get(key)

    async def drain(self) -> None:
        """Waits until all that was started has ended."""
        while self._all:
            await asyncio.wait(tuple(self._all))
