"""The pages of challenge validators over HTTP: found by their path, whatever its case, on the listener they are for."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from ra.challenge.pages import Listener, MountedPage, PageRequest
from ra.errors import Unavailable
from ra.scep.errors import TooLarge
from ra.web.edge import log_line
from ra.web.replies import HttpRefusal, HttpReply, HungUp, read_body, reply_to

MAX_BODY_BYTES = 64 * 1024


def routes(pages: Iterable[MountedPage], listener: Listener) -> list[BaseRoute]:
    """One route for each page of that listener."""
    return [PageRoute(each) for each in pages if each.page.listener is listener]


class PageRoute(BaseRoute):
    """Answers at one path: managements write it in upper and lower case, with and without a slash at the end."""

    def __init__(self, mounted: MountedPage) -> None:
        self._mounted = mounted
        self._path = mounted.page.path.lower()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_it = scope["type"] == "http" and scope["path"].rstrip("/").lower() == self._path
        return (Match.FULL if is_it else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = log_line(scope)
        line["operation"] = "challenge-page"
        try:
            reply = await self._answer(scope, receive)
        except HungUp:
            line["outcome"] = "hung-up"
            return
        except (HttpRefusal, TooLarge, Unavailable) as error:
            line["outcome"] = "unavailable" if isinstance(error, Unavailable) else "unreadable"
            reply = reply_to(error)
        await reply.write(send)

    async def _answer(self, scope: Scope, receive: Receive) -> HttpReply:
        page = self._mounted.page
        if scope["method"] not in page.methods:
            allowed = ", ".join(page.methods)
            raise HttpRefusal(405, f"This page is asked by {allowed}.", ((b"allow", allowed.encode("ascii")),))
        body = await read_body(scope, receive, MAX_BODY_BYTES) if scope["method"] == "POST" else b""
        answer = await page.answer(
            PageRequest(
                method=scope["method"],
                headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
                body=body,
                peer=(scope.get("client") or ("unknown",))[0],
                ca_certificate=self._mounted.ca_certificate,
            )
        )
        line = log_line(scope)
        line["outcome"] = answer.outcome
        if answer.caller is not None:
            line["caller"] = answer.caller
        headers = tuple((name.lower().encode("ascii"), value.encode("ascii")) for name, value in answer.headers)
        return HttpReply(body=answer.body, media_type=answer.media_type, status=answer.status, headers=headers)
