"""What a person may do about the RA's managed identities: see how they stand, have one followed, have one forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from connectors.keyfiles import PrivateKey, make_key
from ra.errors import Misconfigured
from ra.journal import ra_keys
from ra.journal.database import Journal
from ra.journal.ra_keys import RaKey
from ra.journal.sealing import JournalKey
from ra.service.keeper import in_use, sealed, shown
from ra.service.ports import Clock, Entropy


class Phase(StrEnum):
    """Where a key is in its life."""

    WAITING = "waiting"
    """Its certificate is to be obtained."""
    NEXT = "next"
    """It opens requests already, and is about to be shown."""
    SHOWN = "shown"
    """GetCACert shows it."""
    PREVIOUS = "previous"
    """Another one is shown; requests of devices that remember this one are still opened."""
    OVER = "over"
    """It opens nothing any more, and is about to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one key of an identity stands; `certificate` is None while it waits for one."""

    key: RaKey
    phase: Phase
    certificate: x509.Certificate | None


def standings(keys: Sequence[RaKey], identity: str, now: datetime) -> tuple[Standing, ...]:
    """Of all keys of an identity, the oldest first."""
    own = [each for each in keys if each.identity == identity]
    return tuple(
        Standing(
            key=each,
            phase=_phase(each, own, now),
            certificate=x509.load_der_x509_certificate(each.certificate) if each.certificate else None,
        )
        for each in own
    )


def _phase(key: RaKey, own: Sequence[RaKey], now: datetime) -> Phase:
    if key.shown_at is None:
        return Phase.WAITING
    if key is shown(own, now):
        return Phase.SHOWN
    if key not in in_use(own, now):
        return Phase.OVER
    return Phase.NEXT if key.shown_at > now else Phase.PREVIOUS


class Rotation:
    """Changes the RA's keys by way of the journal; whoever serves takes it up."""

    def __init__(
        self,
        *,
        journal: Journal,
        key: JournalKey,
        clock: Clock,
        entropy: Entropy,
        make_key: Callable[[str], PrivateKey] = make_key,
    ) -> None:
        self._journal = journal
        self._key = key
        self._clock = clock
        self._entropy = entropy
        self._make_key = make_key

    async def standings(self, identity: str) -> tuple[Standing, ...]:
        """How its keys stand now, the oldest first."""
        return standings(await self._journal.read(ra_keys.list_keys), identity, self._clock.now())

    async def rotate(self, identity: str, key_spec: str, who: str) -> RaKey:
        """The key that will follow: a new one, or the one whose certificate is waited for, which is asked for at once."""
        private_key = await asyncio.to_thread(self._make_key, key_spec)
        now = self._clock.now()
        made = sealed(self._key, identity, private_key, now, self._entropy)
        if await self._journal.write(lambda c: ra_keys.make(c, made, who)):
            return made
        await self._journal.write(lambda c: ra_keys.hasten(c, identity, now))
        waiting = [each.key for each in await self.standings(identity) if each.phase is Phase.WAITING]
        if not waiting:  # it came meanwhile, and is as new as can be
            return (await self.standings(identity))[-1].key
        return waiting[0]

    async def forget(self, identity: str, serial: int, who: str) -> RaKey:
        """Removes a key for good, because somebody else may have it: nothing sealed to it is opened any more.

        Raises:
            Misconfigured: there is none with this serial number, or it is the one that is shown.
        """
        own = await self.standings(identity)
        found = next((each for each in own if each.certificate and each.certificate.serial_number == serial), None)
        if found is None:
            raise Misconfigured(f"identities.{identity} has no key whose certificate has the serial number {serial:x}")
        if found.phase is Phase.SHOWN:
            raise Misconfigured(
                f"identities.{identity}: GetCACert shows the certificate {serial:x}; rotate first, and forget it when the "
                "new one is shown"
            )
        now = self._clock.now()
        await self._journal.write(lambda c: ra_keys.forget(c, (found.key,), now, who))
        return found.key
