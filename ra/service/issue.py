"""Asks a CA for what has been decided, and commits what it says.

Asking demands a Decision, which only the policy can make, and a transaction that nobody else has in hand: its `due_at`
lies in the future, and whatever is committed here is fenced by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection

from connectors.api import (
    ApprovedContents,
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    IssueRequest,
    Misconfigured,
    Pending,
    ProtocolViolation,
    Rejected,
)
from ra.errors import Unavailable
from ra.journal import audit, settle, strays, transactions
from ra.journal.certificates import describe, note_orphan, stands_elsewhere
from ra.journal.database import Journal
from ra.journal.records import NewStray, Occasion, Transaction
from ra.journal.states import LostRace, NotItsOwn, State
from ra.policy.decide import Decision
from ra.service.asking import ask
from ra.service.backend import Backend
from ra.service.endpoint import Directory
from ra.service.gate import Permit
from ra.service.notices import Notices
from ra.service.pauses import pause
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.returned import Wrong, check, serial_from

T = TypeVar("T")
P = ParamSpec("P")
Operation = Callable[Concatenate[Connection, Transaction, P], Transaction]

RETRY_SECONDS = 1.0
"""Between two tries to commit an outcome while the database is away."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0
"""Between two looks at what could not be settled, growing."""


_WAITING = frozenset({State.AUTHORISED, State.SUBMITTING, State.PENDING, State.UNKNOWN})
"""States in which a certificate is what is waited for."""

_ANOTHERS = "it is the certificate of another transaction"


class Issuing:
    """What is done with a CA about one transaction; whatever it answers, or does not, is settled in the journal."""

    def __init__(
        self,
        *,
        journal: Journal,
        endpoints: Directory,
        notices: Notices,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
    ) -> None:
        self._journal = journal
        self._endpoints = endpoints
        self._notices = notices
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._log = structlog.get_logger("ra.service.issue")

    async def issue(
        self, backend: Backend, decision: Decision, transaction: Transaction, permit: Permit, awaited_until: float = 0.0
    ) -> Transaction:
        """SUBMITTING to whatever follows; the device waits for it until `awaited_until`, in monotonic seconds."""
        answer = await self.ask(backend, permit, backend.connector.issue(request_of(decision, transaction)))
        if isinstance(answer, Exception):
            return await self._settle_fault(transaction, answer)
        is_awaited = self._clock.monotonic_seconds() < awaited_until
        return await self.take(backend, decision, transaction, answer, is_awaited=is_awaited)

    async def ask(self, backend: Backend, permit: Permit, asking: Awaitable[T]) -> T | Exception:
        """What a connector answers in time, or what it raises instead; the permit is given back."""
        return await ask(backend, permit, asking, self._metrics)

    async def take(
        self,
        backend: Backend,
        decision: Decision,
        transaction: Transaction,
        answer: object,
        *,
        is_awaited: bool = False,
    ) -> Transaction:
        """Settles what a CA answered: a certificate once it has been looked at."""
        now = self._clock.now()
        match answer:
            case Issued():
                return await self._take_certificate(backend, decision, transaction, answer, is_awaited=is_awaited)
            case Pending(reference=reference, retry_after_seconds=seconds):
                due_at = min(now + timedelta(seconds=seconds), transaction.expires_at)
                return await self.settle(transaction, settle.settle_pending, reference, due_at, now)
            case Rejected(rejection=rejection, detail=detail):
                letters = self._notices.letters(
                    transaction, decision, Occasion.FAILED, now, reason=rejection.value, detail=detail
                )
                return await self.settle(
                    transaction, settle.settle_rejected, rejection.value, detail, now, letters=letters
                )
            case _:
                error = ProtocolViolation(f"the connector answered with {type(answer).__name__}")
                settle_it = self._settle_fault if transaction.state is State.SUBMITTING else self.postpone
                return await settle_it(transaction, error)

    async def settle(
        self, transaction: Transaction, operation: Operation[P], *values: P.args, **named: P.kwargs
    ) -> Transaction:
        """Commits what has become of it, unless somebody else has settled it meanwhile: then, what that was.

        With the database away, it is tried as long as nobody else has taken the transaction up.

        Raises:
            Unavailable: the database is still away then; what the CA said is found out about later.
        """
        while True:
            try:
                return await self._journal.write(lambda c: operation(c, transaction, *values, **named))
            except LostRace:
                return await self._journal.read(lambda c: transactions.get(c, transaction.id))
            except Unavailable:
                if transaction.due_at is None or self._clock.now() >= transaction.due_at:
                    raise
            await self._clock.sleep(RETRY_SECONDS)

    async def postpone(self, transaction: Transaction, error: Exception) -> Transaction:
        """Leaves it as it is, to be looked at again after a pause that grows."""
        self._alarm(transaction, error)
        now = self._clock.now()
        return await self.settle(
            transaction, settle.postpone, _told(error), now + self._pause(transaction.attempts, error), now
        )

    # ------------------------------------------------------------ certificates
    async def _take_certificate(
        self, backend: Backend, decision: Decision, transaction: Transaction, issued: Issued, *, is_awaited: bool
    ) -> Transaction:
        now = self._clock.now()
        fault = _fault_of(backend, decision, issued, now)
        if fault is not None:
            return await self._quarantine(backend, transaction, issued.certificate, fault)
        certificate = describe(issued)
        letters = self._notices.letters(transaction, decision, Occasion.ISSUED, now, issued=issued)
        # Where it came after the lease was over, it is as good as one that is found now, while nobody has another.
        while transaction.state in _WAITING:
            if transaction.state is State.AUTHORISED:
                transaction = await self.settle(transaction, transactions.begin, now, due_at=now + backend.lease)
                continue
            try:
                settled = await self.settle(
                    transaction,
                    settle.issue,
                    certificate,
                    now,
                    delivered=is_awaited,
                    keeps_request=decision.seals_reply,
                    letters=letters,
                    undelivered_until=self.undelivered_until(transaction.profile, now),
                    supersedes=transaction.renews is not None and self._revokes_on_replace(transaction.profile),
                )
            except NotItsOwn:
                return await self._quarantine(backend, transaction, issued.certificate, _ANOTHERS)
            if settled.certificate == issued.certificate:
                return settled
            transaction = settled
        await self._abandon(backend, transaction, issued)
        return transaction

    async def look_again(
        self, backend: Backend, decision: Decision, transaction: Transaction, certificate: bytes
    ) -> Transaction:
        """What was QUARANTINED, DER, is handed out if it is nothing wrong by now."""
        now = self._clock.now()
        issued = Issued(certificate=certificate, chain=backend.ca_chain, reference=transaction.reference or "")
        fault = _fault_of(backend, decision, issued, now)
        if fault is not None:
            return await self.settle(transaction, settle.postpone, fault, None, now)
        letters = self._notices.letters(transaction, decision, Occasion.ISSUED, now, issued=issued)
        try:
            return await self.settle(
                transaction,
                settle.accept,
                describe(issued),
                now,
                letters=letters,
                undelivered_until=self.undelivered_until(transaction.profile, now),
                keeps_request=decision.seals_reply,
            )
        except NotItsOwn:
            return await self.settle(transaction, settle.postpone, _ANOTHERS, None, now)

    async def _quarantine(
        self, backend: Backend, transaction: Transaction, certificate: bytes, fault: str
    ) -> Transaction:
        """Nobody gets it, the CA is asked for nothing new, and to revoke it where that can hit nothing else."""
        self._metrics.alarmed(transaction.profile, "QUARANTINED")
        self._log.error("connector stopped", connector=backend.name, transaction=str(transaction.id), detail=fault)
        backend.gate.hold(fault)
        serial = serial_from(certificate, backend.ca_chain[0])
        # A CA revokes by serial number: what is not its own, or stands for somebody else, must not be asked for.
        revoke = serial is not None and not await self._stands_elsewhere(transaction, serial)
        stray = NewStray(certificate=certificate, serial=serial, revoke=revoke and backend.can(Capability.REVOKE))
        return await self.settle(transaction, settle.quarantine, stray, fault, self._clock.now())

    async def _stands_elsewhere(self, transaction: Transaction, serial: int) -> bool:
        return await self._journal.read(lambda c: stands_elsewhere(c, transaction.connector, serial, transaction.id))

    def undelivered_until(self, profile: str, now: datetime) -> datetime | None:
        """When a certificate that nobody fetched is revoked; None: it is kept."""
        endpoint = self._endpoints.by_name(profile)
        days = endpoint.profile.revoke_undelivered_after_days if endpoint else 0
        return now + timedelta(days=days) if days else None

    def _revokes_on_replace(self, profile: str) -> bool:
        endpoint = self._endpoints.by_name(profile)
        return endpoint is not None and endpoint.profile.revoke_on_replace

    async def _abandon(self, backend: Backend, transaction: Transaction, issued: Issued) -> None:
        """A certificate that came after its transaction had been settled without it: nobody will ever get it."""
        self._metrics.alarmed(transaction.profile, "ORPHAN")
        serial, now = describe(issued).serial, self._clock.now()
        reason = f"the answer came when the transaction was {transaction.state}"
        event: dict[str, audit.Value] = {
            "event": "orphan",
            "transaction": str(transaction.id),
            "profile": transaction.profile,
            "connector": transaction.connector,
            "reference": issued.reference,
            "serial": f"{serial:x}",
            "detail": reason,
        }
        can_revoke = backend.can(Capability.REVOKE)

        def record(connection: Connection) -> None:
            # A CA revokes by serial number: what another transaction has must not be asked for.
            is_ours = not stands_elsewhere(connection, transaction.connector, serial, transaction.id)
            stray = NewStray(certificate=issued.certificate, serial=serial, revoke=can_revoke and is_ours)
            audit.record(connection, now, event)
            note_orphan(connection, transaction.id)
            strays.keep(connection, transaction, stray, reason, now)

        await self._journal.write(record)

    # ------------------------------------------------------------ faults
    async def _settle_fault(self, transaction: Transaction, error: Exception) -> Transaction:
        """Only what surely was not sent may be sent again; anything else is UNKNOWN."""
        self._alarm(transaction, error)
        is_unsent = isinstance(error, ConnectorError) and not (
            isinstance(error, ProtocolViolation) or (isinstance(error, BackendUnavailable) and error.maybe_issued)
        )
        operation = settle.back_to_authorised if is_unsent else settle.settle_unknown
        now = self._clock.now()
        due_at = now + self._pause(transaction.attempts, error)
        return await self.settle(transaction, operation, _told(error), due_at, now)

    def _alarm(self, transaction: Transaction, error: Exception) -> None:
        """The device waits, and is not to blame; without a person it waits for ever."""
        if isinstance(error, AuthFailed | Misconfigured):
            self._metrics.alarmed(transaction.profile, "CA_SETTINGS")
            log = structlog.get_logger("ra.service.issue")
            log.error("a CA cannot be asked as configured", connector=transaction.connector, detail=_told(error))

    def _pause(self, attempts: int, error: Exception) -> timedelta:
        """What the CA asked for, if it did, and some more."""
        asked = error.retry_after_seconds if isinstance(error, BackendUnavailable) else None
        return timedelta(seconds=asked or 0) + pause(
            attempts, self._entropy, first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS
        )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fault_of(backend: Backend, decision: Decision, issued: Issued, now: datetime) -> str | None:
    """What is wrong with a certificate; None: it is what was decided."""
    try:
        check(issued, backend.ca_chain[0], decision.contents, now, known=backend.known)
    except Wrong as error:
        return str(error)
    return None


def request_of(decision: Decision, transaction: Transaction) -> IssueRequest:
    """The same on every attempt, whoever makes it."""
    return IssueRequest(
        csr=decision.csr,
        contents=decision.contents,
        profile=transaction.profile,
        idempotency_key=transaction.idempotency_key,
        requested_at=transaction.created_at,
    )


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
