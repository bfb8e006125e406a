"""Work that outlives the request that began it.

From the commit that authorises on, an enrolment is carried out here: a device that hangs up cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Tasks by key, at most one each; a task's own failure is its result's, never another's."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def start(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: Hashable, done: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is done:
            del self._tasks[key]

    def running(self, key: Hashable) -> asyncio.Task[T] | None:
        return self._tasks.get(key)

    async def drain(self) -> None:
        """Waits until all that was started has ended."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))
