"""Keeps the identities that the RA manages itself: makes keys, has them certified in time, takes up what others obtained.

Whichever process holds an identity's lease works for it; every process looks into the journal from time to time, and has
a new key long before any of them shows its certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.keyfiles import PrivateKey, make_key
from ra.errors import Unavailable
from ra.journal import claims, ra_keys
from ra.journal.database import Journal
from ra.journal.ra_keys import RaKey
from ra.journal.sealing import NONCE_LENGTH, JournalKey
from ra.scep.keys import Identity
from ra.service.certification import Certification, Managed, open_identity
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.ring import Holding

LOOK_SECONDS = 5.0
"""Between two looks at what there is: far less than a new certificate is held back."""

LEAST_SECONDS = 1.0
"""Between two looks that strangers can cause."""


class Keeper:
    """Keeps `managed`, and puts what is in use into the holdings of the same names."""

    def __init__(
        self,
        *,
        journal: Journal,
        key: JournalKey,
        managed: Sequence[Managed],
        holdings: Mapping[str, Holding],
        holder: UUID,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        make_key: Callable[[str], PrivateKey] = make_key,
    ) -> None:
        self._journal = journal
        self._key = key
        self._managed = managed
        self._holdings = holdings
        self._holder = holder
        self._clock = clock
        self._entropy = entropy
        self._make_key = make_key
        self._certification = Certification(journal=journal, key=key, clock=clock, entropy=entropy, metrics=metrics)
        self._opened: dict[UUID, Identity] = {}
        self._looking = asyncio.Lock()
        self._looked_at = -LEAST_SECONDS
        self._log = structlog.get_logger("ra.service.keeper")
        for each in managed:
            holdings[each.name].look = self._look_again

    async def watch(self) -> None:
        """Takes up what there is until it is cancelled; with the database away, it waits on."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                self._log.warning("the RA's keys are not looked at", detail=str(error))
            is_ready = all(self._holdings[each.name].identities for each in self._managed)
            await self._clock.sleep(LOOK_SECONDS if is_ready else LEAST_SECONDS)

    async def run(self) -> None:
        """Works until it is cancelled; with the database away, it waits on."""
        while True:
            try:
                await self.keep()
            except Unavailable as error:
                self._log.warning("the RA's keys are not kept", detail=str(error))
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Takes up what there is.

        Raises:
            Unavailable: the database is away.
        """
        self._looked_at = self._clock.monotonic_seconds()
        keys = await self._journal.read(ra_keys.list_keys)
        self._opened = {each.id: self._opened[each.id] for each in keys if each.id in self._opened}
        now = self._clock.now()
        for managed in self._managed:
            own, holding = _of(managed, keys), self._holdings[managed.name]
            holding.identities = tuple(self._open(each) for each in in_use(own, now))
            holding.trouble = _trouble(own, managed)

    async def keep(self) -> None:
        """One round: whatever is due, of every identity that nobody else works for.

        Raises:
            Unavailable: the database is away.
        """
        keys = await self._journal.read(ra_keys.list_keys)
        for managed in self._managed:
            if _has_work(_of(managed, keys), managed, self._clock.now()) and await self._may_work(managed):
                await self._work(managed)
                await self.look()

    async def _look_again(self) -> None:
        async with self._looking:  # who waits here is served by the same look
            if self._clock.monotonic_seconds() - self._looked_at >= LEAST_SECONDS:
                await self.look()

    async def _may_work(self, managed: Managed) -> bool:
        now, lease = self._clock.now(), _lease(managed)
        if not await self._journal.read(lambda c: claims.is_free(c, lease, now)):
            return False
        until = now + managed.backend.lease * 2  # it may have to wait for its turn before it asks
        return await self._journal.write(lambda c: claims.take_lease(c, lease, self._holder, now, until))

    async def _work(self, managed: Managed) -> None:
        """Under the lease: forgets, makes a key where one is due, has it certified, and gives the lease back."""
        now = self._clock.now()
        own = _of(managed, await self._journal.read(ra_keys.list_keys))  # as the last one who worked has left it
        if over := _over(own, now):
            await self._journal.write(lambda c: ra_keys.forget(c, over, now))
        waiting, was_asked = _waiting(own), True
        if waiting is None and _is_renewal_due(own, managed, now):
            waiting, was_asked = await self._new_key(managed), False
            made = waiting
            if not await self._journal.write(lambda c: ra_keys.make(c, made)):
                waiting = None  # somebody has had one made by hand; it is certified in the next round
        if waiting is not None and (waiting.due_at is None or waiting.due_at <= now):
            is_first = not any(each.certificate for each in own)
            await self._certification.certify(managed, waiting, is_first=is_first, was_asked=was_asked)
        done = self._clock.now()
        await self._journal.write(lambda c: claims.take_lease(c, _lease(managed), self._holder, done, done))

    async def _new_key(self, managed: Managed) -> RaKey:
        private_key = await asyncio.to_thread(self._make_key, managed.wish.key_spec)
        return sealed(self._key, managed.name, private_key, self._clock.now(), self._entropy)

    def _open(self, key: RaKey) -> Identity:
        if key.id not in self._opened:
            self._opened[key.id] = open_identity(self._key, key, key.certificate or b"")
        return self._opened[key.id]


def sealed(journal_key: JournalKey, identity: str, key: PrivateKey, now: datetime, entropy: Entropy) -> RaKey:
    """A new key of that identity, as it is kept; its certificate is due at once."""
    which = UUID(bytes=entropy(16), version=4)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return RaKey(
        id=which,
        identity=identity,
        key=journal_key.seal_key(which, der, entropy(NONCE_LENGTH)),
        idempotency_key=UUID(bytes=entropy(16), version=4),
        requested_at=now,
        due_at=now,
    )


def shown(keys: Sequence[RaKey], now: datetime) -> RaKey | None:
    """The one of an identity's keys whose certificate GetCACert shows; it stays until another one follows."""
    certified = sorted((each for each in keys if each.shown_at is not None), key=_shown_at)
    due = [each for each in certified if _shown_at(each) <= now]
    return due[-1] if due else next(iter(certified), None)


def in_use(keys: Sequence[RaKey], now: datetime) -> tuple[RaKey, ...]:
    """Those of an identity's keys that open requests: what is shown first, then the newest."""
    first = shown(keys, now)
    others = [each for each in keys if each.forget_at is not None and each.forget_at > now and each is not first]
    newest = sorted(others, key=_shown_at, reverse=True)
    return tuple(newest) if first is None else (first, *newest)


def _over(keys: Sequence[RaKey], now: datetime) -> list[RaKey]:
    used = in_use(keys, now)
    return [each for each in keys if each.certificate is not None and each not in used]


def _waiting(keys: Sequence[RaKey]) -> RaKey | None:
    return next((each for each in keys if each.certificate is None), None)


def _is_renewal_due(keys: Sequence[RaKey], managed: Managed, now: datetime) -> bool:
    certified = sorted((each for each in keys if each.certificate is not None), key=_shown_at)
    if not certified:
        return True
    certificate = x509.load_der_x509_certificate(certified[-1].certificate or b"")
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= ends - min(managed.renew_before, (ends - begins) / 3)


def _has_work(keys: Sequence[RaKey], managed: Managed, now: datetime) -> bool:
    waiting = _waiting(keys)
    if waiting is not None:
        return waiting.due_at is not None and waiting.due_at <= now
    return bool(_over(keys, now)) or _is_renewal_due(keys, managed, now)


def _trouble(keys: Sequence[RaKey], managed: Managed) -> str | None:
    waiting = _waiting(keys)
    if waiting is not None and waiting.detail is not None:
        return waiting.detail
    is_certified = any(each.certificate for each in keys)
    return None if is_certified else f"its certificate is being obtained from connector {managed.backend.name}"


def _of(managed: Managed, keys: Sequence[RaKey]) -> list[RaKey]:
    return [each for each in keys if each.identity == managed.name]


def _lease(managed: Managed) -> str:
    return f"certificate of identity {managed.name}"


def _shown_at(key: RaKey) -> datetime:
    return key.shown_at or key.requested_at
