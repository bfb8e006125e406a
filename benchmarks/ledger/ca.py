"""The ledger CA: `python -m benchmarks.ledger.ca DIRECTORY PORT`, a process of its own with the key in DIRECTORY/ca.key.

Not idempotent: who asks twice gets two certificates. One order in eight is accepted at once and decided a little later,
whether or not anybody still asks; that of a device which is called late, always, and some seconds later. One answer in forty comes too late, and in every second of these the certificate is
issued as late. The process that asks can be ended on the way: `POST /arm` names it and the moment.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.ledger.attended import Kind
from benchmarks.ledger.book import Book, Entry, key_digest
from benchmarks.ledger.wire import PROCESS_HEADER, read_contents, write_entry
from connectors.api import ApprovedContents, IssueRequest, Secret
from connectors.internal.authority import Authority, Rules
from connectors.keyfiles import read_certificates, read_private_key

BOOK = "ledger.db"
RECEIVED, ISSUED = "ca:received", "ca:issued"
"""The request is in the book and nothing is issued; it is issued, and the answer is not yet on its way."""

_LATE_SECONDS = 2.5
"""What comes late takes longer than the RA waits for an answer, and less than it takes to believe a no."""

_LATE_ONE_IN = 40
_DEFERRED_ONE_IN = 8
_LONGEST_DELAY_SECONDS = 0.06
_LONGEST_DEFERRAL_SECONDS = 1.5
_LATE_DEFERRAL_SECONDS = (4.0, 5.0)
_RULES = Rules(
    digest=None,
    max_validity=timedelta(days=3650),
    backdate=timedelta(minutes=5),
    aia_url=None,
    ocsp_url=None,
    crl_urls=(),
)


class LedgerCa:
    """The CA and what it knows: its book, the orders it has not decided, and whom it is to end when."""

    def __init__(self, authority: Authority, book: Book) -> None:
        self._authority = authority
        self._book = book
        self._orders: dict[str, asyncio.Task[Entry]] = {}
        self._armed: dict[int, str] = {}
        self._fired: Counter[str] = Counter()
        self._random = random.Random()  # noqa: S311 - delays

    def application(self) -> Starlette:
        routes: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
            ("/certificates", "POST", self.issue),
            ("/certificates", "GET", self.find),
            ("/orders/{reference}", "GET", self.poll),
            ("/revocations", "POST", self.revoke),
            ("/arm", "POST", self.arm),
            ("/fired", "GET", self.fired),
        )
        return Starlette(routes=[Route(path, handler, methods=[method]) for path, method, handler in routes])

    async def issue(self, request: Request) -> Response:
        """Issues, however often it is asked: 200 with the certificate, or 202 and the order is to be polled."""
        said = await request.json()
        contents = read_contents(said["contents"])
        asker = int(request.headers[PROCESS_HEADER])
        self._book.receive(_now(), said["reference"], key_digest(contents.spki))
        self._pass(RECEIVED, asker)
        before, after = self._delays()
        await asyncio.sleep(before)
        if _is_late(contents) or self._random.randrange(_DEFERRED_ONE_IN) == 0:
            self._orders[said["reference"]] = asyncio.create_task(self._decide(said["reference"], contents))
            self._pass(ISSUED, asker)
            return JSONResponse({"order": said["reference"]}, 202)
        entry = self._sign(said["reference"], contents)
        self._pass(ISSUED, asker)
        await asyncio.sleep(after)
        return JSONResponse(write_entry(entry))

    async def poll(self, request: Request) -> Response:
        """The certificate of an order, or 202 while it is not decided."""
        order = self._orders.get(request.path_params["reference"])
        if order is None:
            return Response(status_code=404)
        return JSONResponse(write_entry(order.result())) if order.done() else Response(status_code=202)

    async def find(self, request: Request) -> Response:
        """What was issued for a reference or a key; 202 while an order of that reference is not decided."""
        asked = request.query_params
        order = self._orders.get(asked["reference"])
        if order is not None and not order.done():
            return Response(status_code=202)
        entry = self._book.find(asked["reference"], asked["key"], float(asked["since"]))
        return Response(status_code=404) if entry is None else JSONResponse(write_entry(entry))

    async def revoke(self, request: Request) -> Response:
        self._book.revoke(_now(), (await request.json())["serial"])
        return Response(status_code=204)

    async def arm(self, request: Request) -> Response:
        """Ends a process the next time that it asks and that moment is reached."""
        said = await request.json()
        self._armed[said["process"]] = said["point"]
        return Response(status_code=204)

    async def fired(self, _request: Request) -> Response:
        return JSONResponse(dict(self._fired))

    def _delays(self) -> tuple[float, float]:
        """What passes before a certificate is issued, and from there to the answer, in seconds."""
        before = self._random.uniform(0, _LONGEST_DELAY_SECONDS)
        if self._random.randrange(_LATE_ONE_IN):
            return before, 0.0
        return self._random.choice([(_LATE_SECONDS, 0.0), (before, _LATE_SECONDS)])

    async def _decide(self, reference: str, contents: ApprovedContents) -> Entry:
        shortest, longest = _LATE_DEFERRAL_SECONDS if _is_late(contents) else (0, _LONGEST_DEFERRAL_SECONDS)
        await asyncio.sleep(self._random.uniform(shortest, longest))
        return self._sign(reference, contents)

    def _sign(self, reference: str, contents: ApprovedContents) -> Entry:
        """A new certificate each time, because the idempotency key, from which the serial comes, is a new one."""
        now = _now()
        asked = IssueRequest(
            csr=b"",
            contents=contents,
            profile="",
            idempotency_key=uuid4(),
            requested_at=datetime.fromtimestamp(now, UTC),
        )
        certificate, _ = self._authority.issue(asked)
        return self._book.issue(now, reference, certificate)

    def _pass(self, point: str, asker: int) -> None:
        if self._armed.get(asker) == point:
            del self._armed[asker]
            with suppress(ProcessLookupError):  # somebody else was faster
                os.kill(asker, signal.SIGKILL)
                self._fired[point] += 1


def serve(directory: Path, port: int, make: Callable[[Authority, Book], LedgerCa]) -> None:
    """Serves until SIGTERM."""
    chain = read_certificates(directory / "ca.pem")
    passphrase = Secret((directory / "ca.passphrase").read_text("utf-8").strip())
    authority = Authority(chain[0], read_private_key(directory / "ca.key", passphrase), _RULES)
    ca = make(authority, Book(directory / BOOK))
    uvicorn.run(ca.application(), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _is_late(contents: ApprovedContents) -> bool:
    values = (each.value for rdn in contents.subject for each in rdn)
    return any(Kind.of(value) is Kind.LATE for value in values)


def _now() -> float:
    return time.time()  # noqa: TID251 - a program of its own, not the service


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), LedgerCa)
