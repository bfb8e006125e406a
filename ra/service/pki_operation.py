"""One PKIOperation, from the bytes of a request to the bytes of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from ra.challenge.one_time import names_in_words
from ra.errors import Refused, Unavailable
from ra.journal.records import UNAVAILABLE
from ra.journal.records import Refusal as RefusalNote
from ra.journal.refusals import RefusalLog
from ra.scep.decode import read_inner, read_outer
from ra.scep.encode import write_reply
from ra.scep.enveloped import addresses
from ra.scep.errors import Answerable, Unreadable
from ra.scep.header import Header
from ra.scep.keys import Identity
from ra.scep.messages import CertPoll, CertQuery, CrlDelivery, Deferral, Enrolment, Issuance, Outer, Reply, Request
from ra.scep.names import MessageType
from ra.service.admission import Admission
from ra.service.endpoint import Endpoint
from ra.service.enrol import Enrolments
from ra.service.outcome import OUTCOMES, refusal, refused
from ra.service.poll import Polls
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.replies import Told
from ra.service.retrieve import Retrieval

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A CertRep, DER, and what the log says of it.

    Attributes:
        outcome: `success`, `pending`, or the name of a Reason.
        detail: why, for the operator; never sent to the device.
        alarm: it looks like an attack.
    """

    body: bytes
    message_type: MessageType | None
    transaction_id: str
    outcome: str
    detail: str = ""
    alarm: bool = False


class PutOff(Unavailable):
    """A message that could be read, and cannot be answered now.

    Attributes:
        header: what it says of itself.
    """

    def __init__(self, why: Unavailable, header: Header) -> None:
        super().__init__(str(why), why.retry_after_seconds)
        self.header = header


class PkiOperation:
    """Answers the requests of every endpoint. `failure_floor_seconds` is when a uniform failure is sent at the earliest."""

    def __init__(
        self,
        *,
        admission: Admission,
        enrolments: Enrolments,
        polls: Polls,
        retrieval: Retrieval,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        refusals: RefusalLog,
        failure_floor_seconds: float,
    ) -> None:
        self._admission = admission
        self._enrolments = enrolments
        self._polls = polls
        self._retrieval = retrieval
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._refusals = refusals
        self._failure_floor_seconds = failure_floor_seconds

    async def answer(self, endpoint: Endpoint, message: bytes) -> Answer:
        """Answers one request.

        1. The HTTP shape is read by the caller (ra/web), which hands over `message`, DER or BER.
        2. `read_outer`: parse, find the one signer, verify (RFC 8894 §3.1, §3.2). No signer, no answer.
        3. `read_inner`: one private operation; parse; check the CSR's own signature (§3.3). Not before it is admitted.
        4. to 7. recall, authenticate, decide, submit: `Enrolments.enrol`; for CertPoll `Polls.poll`; for GetCert and
           GetCRL `Retrieval.retrieve`.
        8. `write_reply`, signed by the identity the request addressed.

        Raises:
            Unreadable: there is nobody to answer (HTTP 400).
            PutOff: something needed cannot be asked, and nothing is committed (HTTP 503).
        """
        started, arrived_at = self._clock.monotonic_seconds(), self._clock.now()
        try:
            answer = await self._answer(endpoint, message, started, arrived_at)
        except Unreadable:
            self._count(endpoint, None, "unreadable", started)
            raise
        except PutOff as error:
            self._count(endpoint, error.header.message_type, "unavailable", started)
            raise
        self._count(endpoint, answer.message_type, answer.outcome, started)
        return answer

    async def _answer(self, endpoint: Endpoint, message: bytes, started: float, arrived_at: datetime) -> Answer:
        profile = endpoint.profile
        try:
            outer = read_outer(message, profile.legacy)  # (2)
        except Answerable as error:
            return await self._refuse(endpoint, error.header, refused(error), started)
        request: Request | None = None
        try:
            async with self._admission.admitted(profile.name, outer):
                await self._retrieval.admit(endpoint, outer)
                request = await self._open(endpoint, outer)  # (3)
                self._count_what_is_odd(endpoint, request)
                told = await self._carry_out(endpoint, request, arrived_at)  # (4) to (7)
            return await self._seal(endpoint, request, told)  # (8)
        except (Answerable, Refused) as error:
            return await self._refuse(endpoint, outer.header, refused(error), started, request=request)
        except Unavailable as error:
            if request is not None:  # what is too much is not looked at, and not worth a row
                self._refusals.put_off(self._note(endpoint, outer.header, UNAVAILABLE, str(error), request=request))
            raise PutOff(error, outer.header) from error

    async def _open(self, endpoint: Endpoint, outer: Outer) -> Request:
        """What is sealed to a certificate that is not known here may be for one that another process shows already."""
        if find_addressed(endpoint.identities, outer.header) is None:
            await endpoint.ring.look()
        identities = endpoint.identities
        profile = endpoint.profile
        by_password = profile.password_recipient
        read = partial(read_inner, outer, identities, profile.legacy, self._entropy, password_recipient=by_password)
        return await _done(read, find_addressed(identities, outer.header))

    async def _carry_out(self, endpoint: Endpoint, request: Request, arrived_at: datetime) -> Told:
        match request:
            case Enrolment():
                return await self._enrolments.enrol(endpoint, request, arrived_at)
            case CertPoll():
                return await self._polls.poll(endpoint, request)
            case CertQuery():
                return await self._retrieval.retrieve(endpoint, request)

    async def _seal(self, endpoint: Endpoint, request: Request, told: Told) -> Answer:
        header = request.outer.header
        identity = addressed(endpoint, header)
        write = partial(
            write_reply,
            told.reply,
            header,
            identity,
            self._entropy,
            recipient=request.outer.signer,
            sealing=request.sealing,
            password=request.csr.challenge_password if isinstance(request, Enrolment) else told.password,
            legacy=endpoint.profile.legacy,
        )
        body = await _done(write, identity)
        return Answer(
            body=body,
            message_type=header.message_type,
            transaction_id=str(header.transaction_id),
            outcome=_WORDS[type(told.reply)],
            detail=told.detail,
        )

    async def _refuse(
        self, endpoint: Endpoint, header: Header, error: Refused, started: float, *, request: Request | None = None
    ) -> Answer:
        profile = endpoint.profile
        reply = refusal(error.reason, challenge_text=profile.challenge_text)
        identity = addressed(endpoint, header)
        write = partial(write_reply, reply, header, identity, self._entropy, legacy=profile.legacy)
        body = await _done(write, identity)
        self._refusals.note(self._note(endpoint, header, error.reason.name, error.detail, request=request))
        if error.alarm:
            self._metrics.alarmed(profile.name, error.reason.name)
        if OUTCOMES[error.reason].uniform:
            elapsed = self._clock.monotonic_seconds() - started
            await self._clock.sleep(max(0.0, self._failure_floor_seconds - elapsed))
        return Answer(
            body=body,
            message_type=header.message_type,
            transaction_id=str(header.transaction_id),
            outcome=error.reason.name,
            detail=error.detail,
            alarm=error.alarm,
        )

    def _note(
        self, endpoint: Endpoint, header: Header, reason: str, detail: str, *, request: Request | None
    ) -> RefusalNote:
        return RefusalNote(
            at=self._clock.now(),
            profile=endpoint.profile.name,
            reason=reason,
            detail=detail,
            transaction_id=header.transaction_id.value,
            asked_for=names_in_words(request.csr) if isinstance(request, Enrolment) else None,
        )

    def _count_what_is_odd(self, endpoint: Endpoint, request: Request) -> None:
        profile, quirks = endpoint.profile.name, request.outer.oddities
        if isinstance(request, Enrolment):
            quirks += request.csr.oddities
        for quirk in quirks:
            self._metrics.quirk_seen(profile, quirk)
        for each in request.outer.legacy if isinstance(request, CertPoll) else request.outer.legacy | request.legacy:
            self._metrics.legacy_used(profile, each)

    def _count(self, endpoint: Endpoint, message_type: MessageType | None, outcome: str, started: float) -> None:
        kind = message_type.name if message_type else "unknown"
        seconds = self._clock.monotonic_seconds() - started
        self._metrics.answered(endpoint.profile.name, kind, outcome, seconds)


def addressed(endpoint: Endpoint, header: Header) -> Identity:
    """The identity that the request's envelope addresses, so that the reply is signed by the one the client knows.

    Raises:
        Unavailable: there is none yet.
    """
    identities = endpoint.identities
    return find_addressed(identities, header) or identities[0]


def find_addressed(identities: Sequence[Identity], header: Header) -> Identity | None:
    """The first of them that the request's envelope addresses."""
    for identity in identities:
        ours = identity.decryptor.certificate_id
        if any(addresses(recipient, ours) for recipient in header.recipients):
            return identity
    return None


async def _done(work: Callable[[], T], identity: Identity | None) -> T:
    """Does the work of one private operation, in a thread where the key is in a device."""
    return await asyncio.to_thread(work) if identity is not None and identity.is_remote else work()


_WORDS: dict[type[Reply], str] = {Issuance: "success", CrlDelivery: "success", Deferral: "pending"}
