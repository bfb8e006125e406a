"""The EJBCA connector beside a simulated EJBCA, on one clock that a test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from connectors import ejbca
from connectors.api import NameAttribute, San, SanKind
from ra.simulate.ejbca import (
    AUTHORITY,
    BASE,
    END_ENTITY_PROFILE,
    PROFILE,
    RA_PROFILE,
    SIGNING_PROFILE,
    SimulatedEjbca,
)
from tests.fakes.connecting import Watched
from tests.fakes.simulated import Front

T = TypeVar("T")


@dataclass
class Beside:
    """A simulated EJBCA that wants bearer tokens, and what a connector for it is given."""

    server: SimulatedEjbca
    watched: Watched
    directory: Path
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, use: Callable[[ejbca.EjbcaCa], Awaitable[T]], **options: Any) -> T:
        """What comes of using a new connector; an option that is given takes the place of the usual one."""

        async def opened() -> T:
            given = ejbca.Options(**{**self.options, **options})
            connector = await ejbca.connect(given, self.watched.services(self.directory))
            try:
                return await use(connector)
            finally:
                await connector.aclose()

        return asyncio.run(opened())

    def pass_time(self, **duration: float) -> None:
        self.watched.moment += timedelta(**duration)

    def asked(self, part: str) -> int:
        """How many requests have had that in their path."""
        return sum(part in path for _, path in self.server.requests)

    def sent(self, part: str) -> dict[str, Any]:
        """The body of the last request that had that in its path."""
        last = max(index for index, (_, path) in enumerate(self.server.requests) if part in path)
        body: dict[str, Any] = self.server.bodies[last]
        return body


def ejbca_beside(directory: Path, front: Front) -> Beside:
    """A new simulated EJBCA behind a front that listens."""
    watched = Watched()
    server = SimulatedEjbca(now=lambda: watched.moment, entropy=os.urandom)
    server.tokens.are_needed, server.tokens.lease = True, timedelta(days=30)
    watched.secrets = {"file:token": server.tokens.create(), "file:oauth": server.tokens.client_secret}
    front.app = server.faults
    options = {
        "url": front.url + BASE,
        "certificate_authority": AUTHORITY,
        "certificate_profile": PROFILE,
        "signing_certificate_profile": SIGNING_PROFILE,
        "ra_certificate_profile": RA_PROFILE,
        "end_entity_profile": END_ENTITY_PROFILE,
        "login": {"method": "token", "token": "file:token"},
        "timeout_seconds": 5,
    }
    return Beside(server, watched, directory, options)


def names(*given: tuple[SanKind, str]) -> dict[str, Any]:
    return {"subject_alternative_names": tuple(San(kind, value) for kind, value in given)}


def subject(*attributes: tuple[str, str]) -> dict[str, Any]:
    return {"subject": tuple((NameAttribute(oid, value),) for oid, value in attributes)}
