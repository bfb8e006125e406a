"""Step 7: the one way to a certificate. Commit, ask the CA, check what comes back, commit.

The first commit demands a Decision, which only the policy can make, and keeps it. From then on the work goes on whether
or not the device listens, and whether or not this process lives: what is cut short, the sweeper takes up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from ra.errors import Unavailable
from ra.journal import settle, transactions
from ra.journal.database import Journal
from ra.journal.records import NewTransaction, RequestIdentity, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import DEFERRED, LostRace, State
from ra.policy.decide import Decision, freeze
from ra.policy.profile import Profile
from ra.scep.messages import Deferral
from ra.service.backend import Backend
from ra.service.background import Background
from ra.service.deliver import Deliveries
from ra.service.endpoint import Endpoint
from ra.service.gate import Overloaded, Permit
from ra.service.issue import Issuing, contents_digest
from ra.service.ports import Clock, Entropy
from ra.service.replies import Told, deliver, tell

_FULL_RETRY_SECONDS = 300
"""So much later a device may try again, when too many wait for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The first commit. `transaction` is that of an identical request where this one was not the first."""

    transaction: Transaction
    decision: Decision
    is_ours: bool
    permit: Permit | None


class Submissions:
    """Carries decisions out, and tells devices how far they are."""

    def __init__(
        self,
        *,
        journal: Journal,
        key: JournalKey,
        issuing: Issuing,
        deliveries: Deliveries,
        background: Background[Transaction],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._journal = journal
        self._key = key
        self._issuing = issuing
        self._deliveries = deliveries
        self._background = background
        self._clock = clock
        self._entropy = entropy

    async def authorise(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, renews: UUID | None = None
    ) -> Begun:
        """The first commit: the row, the decision, the spent secret and the audit. `renews`: as NewTransaction.renews.

        Raises:
            Refused: a one-time secret is spent, or the transaction is another request's.
            Unavailable: the journal cannot be written, or too many wait for a person; nothing is committed.
        """
        if decision.grant.needs_approval:
            await self._insist_on_room(endpoint.profile)
        now = self._clock.now()
        permit = None if decision.grant.needs_approval else endpoint.backend.gate.try_enter()
        new = self._new(endpoint, decision, identity, now, may_ask=permit is not None)
        new = new if renews is None else replace(new, renews=renews)
        writing = asyncio.ensure_future(self._journal.write(lambda c: transactions.authorise(c, new, now)))
        try:
            transaction = await asyncio.shield(writing)
        except BaseException as error:
            if permit is not None:
                permit.release()
            if isinstance(error, asyncio.CancelledError):
                self._background.start(new.id, self._put_back(new.id, writing))
            raise
        is_ours = transaction.id == new.id
        if permit is not None and not is_ours:
            permit.release()
        return Begun(transaction=transaction, decision=decision, is_ours=is_ours, permit=permit if is_ours else None)

    async def _insist_on_room(self, profile: Profile) -> None:
        """A list that nobody can look through any more helps nobody: whoever fills it must not hide the others.

        Raises:
            Unavailable: it is full; a device of the list is answered all the same.
        """
        most = profile.max_awaiting_approval
        if await self._journal.read(lambda c: transactions.await_approval(c, profile.name, most)):
            raise Unavailable(
                f"{most} requests wait for a person already (max_awaiting_approval)",
                retry_after_seconds=_FULL_RETRY_SECONDS,
            )

    async def submit(self, endpoint: Endpoint, begun: Begun) -> Told:
        """Asks the CA for what is authorised, and waits for it as long as a device does.

        Raises:
            Refused: the CA says no.
        """
        transaction = begun.transaction
        if transaction.state is State.AWAITING_APPROVAL:
            return tell(endpoint, transaction)
        awaited_until = self._clock.monotonic_seconds() + endpoint.profile.wait_seconds
        work = self._background.start(transaction.id, self._carry_out(endpoint.backend, begun, awaited_until))
        return await self._wait(endpoint, transaction, work)

    async def present(self, endpoint: Endpoint, identity: RequestIdentity, known: Transaction) -> Told:
        """The present state of a transaction that is not new, waiting for what is under way in this process.

        Raises:
            Refused: the CA has said no.
            Unavailable: the journal cannot be written, or the device has used up its transactionIDs: it is to come back,
                and gets the certificate under whatever transactionID once it is there.
        """
        if known.state in DEFERRED and not known.is_named_by(identity):
            is_kept = await self._journal.write(lambda c: transactions.remember(c, known.id, identity))
            if not is_kept:
                raise Unavailable(
                    f"transaction {known.id} is known under too many transactionIDs; no other one is kept"
                )
        running = self._background.running(known.id)
        if running is not None:
            return await self._wait(endpoint, known, running)
        return await deliver(self._journal, endpoint, known, self._clock.now())

    async def _carry_out(self, backend: Backend, begun: Begun, awaited_until: float) -> Transaction:
        transaction, permit = begun.transaction, begun.permit
        if permit is None:
            try:
                permit = await backend.gate.enter(backend.issue_timeout_seconds)
            except Overloaded:
                return transaction  # the sweeper takes it up once it is due
            try:
                transaction = await self._begin(backend, transaction)
            except BaseException as error:
                permit.release()
                if isinstance(error, LostRace):
                    return await self._journal.read(lambda c: transactions.get(c, transaction.id))
                raise
        issued = await self._issuing.issue(backend, begun.decision, transaction, permit, awaited_until)
        return await self._deliveries.deliver_now(issued)

    async def _put_back(self, which: UUID, writing: asyncio.Future[Transaction]) -> Transaction:
        """The request was cut off while it was committed: what nobody will send now is left to the sweeper."""
        transaction = await writing
        if transaction.id != which or transaction.state is not State.SUBMITTING:
            return transaction
        now, detail = self._clock.now(), "not sent: the request was cut off"
        return await self._issuing.settle(transaction, settle.back_to_authorised, detail, now, now)

    async def _begin(self, backend: Backend, transaction: Transaction) -> Transaction:
        now = self._clock.now()
        return await self._journal.write(lambda c: transactions.begin(c, transaction, now, due_at=now + backend.lease))

    async def _wait(self, endpoint: Endpoint, transaction: Transaction, work: asyncio.Task[Transaction]) -> Told:
        done, _ = await asyncio.wait({work}, timeout=endpoint.profile.wait_seconds)
        if not done:
            return tell(endpoint, transaction)
        if (error := work.exception()) is not None:  # it is committed: whatever went wrong, no matter of 500 or 503
            return Told(reply=Deferral(), detail=f"{type(error).__name__}")
        try:
            return await deliver(self._journal, endpoint, work.result(), self._clock.now())
        except Unavailable as away:
            return Told(reply=Deferral(), detail=str(away))

    def _new(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, now: datetime, *, may_ask: bool
    ) -> NewTransaction:
        which, expires_at = self._uuid(), now + timedelta(days=endpoint.profile.pending_expires_days)
        if decision.grant.needs_approval:
            state, due_at = State.AWAITING_APPROVAL, expires_at
        elif may_ask or endpoint.backend.gate.may_wait:
            state, due_at = State.SUBMITTING if may_ask else State.AUTHORISED, now + endpoint.backend.lease
        else:
            state, due_at = State.AUTHORISED, now
        return NewTransaction(
            id=which,
            state=state,
            idempotency_key=self._uuid(),
            identity=identity,
            contents=contents_digest(decision.contents),
            connector=endpoint.backend.name,
            subject=decision.subject_text,
            grant=decision.grant,
            request=self._key.seal(which, freeze(decision), self._entropy(12)),
            due_at=due_at,
            expires_at=expires_at,
        )

    def _uuid(self) -> UUID:
        return UUID(bytes=self._entropy(16), version=4)
