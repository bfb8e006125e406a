"""An RA that asks a simulated Intune: both on the test's clock, real HTTP on loopback between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from connectors.api import Connector, Secret
from ra.challenge import intune
from ra.challenge.api import Services
from ra.client.replies import Result
from ra.errors import Misconfigured
from ra.service.pki_operation import Answer
from ra.simulate.intune import CLIENT_ID, TENANT, Expected, SimulatedIntune
from tests.fakes import pki
from tests.fakes.assembled import Assembled, assembled
from tests.fakes.clock import FakeClock
from tests.fakes.device import Device
from tests.fakes.simulated import Front

SECRET = "file:intune.secret"


@dataclass(kw_only=True)
class Beside:
    """A simulated Intune, and what a validator for it is given."""

    server: SimulatedIntune
    clock: FakeClock
    url: str
    directory: Path
    secrets: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    credentials_end: list[datetime] = field(default_factory=list)

    def options(self, **changes: Any) -> intune.Options:
        usual = {
            "tenant": TENANT,
            "client_id": CLIENT_ID,
            "credential": {"method": "secret", "client_secret": SECRET},
            "authority": self.url,
            "graph_url": self.url,
            "allowed_hosts": ["127.0.0.1"],
            "timeout_seconds": 5,
        }
        return intune.Options.model_validate({**usual, **changes})

    def services(self) -> Services:
        return Services(
            name="intune",
            directory=self.directory,
            now=self.clock.now,
            read_secret=self._read_secret,
            warn=self.warnings.append,
            credential_ends=self.credentials_end.append,
        )

    async def validator(self, **options: Any) -> intune.Intune:
        return await intune.connect(self.options(**options), self.services())

    def _read_secret(self, reference: str) -> Secret:
        if reference not in self.secrets:
            raise Misconfigured(f"there is no secret {reference}")
        return Secret(self.secrets[reference])


def intune_beside(directory: Path, front: Front, clock: FakeClock) -> Beside:
    """A new simulated Intune behind a front that listens."""
    server = SimulatedIntune(now=clock.now, entropy=os.urandom)
    front.app = server.faults
    secrets = {SECRET: server.entra.client_secret}
    return Beside(server=server, clock=clock, url=front.url, directory=directory, secrets=secrets)


@dataclass(kw_only=True)
class Managed:
    """The RA, beside the Intune that manages its devices."""

    ra: Assembled
    beside: Beside

    @property
    def intune(self) -> SimulatedIntune:
        return self.beside.server

    def challenge(self, **expected: Any) -> str:
        return self.intune.challenges.mint(Expected(**expected))

    async def send(self, device: Device, challenge: str | None = None, **message: Any) -> Answer:
        """A device's request, with a good challenge where none is given."""
        return await self.ra.answer(
            device.enrol_message(self.ra.ca, challenge=self.challenge() if challenge is None else challenge, **message)
        )

    async def enrol(self, device: Device, challenge: str | None = None, **message: Any) -> Result:
        return device.open((await self.send(device, challenge, **message)).body)

    async def deliver(self) -> None:
        """What goes on in the background, until nothing is due any more."""
        while await self.ra.work.deliveries.deliver_due():
            await self.ra.work.deliveries.drain()


@asynccontextmanager
async def managed(
    directory: Path,
    front: Front,
    connector: Connector,
    ca: pki.FakeCa,
    *,
    options: Mapping[str, Any] | None = None,
    **rules: Any,
) -> AsyncIterator[Managed]:
    """`options` are the validator's, `rules` what `assembled` takes."""
    beside: list[Beside] = []

    async def asks(clock: FakeClock) -> intune.Intune:
        beside.append(intune_beside(directory, front, clock))
        return await beside[0].validator(**(options or {}))

    async with assembled(directory, connector, ca, asks=asks, **rules) as ra:
        yield Managed(ra=ra, beside=beside[0])
