"""The connector `held`: the internal CA, which answers nothing until a file is there, and writes down what it is asked.

It is found as an installed package's is, by its entry point: `plugged_in` says where.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from connectors import internal
from connectors.api import Health, IssueRequest, IssueResult, NoCapabilities, Services

_PAUSE_SECONDS = 0.01
_METADATA = "Metadata-Version: 2.1\nName: scep-ra-held\nVersion: 0\n"
_ENTRY_POINT = "[scep_ra.connectors]\nheld = tests.fakes.held_ca\n"
_ROOT = Path(__file__).resolve().parents[2]

CONFIGURATION = ('type = "internal"', 'type = "held"\nopen = "ca.open"\nasked = "ca.asked"')
"""What of a configuration is replaced by what, so that it uses this CA."""


def plugged_in(directory: Path) -> dict[str, str]:
    """What a process needs in its environment to find the connector; `directory` is for what pip would install."""
    package = directory / "scep_ra_held-0.dist-info"
    package.mkdir(exist_ok=True)
    (package / "METADATA").write_text(_METADATA, "utf-8")
    (package / "entry_points.txt").write_text(_ENTRY_POINT, "utf-8")
    return {"PYTHONPATH": f"{directory}:{_ROOT}"}


class Options(internal.Options):
    """The internal CA's own, and two files."""

    open: Path
    """While it is not there, nothing is answered."""
    asked: Path
    """One line for each request, the idempotency key."""


async def connect(options: Options, services: Services) -> HeldCa:
    """As the internal CA's."""
    values = options.model_dump(exclude={"open", "asked"})
    inner = await internal.connect(internal.Options.model_validate(values), services)
    return HeldCa(inner, services.directory / options.open, services.directory / options.asked)


class HeldCa(NoCapabilities):
    """The internal CA, behind a door."""

    def __init__(self, inner: internal.InternalCa, door: Path, book: Path) -> None:
        self.capabilities = inner.capabilities
        self._inner = inner
        self._door = door
        self._book = book

    async def issue(self, request: IssueRequest) -> IssueResult:
        with self._book.open("a", encoding="utf-8") as book:
            book.write(f"{request.idempotency_key}\n")
        while not self._door.exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(_PAUSE_SECONDS)
        return await self._inner.issue(request)

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._inner.ca_chain()

    async def health(self) -> Health:
        return await self._inner.health()

    async def aclose(self) -> None:
        await self._inner.aclose()
