"""PKCSReq and RenewalReq: from an opened request to a certificate, or to the reason why there is none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from connectors.api import (
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
from ra.challenge.api import Attempt, Deny
from ra.challenge.api import Unavailable as NotNow
from ra.errors import Reason, Refused, Unavailable
from ra.journal import audit, transactions
from ra.journal.certificates import describe
from ra.journal.database import Journal
from ra.journal.records import NewTransaction, RequestIdentity, Transaction
from ra.journal.states import OPEN, LostRace, State
from ra.policy.decide import Decision, decide, requested_names_digest
from ra.policy.grant import Grant
from ra.scep.messages import Enrolment, Reply
from ra.service.background import Background
from ra.service.endpoint import Endpoint
from ra.service.ports import Clock, Entropy
from ra.service.replies import deliver, reply_to
from ra.service.returned import Wrong, check

LEASE = timedelta(seconds=60)
"""How long a CA is given to answer before its answer counts as lost."""

Operation = Callable[[Connection], Transaction]
TakeUp = Callable[[Connection, UUID, bytes, datetime, datetime], Transaction]

WAIT_SECONDS = 15.0
"""How long a request is held open for the CA before the device is told PENDING; clients give up after 30 to 60 s."""


class Enrolments:
    """Carries enrolments out, at most once each."""

    def __init__(self, *, journal: Journal, clock: Clock, entropy: Entropy) -> None:
        self._journal = journal
        self._clock = clock
        self._entropy = entropy
        self._background: Background[Transaction] = Background()

    async def drain(self) -> None:
        """Waits until every enrolment that was begun has been settled."""
        await self._background.drain()

    async def enrol(self, endpoint: Endpoint, request: Enrolment, arrived_at: datetime) -> Reply:
        """Steps 4 to 7 of a PKIOperation; the others are in `PkiOperation.answer`.

        4. `recall`: the same request again gets the same answer, or takes up an attempt that was cut short.
        5. `authenticate`: a challenge validator says who is asking. Nothing is spent yet.
        6. `decide`: policy, which only an authenticated request learns about.
        7. `submit`: commit (row, spent secret, audit), ask the CA, check what came back, commit. From the first commit
           on, the work goes on whether or not the device still listens.

        Raises:
            Refused: the device is told FAILURE.
            Unavailable: something needed cannot be asked, and nothing is committed.
        """
        identity = request_identity(endpoint, request)
        known = await self._journal.read(lambda c: transactions.recall(c, identity, arrived_at))  # (4)
        if known is not None:
            return await self._take_up(endpoint, request, identity, known)
        grant = await self._authenticate(endpoint, request, arrived_at)  # (5)
        decision = await self._decide(endpoint, request, grant)  # (6)
        return await self._submit(endpoint, decision, identity)  # (7)

    # ---------------------------------------------------------------------------------------------- 4. recall

    async def _take_up(
        self, endpoint: Endpoint, request: Enrolment, identity: RequestIdentity, known: Transaction
    ) -> Reply:
        if known.state in OPEN and not known.is_named_by(identity):
            await self._journal.write(lambda c: transactions.remember(c, known.id, identity))
        running = self._background.running(known.id)
        if running is not None:
            return await self._wait(endpoint, known, running)
        take_up = self._unfinished(endpoint, known)
        if take_up is None:
            return await deliver(self._journal, endpoint, known, self._clock.now())
        grant = Grant(method=known.grant_method, label=known.grant_label, attributes=known.grant_attributes)
        decision = await self._decide(endpoint, request, grant)
        now = self._clock.now()
        try:
            taken = await self._journal.write(lambda c: take_up(c, known.id, identity.csr_info, now + LEASE, now))
        except LostRace:
            return reply_to(endpoint, await self._journal.read(lambda c: transactions.get(c, known.id)))
        return await self._begin(endpoint, decision, taken)

    def _unfinished(self, endpoint: Endpoint, known: Transaction) -> TakeUp | None:
        """How the CA is to be asked (again): it never was, or its answer was lost and asking twice does no harm."""
        if known.state is State.AUTHORISED:
            return transactions.resume
        lease_over = known.lease_until is not None and known.lease_until <= self._clock.now()
        lost = known.state is State.UNKNOWN or (known.state is State.SUBMITTING and lease_over)
        return transactions.retake if lost and Capability.IDEMPOTENT in endpoint.connector.capabilities else None

    # ---------------------------------------------------------------------------------------------- 5. authenticate

    async def _authenticate(self, endpoint: Endpoint, request: Enrolment, arrived_at: datetime) -> Grant:
        if endpoint.validator is None:
            return Grant(method="none", label="no challenge is required")
        attempt = Attempt(
            profile=endpoint.profile.name,
            transaction_id=str(request.outer.header.transaction_id),
            csr=request.csr,
            signer=request.outer.signer,
            arrived_at=arrived_at,
        )
        match await endpoint.validator.check(attempt):
            case Grant() as grant:
                return grant
            case Deny(detail=detail, alarm=alarm):
                raise Refused(Reason.CHALLENGE_REFUSED, detail, alarm=alarm)
            case NotNow(detail=detail, retry_after_seconds=seconds):
                raise Unavailable(detail, seconds)

    # ---------------------------------------------------------------------------------------------- 6. decide

    async def _decide(self, endpoint: Endpoint, request: Enrolment, grant: Grant) -> Decision:
        explicit, now = Capability.EXPLICIT_CONTENTS in endpoint.connector.capabilities, self._clock.now()
        try:
            return decide(request, grant, endpoint.profile, now, explicit_contents=explicit)
        except Refused as error:
            event = _refusal_event(endpoint, request, grant, error)
            await self._journal.write(lambda c: audit.record(c, now, event))
            raise

    # ---------------------------------------------------------------------------------------------- 7. submit

    async def _submit(self, endpoint: Endpoint, decision: Decision, identity: RequestIdentity) -> Reply:
        """The one way to a certificate; it takes a Decision, which only the policy can make."""
        now = self._clock.now()
        new = NewTransaction(
            id=self._uuid(),
            idempotency_key=self._uuid(),
            identity=identity,
            connector=endpoint.connector_name,
            subject=decision.subject_text,
            grant=decision.grant,
            lease_until=now + LEASE,
        )
        transaction = await self._journal.write(lambda c: transactions.authorise(c, new, now))
        if transaction.id != new.id:
            return await self._take_up(endpoint, decision.enrolment, identity, transaction)
        return await self._begin(endpoint, decision, transaction)

    async def _begin(self, endpoint: Endpoint, decision: Decision, transaction: Transaction) -> Reply:
        work = self._background.start(transaction.id, self._issue(endpoint, decision, transaction))
        return await self._wait(endpoint, transaction, work)

    async def _wait(self, endpoint: Endpoint, transaction: Transaction, work: asyncio.Task[Transaction]) -> Reply:
        done, _ = await asyncio.wait({work}, timeout=WAIT_SECONDS)
        return reply_to(endpoint, work.result() if done else transaction)

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
            result = await endpoint.connector.issue(request)
        except ConnectorError as error:
            return await self._settle(transaction.id, _fault(transaction.id, error, self._clock.now()))
        waiting = self._clock.monotonic_seconds() < patience_ends
        outcome = _outcome(transaction.id, result, decision, endpoint.ca_chain[0], self._clock.now(), waiting=waiting)
        return await self._settle(transaction.id, outcome)

    async def _settle(self, which: UUID, outcome: Operation) -> Transaction:
        """Commits the outcome, unless the lease was over and another process has settled the transaction meanwhile."""
        try:
            return await self._journal.write(outcome)
        except LostRace:
            return await self._journal.read(lambda c: transactions.get(c, which))

    def _uuid(self) -> UUID:
        return UUID(bytes=self._entropy(16), version=4)


def request_identity(endpoint: Endpoint, request: Enrolment) -> RequestIdentity:
    """What makes this request the same as another one (design §4)."""
    return RequestIdentity(
        profile=endpoint.profile.name,
        signer_key=hashlib.sha256(request.outer.signer.spki).digest(),
        transaction_id=request.outer.header.transaction_id.value,
        csr_key=hashlib.sha256(request.csr.spki).digest(),
        names=requested_names_digest(request.csr),
        csr_info=hashlib.sha256(request.csr.info).digest(),
        renewal_signer=None,
    )


def _refusal_event(endpoint: Endpoint, request: Enrolment, grant: Grant, error: Refused) -> dict[str, audit.Value]:
    """What the audit tells of a request that was authenticated and still refused."""
    return {
        "event": "enrolment",
        "outcome": "refused",
        "profile": endpoint.profile.name,
        "transaction_id": str(request.outer.header.transaction_id),
        "signer_key": hashlib.sha256(request.outer.signer.spki).hexdigest(),
        "csr_key": hashlib.sha256(request.csr.spki).hexdigest(),
        "grant_method": grant.method,
        "grant_label": grant.label,
        "grant_attributes": grant.attributes,
        "reason": error.reason.name,
        "detail": error.detail,
    }


def _outcome(
    key: UUID, result: IssueResult, decision: Decision, issuer: bytes, now: datetime, *, waiting: bool
) -> Operation:
    """What the journal is told of the CA's answer; `waiting` when the device still waits for it."""
    match result:
        case Issued():
            try:
                check(result.certificate, issuer, decision.contents, now)
            except Wrong as error:
                detail = str(error)
                return lambda c: transactions.quarantine(c, key, result.certificate, detail, now)
            certificate = describe(result)
            return lambda c: transactions.release(c, key, certificate, now, delivered=waiting)
        case Pending(reference=reference, retry_after_seconds=seconds):
            retry_at = now + timedelta(seconds=seconds)
            return lambda c: transactions.settle_pending(c, key, reference, retry_at, now)
        case Rejected(rejection=rejection, detail=detail):
            return lambda c: transactions.settle_rejected(c, key, rejection.value, detail, now)


def _fault(key: UUID, error: ConnectorError, now: datetime) -> Operation:
    """What the journal is told when there is no answer."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, ProtocolViolation) or (isinstance(error, BackendUnavailable) and error.maybe_issued):
        return lambda c: transactions.settle_unknown(c, key, detail, now)
    return lambda c: transactions.back_to_authorised(c, key, detail, now)
