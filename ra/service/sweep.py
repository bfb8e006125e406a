"""Takes up what no request is waiting for: orders to poll, lost answers to find out about, certificates to revoke.

Every worker sweeps; a row is claimed by one of them, for as long as its lease lasts. What a crash has cut short is
found here, because every transaction that is not settled has a time at which somebody has to look at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from connectors.api import Capability, Issued, Pending, ProtocolViolation, Rejected, RevocationReason
from ra.errors import Unavailable
from ra.journal import claims, settle, strays
from ra.journal.certificates import describe, has_an_order_before, stands_elsewhere
from ra.journal.database import Journal
from ra.journal.outbox import NewLetter
from ra.journal.records import Occasion, Transaction
from ra.journal.sealing import JournalKey, NotOurs
from ra.journal.states import State
from ra.policy.decide import Decision
from ra.service.backend import Backend
from ra.service.background import Background
from ra.service.deliver import Deliveries
from ra.service.gate import Overloaded, Permit
from ra.service.issue import Issuing, request_of
from ra.service.kept import decision_of
from ra.service.notices import Notices
from ra.service.ports import Clock, Metrics

IDLE_SECONDS = 1.0
"""Between two passes, when nothing was due."""

BATCH = 100
"""Rows that are claimed at once."""

PLACES = 4
"""That the sweeper has in the queue before each CA, when there is no room beside it."""

PATIENCE_SECONDS = 5.0
"""How long what was claimed waits for its turn at the CA."""

_SINCE = timedelta(minutes=10)
"""By so much the CA's clock may be behind when it is asked what it has issued since."""

NOT_YET = "the CA says that it has not issued; it is asked again before the request is sent again"

_REMIND = timedelta(days=1)
"""How often an alarm is repeated about what only a person can settle."""


class Sweeper:
    """Looks at everything that is due, and does what is to be done with it."""

    def __init__(
        self,
        *,
        journal: Journal,
        key: JournalKey,
        backends: Mapping[str, Backend],
        issuing: Issuing,
        deliveries: Deliveries,
        notices: Notices,
        background: Background[Transaction],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._journal = journal
        self._key = key
        self._backends = backends
        self._issuing = issuing
        self._deliveries = deliveries
        self._notices = notices
        self._background = background
        self._clock = clock
        self._metrics = metrics
        self._has_room = asyncio.Event()
        self._places: Background[None] = Background()
        self._log = structlog.get_logger("ra.service.sweep")

    async def run(self) -> None:
        """Sweeps until it is cancelled; with the database away, it waits on."""
        while True:
            self._has_room.clear()
            try:
                begun = await self.sweep()
            except Unavailable as error:
                self._log.warning("the sweeper waits", detail=str(error))
                begun = 0
            if not begun:
                await self._rest()

    async def sweep(self) -> int:
        """One pass: how many transactions were taken up. The work itself goes on in the background."""
        now = self._clock.now()
        due = await self._journal.read(lambda c: claims.due(c, now))
        for gone in set(due) - self._backends.keys():
            self._log.error("transactions wait for a connector that is not configured any more", connector=gone)
            self._metrics.connector_failed(gone, "NotConfigured")
        return sum([await self._take_up(self._backends[name]) for name in due if name in self._backends])

    async def _rest(self) -> None:
        """Until something may be due, or a CA that had its hands full has room for what is."""
        waits = {
            asyncio.ensure_future(each) for each in (self._has_room.wait(), self._journal.wait_for_work(IDLE_SECONDS))
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _take_up(self, backend: Backend) -> int:
        now = self._clock.now()
        until = now + backend.lease
        permits = list(iter(backend.gate.try_enter, None))
        sent: tuple[Transaction, ...] = ()

        def claim(connection: Connection) -> tuple[tuple[Transaction, ...], tuple[Transaction, ...]]:
            queued = claims.claim_authorised(connection, backend.name, now, until, len(permits)) if permits else ()
            lost = claims.lose_leases(connection, backend.name, now, until, BATCH)
            return queued, lost + claims.claim_due(connection, backend.name, now, until, BATCH)

        if not permits and backend.gate.may_wait:
            self._queue_up(backend)
        claiming = asyncio.ensure_future(self._journal.write(claim))
        try:
            sent, others = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._put_back(claiming)
            raise
        finally:
            for permit in permits[len(sent) :]:
                permit.release()
        for each, permit in zip(sent, permits, strict=False):
            self._background.start(each.id, self._issue(backend, each, permit))
        for each in others:
            self._background.start(each.id, self._handle(backend, each))
        return len(sent) + len(others)

    def _queue_up(self, backend: Backend) -> None:
        """Where those who come with requests leave no room, what has waited longer gets some places in their queue."""
        for number in range(PLACES):
            place = (backend.name, number)
            if self._places.running(place) is None:
                self._places.start(place, self._send_one(backend))

    async def _send_one(self, backend: Backend) -> None:
        try:
            permit = await backend.gate.enter(backend.issue_timeout_seconds)
        except Overloaded:
            return
        with permit:
            now = self._clock.now()
            until = now + backend.lease
            claiming = asyncio.ensure_future(
                self._journal.write(lambda c: claims.claim_authorised(c, backend.name, now, until, 1))
            )
            for each in await asyncio.shield(claiming):
                await self._background.start(each.id, self._issue(backend, each, permit))

    async def drain(self) -> None:
        """Waits until what has a place in a queue is through with it."""
        await self._places.drain()

    async def _put_back(
        self, claiming: asyncio.Future[tuple[tuple[Transaction, ...], tuple[Transaction, ...]]]
    ) -> None:
        """The process ends before what was claimed is sent: it is as if it had not been claimed."""
        queued, _ = await claiming
        for each in queued:
            now = self._clock.now()
            await self._issuing.settle(each, settle.back_to_authorised, "not sent: the process ended", now, now)

    async def _issue(self, backend: Backend, transaction: Transaction, permit: Permit) -> Transaction:
        with permit:
            decision = await self._decision_of(transaction)
            if decision is None:
                return transaction
            settled = await self._issuing.issue(backend, decision, transaction, permit)
        if backend.gate.is_half_free:
            self._has_room.set()
        return await self._deliveries.deliver_now(settled)

    async def _handle(self, backend: Backend, transaction: Transaction) -> Transaction:
        """What its state demands; where it cannot be had now, its lease runs out and it is taken up again."""
        now = self._clock.now()
        match transaction.state:
            case State.ISSUED:
                return await self._deliveries.give_up(transaction)
            case State.RELEASED:
                reason, detail = RevocationReason.CESSATION_OF_OPERATION, "nobody fetched it"
                if transaction.revocation is not None:
                    reason, detail = RevocationReason(transaction.revocation), "another certificate has taken its place"
                return await self._issuing.settle(transaction, settle.revoke, reason, detail, now)
            case State.AUTHORISED | State.AWAITING_APPROVAL | State.PENDING if transaction.expires_at <= now:
                return await self._expire(backend, transaction)
        try:
            permit = await backend.gate.enter(PATIENCE_SECONDS, anew=False)
        except Overloaded:
            return transaction
        with permit:
            settled = await self._ask(backend, transaction, permit)
        return await self._deliveries.deliver_now(settled)

    async def _ask(self, backend: Backend, transaction: Transaction, permit: Permit) -> Transaction:
        """What needs the CA."""
        if transaction.state is State.REVOKING:
            return await self._revoke(backend, transaction, permit)
        decision = await self._decision_of(transaction)
        match transaction.state:
            case _ if decision is None:
                return transaction
            case State.QUARANTINED:
                permit.release()
                return await self._look_again(backend, decision, transaction)
            case State.PENDING:
                return await self._poll(backend, decision, transaction, permit)
            case State.EXPIRED:
                return await self._poll_expired(backend, decision, transaction, permit)
            case _:
                return await self._reconcile(backend, decision, transaction, permit)

    async def _decision_of(self, transaction: Transaction) -> Decision | None:
        """The decision; None, and an alarm, where it cannot be read."""
        try:
            return decision_of(self._key, transaction)
        except NotOurs as error:
            self._metrics.alarmed(transaction.profile, "JOURNAL_KEY")
            await self._issuing.postpone(transaction, error)
            return None

    async def _expire(self, backend: Backend, transaction: Transaction) -> Transaction:
        now = self._clock.now()
        detail = f"not issued within {(now - transaction.created_at).days} days; it was {transaction.state}"
        letters = self._told_too_late(transaction, detail, now)
        is_open = transaction.state is State.PENDING and backend.can(Capability.POLL)
        return await self._issuing.settle(
            transaction, settle.expire, detail, now if is_open else None, now, letters=letters
        )

    def _told_too_late(self, transaction: Transaction, detail: str, now: datetime) -> tuple[NewLetter, ...]:
        """Even what cannot be read any more expires; then nobody is told."""
        if not transaction.notify:
            return ()
        try:
            decision = decision_of(self._key, transaction)
        except NotOurs:
            return ()
        return self._notices.letters(transaction, decision, Occasion.FAILED, now, reason="EXPIRED", detail=detail)

    async def _poll(
        self, backend: Backend, decision: Decision, transaction: Transaction, permit: Permit
    ) -> Transaction:
        request = request_of(decision, transaction)
        answer = await self._issuing.ask(backend, permit, backend.connector.poll(transaction.reference or "", request))
        if isinstance(answer, Exception):
            return await self._issuing.postpone(transaction, answer)
        return await self._issuing.take(backend, decision, transaction, answer)

    async def _poll_expired(
        self, backend: Backend, decision: Decision, transaction: Transaction, permit: Permit
    ) -> Transaction:
        """An order that nobody waits for any more: what arrives is revoked, never handed out."""
        request = request_of(decision, transaction)
        answer = await self._issuing.ask(backend, permit, backend.connector.poll(transaction.reference or "", request))
        now, settle_it = self._clock.now(), self._issuing.settle
        match answer:
            case Issued():
                return await settle_it(transaction, settle.arrive_late, describe(answer), now)
            case Pending(retry_after_seconds=seconds):
                due_at = now + timedelta(seconds=seconds)
                return await settle_it(transaction, settle.postpone, "the order is still open", due_at, now)
            case Rejected(detail=detail):
                return await settle_it(transaction, settle.postpone, detail, None, now)
            case error:
                return await self._issuing.postpone(transaction, error)

    async def _look_again(self, backend: Backend, decision: Decision, transaction: Transaction) -> Transaction:
        """A person takes what was quarantined for good: it is, where the configuration says so by now."""
        kept = await self._journal.read(lambda c: strays.of_transaction(c, transaction.id))
        if not kept:
            now, detail = self._clock.now(), "its certificate is not kept any more"
            return await self._issuing.settle(transaction, settle.postpone, detail, None, now)
        return await self._issuing.look_again(backend, decision, transaction, kept[-1].certificate)

    async def _reconcile(
        self, backend: Backend, decision: Decision, transaction: Transaction, permit: Permit
    ) -> Transaction:
        """A lost answer: nothing is sent again without a certain no, or the operator's leave."""
        if backend.can(Capability.FIND_ISSUED):
            found = await self._find(backend, decision, transaction, permit)
            if isinstance(found, Exception):
                self._metrics.alarmed(transaction.profile, "UNKNOWN")
                return await self._issuing.postpone(transaction, found)
            if found is None:
                return await self._believe_not(backend, transaction)
            if await self._journal.read(lambda c: has_an_order_before(c, transaction)):
                now, detail = self._clock.now(), "what was found may be of an earlier order, which is still open"
                return await self._issuing.settle(transaction, settle.postpone, detail, now + backend.lease, now)
            return await self._issuing.take(backend, decision, transaction, found)
        if backend.can(Capability.IDEMPOTENT):
            return await self._send_again(transaction, "the same idempotency key yields the same certificate")
        if backend.resubmit_after is not None and transaction.attempts:
            return await self._send_again(transaction, "sent again blindly, as on_unknown says", orphan=True)
        self._metrics.alarmed(transaction.profile, "UNKNOWN")
        now, detail = self._clock.now(), "this CA cannot say whether it has issued: look there"
        due_at = now + (backend.resubmit_after or _REMIND)
        return await self._issuing.settle(transaction, settle.postpone, detail, due_at, now)

    async def _find(
        self, backend: Backend, decision: Decision, transaction: Transaction, permit: Permit
    ) -> Issued | Exception | None:
        """What the CA has issued for it, or a certain no.

        A CA that is asked by key and names may find what another request of the same device has obtained. That is no
        answer yet: what is looked for may stand behind it.
        """
        request, since = request_of(decision, transaction), transaction.created_at - _SINCE
        others: frozenset[int] = frozenset()
        while True:
            found = await self._issuing.ask(backend, permit, backend.connector.find_issued(request, since, others))
            serial = await self._serial_of_another(transaction, found) if isinstance(found, Issued) else None
            if serial is None:
                return found
            if serial in others:
                return ProtocolViolation("the connector finds again what it was told to be another request's")
            others |= {serial}
            try:
                permit = await backend.gate.enter(PATIENCE_SECONDS)
            except Overloaded as error:
                return error

    async def _serial_of_another(self, transaction: Transaction, found: Issued) -> int | None:
        """The serial number, where another transaction has that certificate."""
        try:
            serial = describe(found).serial
        except ValueError:
            return None  # it is no certificate, which is found out when it is taken
        is_anothers = await self._journal.read(
            lambda c: stands_elsewhere(c, transaction.connector, serial, transaction.id)
        )
        return serial if is_anothers else None

    async def _believe_not(self, backend: Backend, transaction: Transaction) -> Transaction:
        """A CA that has not issued may still be about to: its no is certain when it says so again a lease later."""
        if transaction.detail == NOT_YET:
            return await self._send_again(transaction, "the CA has not issued, and said so twice")
        now = self._clock.now()
        return await self._issuing.settle(transaction, settle.postpone, NOT_YET, now + backend.lease, now)

    async def _send_again(self, transaction: Transaction, detail: str, *, orphan: bool = False) -> Transaction:
        now = self._clock.now()
        return await self._issuing.settle(transaction, settle.back_to_authorised, detail, now, now, orphan=orphan)

    async def _revoke(self, backend: Backend, transaction: Transaction, permit: Permit) -> Transaction:
        now, settle_it = self._clock.now(), self._issuing.settle
        if transaction.certificate is None or not backend.can(Capability.REVOKE):
            self._metrics.alarmed(transaction.profile, "REVOKING")
            detail = "this connector cannot revoke: revoke it at the CA"
            return await settle_it(transaction, settle.postpone, detail, now + _REMIND, now)
        reason = RevocationReason(transaction.revocation or RevocationReason.UNSPECIFIED)
        answer = await self._issuing.ask(backend, permit, backend.connector.revoke(transaction.certificate, reason))
        if isinstance(answer, Exception):
            self._metrics.alarmed(transaction.profile, "REVOKING")
            return await self._issuing.postpone(transaction, answer)
        return await settle_it(transaction, settle.revoked, self._clock.now())
