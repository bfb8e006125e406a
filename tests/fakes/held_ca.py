"""The connector `held`: the internal CA, which answers nothing until a file is there, and writes down what it is asked.

It is found as an installed package's is, by its entry point.
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


def configure(directory: Path, server: str = "", connector: str = "", profile: str = "") -> dict[str, str]:
    """Makes it the CA of what `init` has written, which answers once `ca.open` is there; lines are added to tables.

    Returns what `serve` needs in its environment to find the connector.
    """
    path = directory / "ra.toml"
    text = path.read_text("utf-8").replace("workers = 1\n", f"workers = 1\n{server}\n")
    own = f'type = "held"\nopen = "ca.open"\nasked = "ca.asked"\n{connector}\n#'
    text = text.replace('type = "internal"', own).replace("ca_id = 1\n", f"ca_id = 1\n{profile}\n")
    path.write_text(text, "utf-8")
    package = directory / "scep_ra_held-0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(_METADATA, "utf-8")
    (package / "entry_points.txt").write_text(_ENTRY_POINT, "utf-8")
    return {"PYTHONPATH": f"{directory}:{_ROOT}"}


def asked(directory: Path) -> list[str]:
    """What the CA was asked for so far, in the order of its coming."""
    book = directory / "ca.asked"
    return book.read_text("utf-8").splitlines() if book.exists() else []


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

    async def crl(self) -> bytes:
        return await self._inner.crl()

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._inner.ca_chain()

    async def health(self) -> Health:
        return await self._inner.health()

    async def aclose(self) -> None:
        await self._inner.aclose()
