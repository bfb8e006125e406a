"""Six connectors, and everything that may go wrong with a backend: what the device, the journal and the operator see.

The connectors are real, and so are the sockets; the backends are small ones, and the clock is told to move.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import registry
from connectors.api import Connector, Secret, Services
from ra.client import replies
from ra.journal.records import Transaction
from ra.service.operate import Operations
from tests.fakes import faults, pki
from tests.fakes.assembled import CHALLENGE, KEY, Assembled, assembled
from tests.fakes.clock import FakeClock
from tests.fakes.connecting import tls_files
from tests.fakes.device import Device, pooled_key
from tests.fakes.faults import FLAWS, REFUSED, SILENCE, UNKNOWN_HOST, UNREACHED, UNTRUSTED, Seen
from tests.fakes.faulty import Faulty, faulty_server
from tests.fakes.six_cas import SIX, FlawedCa, Six

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("dns:device-1.example.org", "dns:device-1.example.net")
PATIENCE_SECONDS, IMPATIENCE_SECONDS = 20.0, 1.0
MINUTES = timedelta(minutes=10)
EVERY_CELL = [(kind, fault) for fault in faults.EVERY for kind in faults.CONNECTORS]


@dataclass(kw_only=True)
class Cell:
    """A connector with a fault before it, the RA around it, and a device."""

    ra: Assembled
    ca: FlawedCa
    server: Faulty
    fault: str

    async def enrol(self, device: Device, *names: str) -> replies.Result:
        answer = await self.ra.answer(device.enrol_message(self.ra.ca, challenge=CHALLENGE, sans=names))
        return device.open(answer.body)

    async def begin(self) -> None:
        """Before a certificate goes wrong, somebody else has got one."""
        if self.fault in FLAWS:
            first = await self.enrol(Device(subject="CN=first", key=pooled_key(1)), "dns:first.example.org")
            assert isinstance(first, replies.Success)
            self.ca.flaw = self.fault
        if self.fault == REFUSED:
            await self.server.close()
        self.server.fault = faults.FAULTS.get(self.fault)

    async def end(self) -> None:
        """The fault is over, and time passes."""
        self.server.fault = None
        if self.fault == REFUSED:
            await self.server.open()
        for _ in range(4):
            await self.ra.sweep(later=MINUTES)

    async def transaction(self) -> Transaction:
        """The device's; somebody else's is left out."""
        rows = await self.ra.transactions()
        return next(each for each in rows if "device-1" in each.subject)

    async def is_revoked(self) -> bool:
        operations = Operations(journal=self.ra.journal, key=KEY, clock=self.ra.clock, entropy=os.urandom)
        account = await operations.show((await self.transaction()).id)
        return any(each.revoked_at for each in account.strays)


async def connect(six: Six, kind: str, url: str, directory: Path, clock: FakeClock, **more: Any) -> Connector:
    plugin = registry.load(kind)
    services = Services(
        name="lab",
        directory=directory,
        now=clock.now,
        read_secret=lambda reference: Secret((directory / reference.removeprefix("file:")).read_text()),
    )
    options = plugin.options(url=url + six.base, connect_timeout_seconds=PATIENCE_SECONDS, **six.options, **more)
    connector: Connector = await plugin.connect(options, services)
    return connector


@asynccontextmanager
async def opened(kind: str, fault: str, directory: Path) -> AsyncIterator[Cell]:
    clock = FakeClock(pki.NOW)
    ca = FlawedCa(clock.now)
    async with faulty_server() as server:
        if fault == UNTRUSTED:
            await server.close()
            await server.open(tls_files(directory / "tls", pki.NOW).server())
        six = SIX[kind](ca, clock.now, server.url, directory)
        server.answer, server.issues_at = six.answer, six.issues_at
        urls = {UNKNOWN_HOST: "https://ca.invalid", UNTRUSTED: f"https://localhost:{server.port}"}
        timeout = IMPATIENCE_SECONDS if fault == SILENCE else PATIENCE_SECONDS
        connector = await connect(six, kind, urls.get(fault, server.url), directory, clock, timeout_seconds=timeout)
        try:
            async with assembled(directory, connector, ca.as_fake, clock=clock) as ra:
                yield Cell(ra=ra, ca=ca, server=server, fault=fault)
        finally:
            await connector.aclose()


def told(state: str) -> type[replies.Result]:
    """What the device hears of a state."""
    return replies.Success if state == "released" else replies.Pending


@pytest.mark.parametrize(("kind", "fault"), EVERY_CELL)
async def test_a_fault_of_the_backend_is_never_a_failure_of_the_device(kind: str, fault: str, tmp_path: Path) -> None:
    expected = faults.TABLE[fault][kind]
    device = Device(subject="CN=device-1", key=pooled_key(0))
    async with opened(kind, fault, tmp_path) as cell:
        await cell.begin()

        first = await cell.enrol(device, *NAMES)
        then = await cell.transaction()
        events = [each for each in await cell.ra.events() if each.get("transaction") == str(then.id)]
        counts, gate = cell.ra.counts, cell.ra.endpoint.backend.gate
        failures, is_left_alone, stop = dict(counts.failures), gate.is_open, gate.held_because
        failures_in_a_row = gate._breaker._in_a_row
        await cell.end()
        last = await cell.enrol(device, *NAMES)
        afterwards = (await cell.transaction()).state.value
        seen = Seen(
            state=then.state.value,
            error=next(iter(failures), ""),
            afterwards="revoked" if await cell.is_revoked() else afterwards,
        )

    assert expected == seen
    # The device: PENDING, unless it has its certificate; and in the end whatever the journal says.
    assert told(then.state) is type(first)
    assert told(afterwards) is type(last)
    # The breaker counts what failed, and nothing else; who was told to wait, waits.
    assert (seen.error == "RateLimited") is is_left_alone
    assert (seen.error not in {"", "RateLimited"}) is (failures_in_a_row == 1)
    # The audit and the metrics say the same, and a wrong certificate stops the connector.
    assert then.state.value in [each["outcome"] for each in events if each["event"] == "outcome"]
    assert ({seen.error: 1} if seen.error else {}) == failures
    assert (seen.error or None) == (then.detail.partition(":")[0] if then.detail and seen.error else None)
    is_wrong = then.state == "quarantined"
    assert ({"QUARANTINED": 1} if is_wrong else {}) == {
        name: count for name, count in counts.alarms.items() if name == "QUARANTINED"
    }
    assert is_wrong is (stop is not None) is ("connector-stopped" in [each["event"] for each in events])


def test_every_fault_has_its_row_and_the_page_shows_it() -> None:
    page = (ROOT / "docs/connectors.md").read_text("utf-8")

    made = runpy.run_path(str(ROOT / "docs/connectors_table.py"))["section"]()

    assert tuple(faults.TABLE) == faults.EVERY
    assert all(tuple(row) == faults.CONNECTORS for row in faults.TABLE.values())
    assert made in page
    assert set(UNREACHED) < set(faults.EVERY)
