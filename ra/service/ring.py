"""Which identities of the RA are in use now: what requests are opened with, what signs the replies, what is shown.

Those in files and tokens stay from the start to the end; a managed one comes, is followed by another, and goes, without
a restart. Reading costs nothing: whoever changes something puts another tuple in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from cryptography import x509

from ra.errors import Unavailable
from ra.scep.keys import Identity
from ra.service.ports import Clock, Metrics

REPORT_SECONDS = 30.0

_RETRY_SECONDS = 10


async def _no_news() -> None:
    """What is in files does not change."""


@dataclass(slots=True, kw_only=True)
class Holding:
    """What is held under one name of the configuration.

    Attributes:
        identities: the one that is shown first; all of them open requests.
        trouble: why there is none, or none new.
        look: looks whether another process has obtained one.
    """

    name: str
    identities: tuple[Identity, ...] = ()
    trouble: str | None = None
    look: Callable[[], Awaitable[None]] = _no_news


@dataclass(frozen=True, slots=True)
class Ring:
    """What one endpoint uses: its holdings in the configuration's order."""

    holdings: tuple[Holding, ...]

    @classmethod
    def of(cls, *identities: Identity) -> Ring:
        """One that stays as it is."""
        return cls((Holding(name=identities[0].name, identities=identities),))

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The first is the one that GetCACert shows; all of them open requests.

        Raises:
            Unavailable: there is none yet.
        """
        found = tuple(chain.from_iterable(each.identities for each in self.holdings))
        if not found:
            raise Unavailable(self.trouble or "the RA has no certificate yet", _RETRY_SECONDS)
        return found

    @property
    def trouble(self) -> str | None:
        """Why an identity is missing, or is not renewed."""
        return "; ".join(f"identity {each.name}: {each.trouble}" for each in self.holdings if each.trouble) or None

    async def look(self) -> None:
        """Looks whether another process has obtained one, because a request is sealed to none of these.

        Raises:
            Unavailable: the database is away.
        """
        for each in self.holdings:
            await each.look()


async def report_ends(holdings: Collection[Holding], metrics: Metrics, clock: Clock) -> None:
    """Tells the metrics when the certificates that are shown end, until it is cancelled."""
    while True:
        for each in holdings:
            if each.identities:
                metrics.identity_ends(each.name, _end(each.identities[0]))
        await clock.sleep(REPORT_SECONDS)


def _end(identity: Identity) -> datetime:
    """Of the one of its certificates that ends first."""
    return min(x509.load_der_x509_certificate(each).not_valid_after_utc for each in identity.certificates)
