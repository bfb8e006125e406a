"""Whether the service can do its work: database, keys, connectors.

Without the database or the keys nothing can be answered; a CA that is away leaves the service degraded, not down.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from cryptography import x509

from connectors.api import AuthFailed, Misconfigured
from ra.errors import RaError, Unavailable
from ra.journal import claims
from ra.journal.database import Journal
from ra.journal.transactions import find
from ra.scep.names import Digest
from ra.service.backend import Backend
from ra.service.endpoint import Directory
from ra.service.ports import Clock
from ra.service.ring import Ring

LEAST_FREE_BYTES = 32 << 20
"""A disk with less than that is seen while it still takes what is under way: some thousand enrolments."""

_LEASE, _NOBODY = "health", UUID(int=0)
"""A job that nobody does: to take it is to write a row."""


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
    """Looks at everything, each time that it is asked.

    `disk` is a directory on the file system that a database in a file fills; None where a server keeps the database.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        journal: Journal,
        clock: Clock,
        disk: Path | None = None,
        least_free_bytes: int = LEAST_FREE_BYTES,
        deadline_seconds: float = 3.0,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._clock = clock
        self._disk = disk
        self._least_free_bytes = least_free_bytes
        self._deadline_seconds = deadline_seconds

    async def check(self) -> HealthReport:
        components = {"database": await self._database()}
        now = self._clock.now()
        backends: dict[str, Backend] = {}
        for endpoint in self._directory:
            components[f"keys of profile {endpoint.profile.name}"] = await self._keys(endpoint.ring, now)
            backends[endpoint.backend.name] = endpoint.backend
        for name, backend in backends.items():
            components[f"connector {name}"] = await self._connector(backend)
        return HealthReport(status=_overall(components), components=components)

    async def _database(self) -> Component:
        """Writes something small, as a disk that takes no more is not seen before, and looks for what is not there."""
        now = self._clock.now()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._journal.write(lambda c: claims.take_lease(c, _LEASE, _NOBODY, now, now))
                await self._journal.read(lambda c: find(c, "", b"", b""))
            free = free_bytes(self._disk) if self._disk else self._least_free_bytes
        except (Unavailable, OSError) as error:
            what = "takes no writes" if isinstance(error, TimeoutError) else str(error)
            return Component(status=Status.FAILED, detail=what)
        if self._journal.is_full:
            return Component(status=Status.FAILED, detail="its disk is full: a write has just found no room")
        if free < self._least_free_bytes:
            return Component(status=Status.FAILED, detail=f"its disk is nearly full: {free >> 20} MiB are free")
        return Component(status=Status.OK, detail="answers")

    async def _keys(self, ring: Ring, now: datetime) -> Component:
        try:
            shown = ring.identities[0]
            if shown.is_remote:
                async with asyncio.timeout(self._deadline_seconds):
                    await asyncio.to_thread(shown.signer.sign, b"", Digest.SHA256)
        except RaError as error:  # none yet, or its token is away
            return Component(status=Status.FAILED, detail=str(error))
        except TimeoutError:
            return Component(status=Status.FAILED, detail="the token does not answer")
        for der in shown.certificates:
            certificate = x509.load_der_x509_certificate(der)
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                return Component(status=Status.FAILED, detail="an RA certificate is outside its validity")
        if ring.trouble:
            return Component(status=Status.DEGRADED, detail=ring.trouble)
        return Component(status=Status.OK, detail="loaded, certificates valid")

    async def _connector(self, backend: Backend) -> Component:
        if backend.gate.held_because is not None:
            detail = f"stopped, until a person has looked: {backend.gate.held_because}"
            return Component(status=Status.DEGRADED, detail=detail)
        fault = backend.gate.fault
        if backend.gate.is_open:
            detail = f"left alone for some seconds, because it fails again and again: {_told(fault)}"
            return Component(status=Status.DEGRADED, detail=detail)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                health = await backend.connector.health()
        except Exception as error:  # noqa: BLE001 - the edge of a plugin: what it raises is its state
            return Component(status=Status.DEGRADED, detail=f"does not answer: {type(error).__name__}")
        if health.ready and isinstance(fault, AuthFailed | Misconfigured):
            # It answers, and yet the last that it was asked for cannot be had before a person mends something.
            return Component(status=Status.DEGRADED, detail=_told(fault))
        return Component(status=Status.OK if health.ready else Status.DEGRADED, detail=health.detail)


def _told(fault: Exception | None) -> str:
    return f"{type(fault).__name__}: {fault}" if fault is not None else "nobody has asked it since"


def free_bytes(directory: Path) -> int:
    """What may still be written to its file system, by who is not its superuser."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _overall(components: dict[str, Component]) -> Status:
    worst = {each.status for each in components.values()}
    return next((status for status in (Status.FAILED, Status.DEGRADED) if status in worst), Status.OK)
