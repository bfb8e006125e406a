"""A ledger CA without surprises: `python -m benchmarks.ledger.steady DIRECTORY PORT`. It is slow, and asked too much it is slower.

Each certificate takes it the same time, and it makes so many at once; who asks beyond that waits.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from benchmarks.ledger.book import Book, key_digest
from benchmarks.ledger.ca import LedgerCa, _now, serve
from benchmarks.ledger.wire import read_contents, write_entry
from connectors.internal.authority import Authority

SECONDS = 0.2
SLOTS = 20


class SteadyCa(LedgerCa):
    """Decides every order at once, when its turn has come."""

    def __init__(self, authority: Authority, book: Book) -> None:
        super().__init__(authority, book)
        self._slots = asyncio.Semaphore(SLOTS)

    async def issue(self, request: Request) -> Response:
        said = await request.json()
        contents = read_contents(said["contents"])
        self._book.receive(_now(), said["reference"], key_digest(contents.spki))
        async with self._slots:
            await asyncio.sleep(SECONDS)
        return JSONResponse(write_entry(self._sign(said["reference"], contents)))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), SteadyCa)
