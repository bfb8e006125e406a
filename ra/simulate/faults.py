"""What goes wrong on demand: the next request to a path is answered otherwise, or never, before or after the work."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class _Fault:
    path: str
    answer: Response | None
    after_work: bool


class Faults:
    """An application around another one. Switched by its owner, never over HTTP."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting: list[_Fault] = []
        self._standing: list[_Fault] = []

    def at_next(self, path: str, answer: Response | None = None, *, after_work: bool = False) -> None:
        """The next request whose path contains `path` gets this answer, or none at all until it gives up.

        After the work, the request is carried out first, and only its answer is lost.
        """
        self._waiting.append(_Fault(path, answer, after_work))

    def always(self, path: str, answer: Response | None = None) -> None:
        """Every request whose path contains `path` gets this answer, or none at all, until `end`."""
        self._standing.append(_Fault(path, answer, after_work=False))

    def end(self) -> None:
        """What was wrong always is so no longer."""
        self._standing.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._taken(scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.after_work:
            await self._app(scope, receive, _swallow)
        if fault.answer is not None:
            await fault.answer(scope, receive, send)
            return
        while (await receive())["type"] != "http.disconnect":
            pass

    def _taken(self, path: str) -> _Fault | None:
        found = next((each for each in self._waiting if each.path in path), None)
        if found is not None:
            self._waiting.remove(found)
            return found
        return next((each for each in self._standing if each.path in path), None)


async def _swallow(_message: Message) -> None:
    """The answer that is lost."""
