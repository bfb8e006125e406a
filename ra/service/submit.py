"""Step 7: the one way to a certificate. Commit, ask the CA, check what comes back, commit.

Both halves take a Decision, which only the policy can make. What is lost between the two commits is taken up by the
device's next try: an idempotent connector is asked again with the same key, and any other one is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from connectors.api import (
    ApprovedContents,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    IssueRequest,
    IssueResult,
    Pending,
    ProtocolViolation,
    Rejected,
)
from ra.errors import Unavailable
from ra.journal import transactions
from ra.journal.certificates import describe
from ra.journal.database import Journal
from ra.journal.records import NewTransaction, RequestIdentity, Transaction
from ra.journal.states import OPEN, LostRace, State
from ra.policy.decide import Decision
from ra.scep.messages import Deferral
from ra.service.background import Background
from ra.service.endpoint import Endpoint
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.replies import Told, deliver, tell
from ra.service.returned import Wrong, check

Operation = Callable[[Connection], Transaction]

LEASE = timedelta(seconds=60)
"""For so long nobody else takes an attempt up."""

AUTHORISATION_LASTS = timedelta(days=7)
"""For so long a request that could not be sent to the CA needs no challenge again."""

CA_SECONDS = 50.0
"""How long a CA is given to answer; its answer is settled before the lease is over."""

WAIT_SECONDS = 15.0
"""How long a request is held open for the CA before the device is told PENDING; clients give up after 30 to 60 s."""


class Submissions:
    """Carries decisions out, each at most once at a time."""

    def __init__(self, *, journal: Journal, clock: Clock, entropy: Entropy, metrics: Metrics) -> None:
        self._journal = journal
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._background: Background[Transaction] = Background()

    async def drain(self) -> None:
        """Waits until everything that was begun has been settled."""
        await self._background.drain()

    async def authorise(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity
    ) -> tuple[Transaction, bool]:
        """The first commit; False beside the transaction of an identical request that was faster.

        Raises:
            Refused: a one-time secret is spent, or the transaction is another request's.
            Unavailable: the journal cannot be written, and nothing is committed.
        """
        now = self._clock.now()
        new = self._new(endpoint, decision, identity, now)
        transaction = await self._journal.write(lambda c: transactions.authorise(c, new, now))
        return transaction, transaction.id == new.id

    async def authorise_anew(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, known: Transaction
    ) -> tuple[Transaction, bool]:
        """The first commit once more, for an attempt that was never sent; False when somebody else has taken it up.

        Raises:
            Refused: as in `authorise`.
            Unavailable: the journal cannot be written, and nothing is committed.
        """
        now = self._clock.now()
        new = self._new(endpoint, decision, identity, now)
        try:
            return await self._journal.write(lambda c: transactions.authorise_anew(c, known.id, new, now)), True
        except LostRace:
            return await self._journal.read(lambda c: transactions.get(c, known.id)), False

    async def submit(self, endpoint: Endpoint, decision: Decision, transaction: Transaction) -> Told:
        """Asks the CA for what is authorised, and waits for it as long as a device does.

        Raises:
            Refused: the CA says no.
        """
        work = self._background.start(transaction.id, self._issue(endpoint, decision, transaction))
        return await self._wait(endpoint, transaction, work)

    def may_take_up(self, endpoint: Endpoint, known: Transaction) -> bool:
        """Whether the CA is to be asked (again): it never was, or its answer was lost and asking twice does no harm."""
        if self._background.running(known.id) is not None:
            return False
        lease_is_over = known.lease_until is not None and known.lease_until <= self._clock.now()
        is_lost = known.state is State.UNKNOWN or (known.state is State.SUBMITTING and lease_is_over)
        is_same_ca = known.connector == endpoint.connector_name
        return known.state is State.AUTHORISED or (
            is_lost and is_same_ca and Capability.IDEMPOTENT in endpoint.connector.capabilities
        )

    def still_holds(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, known: Transaction
    ) -> bool:
        """Whether what was authorised, and never sent, is what is asked for now; of a lost answer nothing else is taken."""
        if known.state is not State.AUTHORISED:
            return True
        authorised = (known.csr_info, known.contents, known.connector)
        asked = (identity.csr_info, contents_digest(decision.contents), endpoint.connector_name)
        return authorised == asked and self._clock.now() - known.created_at < AUTHORISATION_LASTS

    async def take_up(
        self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, known: Transaction
    ) -> Told:
        """Asks the CA once more for an attempt that was cut short; a lost answer only for the very same contents."""
        now, contents = self._clock.now(), contents_digest(decision.contents)
        operation = transactions.resume if known.state is State.AUTHORISED else transactions.retake
        try:
            taken = await self._journal.write(
                lambda c: operation(c, known.id, identity.csr_info, contents, lease_until=now + LEASE, now=now)
            )
        except LostRace:
            taken = await self._journal.read(lambda c: transactions.get(c, known.id))
            return await self.present(endpoint, identity, taken)
        return await self.submit(endpoint, decision, taken)

    async def present(self, endpoint: Endpoint, identity: RequestIdentity, known: Transaction) -> Told:
        """What is so far known, to a request that came again; a CertPoll under its transactionID will find it too."""
        if known.state in OPEN and not known.is_named_by(identity):
            await self._journal.write(lambda c: transactions.remember(c, known.id, identity))
        running = self._background.running(known.id)
        if running is not None:
            return await self._wait(endpoint, known, running)
        return await deliver(self._journal, endpoint, known, self._clock.now())

    async def _wait(self, endpoint: Endpoint, transaction: Transaction, work: asyncio.Task[Transaction]) -> Told:
        done, _ = await asyncio.wait({work}, timeout=WAIT_SECONDS)
        if not done:
            return tell(endpoint, transaction)
        try:
            return await deliver(self._journal, endpoint, work.result(), self._clock.now())
        except Unavailable as error:  # authorised, and the outcome cannot be written: no longer a matter of 503
            return Told(reply=Deferral(), detail=str(error))

    async def _issue(self, endpoint: Endpoint, decision: Decision, transaction: Transaction) -> Transaction:
        patience_ends = self._clock.monotonic_seconds() + WAIT_SECONDS
        request = IssueRequest(
            csr=decision.enrolment.csr.der,
            contents=decision.contents,
            profile=endpoint.profile.name,
            idempotency_key=transaction.idempotency_key,
            requested_at=transaction.created_at,
        )
        try:
            async with asyncio.timeout(CA_SECONDS):
                result = _result(await endpoint.connector.issue(request))
        except Exception as error:  # noqa: BLE001 - the edge of a plugin: whatever it raises, the row is settled
            self._metrics.connector_failed(endpoint.connector_name, type(error).__name__)
            return await self._settle(transaction.id, _fault(transaction, error, self._clock.now()))
        now, waiting = self._clock.now(), self._clock.monotonic_seconds() < patience_ends
        if isinstance(result, Issued):
            try:
                check(result, endpoint.ca_chain[0], decision.contents, now)
            except Wrong as error:
                self._metrics.alarmed(endpoint.profile.name, "QUARANTINED")
                return await self._settle(transaction.id, _quarantine(transaction, result, str(error), now))
        return await self._settle(transaction.id, _outcome(transaction, result, now, waiting=waiting))

    async def _settle(self, which: UUID, outcome: Operation) -> Transaction:
        """Commits the outcome, unless the lease was over and another process has settled the transaction meanwhile."""
        try:
            return await self._journal.write(outcome)
        except LostRace:
            return await self._journal.read(lambda c: transactions.get(c, which))

    def _new(self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity, now: datetime) -> NewTransaction:
        return NewTransaction(
            id=self._uuid(),
            idempotency_key=self._uuid(),
            identity=identity,
            contents=contents_digest(decision.contents),
            connector=endpoint.connector_name,
            subject=decision.subject_text,
            grant=decision.grant,
            lease_until=now + LEASE,
        )

    def _uuid(self) -> UUID:
        return UUID(bytes=self._entropy(16), version=4)


def _result(answer: object) -> IssueResult:
    if not isinstance(answer, Issued | Pending | Rejected):
        raise ProtocolViolation(f"the connector answered with {type(answer).__name__}")
    return answer


def contents_digest(contents: ApprovedContents) -> bytes:
    """SHA-256 over what a certificate is to say, the same in every process."""
    said = [
        [[(each.oid, each.value, each.tag) for each in rdn] for rdn in contents.subject],
        [(each.kind, each.value) for each in contents.subject_alternative_names],
        contents.spki.hex(),
        sorted(contents.key_usage),
        contents.extended_key_usage,
        contents.validity.total_seconds(),
        contents.sid,
    ]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _quarantine(transaction: Transaction, issued: Issued, detail: str, now: datetime) -> Operation:
    return lambda c: transactions.quarantine(c, transaction, issued.certificate, detail, now)


def _outcome(transaction: Transaction, result: IssueResult, now: datetime, *, waiting: bool) -> Operation:
    """What the journal is told of the CA's answer; `waiting` when the device still waits for it."""
    match result:
        case Issued():
            certificate = describe(result)
            return lambda c: transactions.release(c, transaction, certificate, now, delivered=waiting)
        case Pending(reference=reference, retry_after_seconds=seconds):
            retry_at = now + timedelta(seconds=seconds)
            return lambda c: transactions.settle_pending(c, transaction, reference, retry_at, now)
        case Rejected(rejection=rejection, detail=detail):
            return lambda c: transactions.settle_rejected(c, transaction, rejection.value, detail, now)


def _fault(transaction: Transaction, error: Exception, now: datetime) -> Operation:
    """What the journal is told when there is no answer. Only what surely was not sent may be sent again."""
    detail = f"{type(error).__name__}: {error}"
    is_unsent = isinstance(error, ConnectorError) and not (
        isinstance(error, ProtocolViolation) or (isinstance(error, BackendUnavailable) and error.maybe_issued)
    )
    settle = transactions.back_to_authorised if is_unsent else transactions.settle_unknown
    return lambda c: settle(c, transaction, detail, now)
