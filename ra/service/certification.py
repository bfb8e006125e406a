"""Obtains the certificate of a key that the RA has made for itself, from the CA that the profile is in front of.

What is to be asked is committed before the CA is asked; whatever it answers, or does not, is noted, and asked again. The
caller holds the identity's lease. A lost answer of a CA that cannot say what it has issued may leave a second
certificate there, for the same key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from connectors.api import BackendUnavailable, Capability, Issued, IssueRequest, IssueResult, Pending, Rejected
from ra.errors import RaError
from ra.journal import ra_keys
from ra.journal.database import Journal
from ra.journal.ra_keys import RaKey
from ra.journal.sealing import JournalKey
from ra.keyring.checks import examine, insist
from ra.keyring.files import identity_of
from ra.scep.keys import Identity
from ra.service.backend import Backend
from ra.service.gate import Overloaded
from ra.service.identity import BOTH_USAGES, Wish, request_for
from ra.service.pauses import pause
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.returned import check

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0
"""Between two tries at a CA that does not answer, growing."""

ANEW_AFTER = timedelta(minutes=10)
"""After a CA has refused, or has sent what will not do: it takes a person to change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """An identity that the RA keeps by itself, as the configuration has it.

    Attributes:
        renew_before: so long before the end of a certificate, at most a third of its time, the next one is obtained.
        show_after: so long after it was obtained it is shown: by then every process must have its key.
        overlap: so long after that the one before opens requests; None: until it ends.
        is_alone: no profile names another identity beside it.
    """

    wish: Wish
    backend: Backend
    renew_before: timedelta
    show_after: timedelta
    overlap: timedelta | None
    is_alone: bool = True

    @property
    def name(self) -> str:
        return self.wish.name


def open_identity(journal_key: JournalKey, key: RaKey, certificate: bytes) -> Identity:
    """A key and its certificate, DER, ready to be used.

    Raises:
        NotOurs: the key was sealed with another key of the journal.
    """
    return identity_of(key.identity, certificate, read_key(journal_key, key))


def read_key(journal_key: JournalKey, key: RaKey) -> RSAPrivateKey:
    """The private key.

    Raises:
        NotOurs: as above.
    """
    loaded = load_der_private_key(journal_key.open_key(key.id, key.key), password=None)
    if not isinstance(loaded, RSAPrivateKey):
        raise TypeError("a managed key is RSA")
    return loaded


class Certification:
    """Asks, and notes what came of it."""

    def __init__(self, *, journal: Journal, key: JournalKey, clock: Clock, entropy: Entropy, metrics: Metrics) -> None:
        self._journal = journal
        self._key = key
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._log = structlog.get_logger("ra.service.certification")

    async def certify(self, managed: Managed, key: RaKey, *, is_first: bool, was_asked: bool) -> None:
        """Asks for the certificate of `key` once.

        Args:
            managed: whose it is.
            key: it has no certificate yet.
            is_first: the identity has no other that devices could know.
            was_asked: the CA may have issued it already.

        Raises:
            Unavailable: the database is away; it is asked again later.
        """
        private_key = await asyncio.to_thread(read_key, self._key, key)
        request = request_for(private_key, managed.wish, BOTH_USAGES, key.idempotency_key, key.requested_at)
        answer = await self._ask(managed.backend, key, request, was_asked=was_asked)
        if isinstance(answer, Issued):
            await self._take(managed, key, request, answer, is_first=is_first)
        else:
            await self._put_off(key, answer)

    async def _ask(
        self, backend: Backend, key: RaKey, request: IssueRequest, *, was_asked: bool
    ) -> IssueResult | Exception:
        try:
            permit = await backend.gate.enter(backend.issue_timeout_seconds)
        except Overloaded as error:
            return error
        with permit:
            try:
                async with asyncio.timeout(backend.issue_timeout_seconds):
                    answer = await _result(backend, key, request, was_asked=was_asked)
            except Exception as error:  # noqa: BLE001 - the edge of a plugin: whatever it raises, it is noted
                self._metrics.connector_failed(backend.name, type(error).__name__)
                permit.failed(error)
                return error
            permit.succeeded()
            return answer

    async def _take(
        self, managed: Managed, key: RaKey, request: IssueRequest, issued: Issued, *, is_first: bool
    ) -> None:
        now, chain = self._clock.now(), managed.backend.ca_chain
        try:
            check(issued, chain[0], request.contents, now, known=managed.backend.known)
            loaded = x509.load_der_x509_certificate(issued.certificate)
            valid_at = max(now, loaded.not_valid_before_utc)  # the CA's clock may be ahead, as far as `check` lets it
            insist(examine(open_identity(self._key, key, issued.certificate), chain, valid_at, self._entropy))
        except RaError as error:
            self._log.error(
                "the CA sent a certificate that the RA cannot use", identity=key.identity, detail=str(error)
            )
            await self._begin_anew(key, f"the CA sent a certificate that will not do: {error}")
            return
        not_after = loaded.not_valid_after_utc
        shown_at = valid_at if is_first and managed.is_alone else valid_at + managed.show_after
        others_until = not_after if managed.overlap is None else shown_at + managed.overlap
        await self._journal.write(
            lambda c: ra_keys.certify(
                c,
                key,
                issued.certificate,
                now=now,
                shown_at=shown_at,
                forget_at=not_after,
                forget_others_at=others_until,
            )
        )
        self._log.info("the RA has a new certificate", identity=key.identity, shown_at=shown_at.isoformat())

    async def _put_off(self, key: RaKey, answer: object) -> None:
        now = self._clock.now()
        match answer:
            case Pending(reference=reference, retry_after_seconds=seconds):
                due_at, detail = now + timedelta(seconds=seconds), "the CA has not decided yet"
                later = replace(key, reference=reference, detail=detail, due_at=due_at, attempts=0)
            case Rejected(detail=detail):
                await self._begin_anew(key, f"the CA refuses the RA's certificate: {detail}")
                return
            case _:
                wait = pause(
                    key.attempts,
                    self._entropy,
                    first_seconds=FIRST_PAUSE_SECONDS,
                    longest_seconds=LONGEST_PAUSE_SECONDS,
                )
                if isinstance(answer, BackendUnavailable) and answer.retry_after_seconds is not None:
                    wait = max(wait, timedelta(seconds=answer.retry_after_seconds))
                detail = f"the CA could not be asked: {answer or type(answer).__name__}"
                later = replace(key, detail=detail, due_at=now + wait, attempts=key.attempts + 1)
        self._log.warning("the RA's certificate is waited for", identity=key.identity, detail=detail)
        await self._journal.write(lambda c: ra_keys.postpone(c, later))

    async def _begin_anew(self, key: RaKey, detail: str) -> None:
        now = self._clock.now()
        anew = replace(
            key,
            idempotency_key=UUID(bytes=self._entropy(16), version=4),
            requested_at=now,
            due_at=now + ANEW_AFTER,
            attempts=0,
            reference=None,
            detail=detail,
        )
        await self._journal.write(lambda c: ra_keys.postpone(c, anew))


async def _result(backend: Backend, key: RaKey, request: IssueRequest, *, was_asked: bool) -> IssueResult:
    """What the CA says: to an order of its own, to the question what it has issued, or to a new request."""
    if key.reference is not None and backend.can(Capability.POLL):
        return await backend.connector.poll(key.reference, request)
    if was_asked and backend.can(Capability.FIND_ISSUED) and not backend.can(Capability.IDEMPOTENT):
        found = await backend.connector.find_issued(request, key.requested_at)
        if found is not None:
            return found
    return await backend.connector.issue(request)
