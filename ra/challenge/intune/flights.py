"""Finding one thing out once, for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Whoever asks for what is being found out already, waits for the same answer, or the same error.

    Who stops waiting cancels nothing: the others wait on.
    """

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._under_way.get(key)
        if task is None:
            self._under_way[key] = task = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(partial(self._landed, key))
        return await asyncio.shield(task)

    def _landed(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    async def aclose(self) -> None:
        """Gives up what is under way."""
        tasks = tuple(self._under_way.values())
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)
