"""Whether the service can do its work: database, keys, connectors.

Without the database or the keys nothing can be answered; a CA that is away leaves the service degraded, not down.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from connectors.api import Connector
from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.statistics import count
from ra.service.endpoint import Directory
from ra.service.ports import Clock


class Status(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    status: Status
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """`status` is FAILED when the database or a key failed, DEGRADED when a connector is away."""

    status: Status
    components: dict[str, Component]


class Health:
    def __init__(self, *, directory: Directory, journal: Journal, clock: Clock, deadline_seconds: float = 3.0) -> None:
        self._directory = directory
        self._journal = journal
        self._clock = clock
        self._deadline_seconds = deadline_seconds

    async def check(self) -> HealthReport:
        components = {"database": await self._database()}
        now = self._clock.now()
        connectors: dict[str, Connector] = {}
        for endpoint in self._directory:
            components[f"keys of profile {endpoint.profile.name}"] = _keys(endpoint.identities[0].certificates, now)
            connectors[endpoint.connector_name] = endpoint.connector
        for name, connector in connectors.items():
            components[f"connector {name}"] = await self._connector(connector)
        return HealthReport(status=_overall(components), components=components)

    async def _database(self) -> Component:
        """Takes the writer's turn without writing, and reads a table: a full disk is not seen before it is written to."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._journal.write(lambda _: None)
                await self._journal.read(count)
        except Unavailable as error:
            return Component(status=Status.FAILED, detail=str(error))
        except TimeoutError:
            return Component(status=Status.FAILED, detail="takes no writes")
        return Component(status=Status.OK, detail="answers")

    async def _connector(self, connector: Connector) -> Component:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                health = await connector.health()
        except Exception as error:  # noqa: BLE001 - the edge of a plugin: what it raises is its state
            return Component(status=Status.DEGRADED, detail=f"does not answer: {type(error).__name__}")
        return Component(status=Status.OK if health.ready else Status.DEGRADED, detail=health.detail)


def _keys(certificates: tuple[bytes, ...], now: datetime) -> Component:
    for der in certificates:
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return Component(status=Status.FAILED, detail="an RA certificate is outside its validity")
    return Component(status=Status.OK, detail="loaded, certificates valid")


def _overall(components: dict[str, Component]) -> Status:
    worst = {each.status for each in components.values()}
    return next((status for status in (Status.FAILED, Status.DEGRADED) if status in worst), Status.OK)
