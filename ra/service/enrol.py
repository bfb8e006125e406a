"""PKCSReq and RenewalReq: from an opened request to a decision, which `submit` carries out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import Connection

from connectors.api import Capability
from ra.challenge.api import Attempt, Deny, Validator, Verdict
from ra.challenge.api import Unavailable as NotNow
from ra.errors import Reason, Refused, Unavailable
from ra.journal import audit, outbox, transactions
from ra.journal.database import Journal
from ra.journal.records import RequestIdentity
from ra.policy.decide import Decision, decide, requested_names_digest
from ra.policy.grant import Grant
from ra.scep.messages import Enrolment
from ra.service.endpoint import Endpoint
from ra.service.notices import Notices
from ra.service.ports import Clock
from ra.service.renew import Origin, Renewals, Unwaived
from ra.service.replies import Told
from ra.service.submit import Submissions

VALIDATOR_SECONDS = 15.0
"""How long a challenge validator is given; nothing is committed yet, so the device is told to come back."""

OPEN_GRANT = Grant(method="none", label="no challenge is required")


class Enrolments:
    """Decides about enrolments and hands them on."""

    def __init__(
        self, *, journal: Journal, renewals: Renewals, submissions: Submissions, notices: Notices, clock: Clock
    ) -> None:
        self._journal = journal
        self._renewals = renewals
        self._submissions = submissions
        self._notices = notices
        self._clock = clock

    async def enrol(self, endpoint: Endpoint, request: Enrolment, arrived_at: datetime) -> Told:
        """Steps 4 to 7 of a PKIOperation; the others are in `PkiOperation.answer`.

        4. `recall`: the same request again gets the same answer.
        5. `authenticate`: the certificate of ours that signed says who is asking, or a challenge validator. Nothing is
           spent yet.
        6. `decide`: policy, which only an authenticated request learns about.
        7. `authorise` and `submit`: commit (row, spent secret, audit), ask the CA, check what came back, commit
           (outcome, audit). From the first commit on, the work goes on whether or not the device still listens.

        Raises:
            Refused: the device is told FAILURE.
            Unavailable: something needed cannot be asked, and nothing is committed.
        """
        origin = await self._renewals.origin(endpoint, request.outer.signer)
        identity = request_identity(endpoint, request, origin)
        known = await self._journal.read(lambda c: transactions.recall(c, identity, arrived_at))  # (4)
        if known is not None:
            if not (request.outer.signer.is_sealed_to or known.is_asked_again_by(identity)):
                # The challenge that seals the reply is not the one that was looked at.
                self._decide(endpoint, request, await self._authenticate(endpoint, request, origin, arrived_at))
            return await self._submissions.present(endpoint, identity, known)
        grant = await self._authenticate(endpoint, request, origin, arrived_at)  # (5)
        async with self._recording_refusals(endpoint, request, grant):
            decision = self._decide(endpoint, request, grant)  # (6)
            renews = None if origin is None else origin.transaction
            begun = await self._submissions.authorise(endpoint, decision, identity, renews)  # (7)
        if begun.is_ours:
            return await self._submissions.submit(endpoint, begun)
        return await self._submissions.present(endpoint, identity, begun.transaction)  # an identical request was faster

    async def _authenticate(
        self, endpoint: Endpoint, request: Enrolment, origin: Origin | None, arrived_at: datetime
    ) -> Grant:
        """A valid certificate of ours waives the challenge, whatever challenge is sent along (RFC 8894 §2.4).

        Not where the reply has to be sealed with the challenge: then it is asked for, and looked at.
        """
        waived = None
        if origin is not None and request.outer.signer.is_sealed_to:
            waived = await self._renewals.waive(endpoint, request, origin, self._clock.now())
        if isinstance(waived, Grant):
            return waived
        if endpoint.validator is None:
            return OPEN_GRANT
        attempt = await self._attempt(endpoint, request, origin, arrived_at)
        match await self._ask(endpoint.validator, attempt):
            case Grant() as grant:
                return grant
            case Deny() as deny:
                error = _denied(deny.detail, waived, alarm=deny.alarm)
                if isinstance(error, Refused) and deny.granted is not None:
                    await self._record_refusal(endpoint, request, deny.granted, error)
                raise error
            case NotNow(detail=detail, retry_after_seconds=seconds):
                raise Unavailable(detail, seconds)

    async def _attempt(
        self, endpoint: Endpoint, request: Enrolment, origin: Origin | None, arrived_at: datetime
    ) -> Attempt:
        return Attempt(
            profile=endpoint.profile.name,
            transaction_id=str(request.outer.header.transaction_id),
            csr=request.csr,
            signer=request.outer.signer,
            arrived_at=arrived_at,
            earlier_keys=frozenset() if origin is None else await self._renewals.earlier_keys(origin),
        )

    async def _ask(self, validator: Validator, attempt: Attempt) -> Verdict:
        try:
            async with asyncio.timeout(VALIDATOR_SECONDS):
                return await validator.check(attempt)
        except TimeoutError:
            raise Unavailable(f"no validator answered within {VALIDATOR_SECONDS:.0f} s") from None

    def _decide(self, endpoint: Endpoint, request: Enrolment, grant: Grant) -> Decision:
        return decide(
            request,
            grant,
            endpoint.profile,
            self._clock.now(),
            explicit_contents=endpoint.backend.can(Capability.EXPLICIT_CONTENTS),
            explicit_validity=endpoint.backend.can(Capability.NOT_AFTER),
        )

    @asynccontextmanager
    async def _recording_refusals(self, endpoint: Endpoint, request: Enrolment, grant: Grant) -> AsyncIterator[None]:
        """Audits a decision against somebody who is known; a stranger's is noted like every other refusal."""
        try:
            yield
        except Refused as error:
            if grant.method != OPEN_GRANT.method:
                await self._record_refusal(endpoint, request, grant, error)
            raise

    async def _record_refusal(self, endpoint: Endpoint, request: Enrolment, grant: Grant, error: Refused) -> None:
        event: dict[str, audit.Value] = {
            "event": "decision",
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
        now = self._clock.now()
        letters = self._notices.refusals(
            grant,
            endpoint.profile.name,
            str(request.outer.header.transaction_id),
            request.csr.der,
            now,
            reason=error.reason.name,
            detail=error.detail,
        )

        def record(connection: Connection) -> None:
            audit.record(connection, now, event)
            outbox.put(connection, None, letters, now)

        await self._journal.write(record)


def _denied(detail: str, waived: Unwaived | None, *, alarm: bool) -> Exception:
    """A device that only needs its CA to be asked is told to come back, not that it was refused."""
    if waived is None:
        return Refused(Reason.CHALLENGE_REFUSED, detail, alarm=alarm)
    told = f"{detail}; the certificate that signed does not waive it: {waived.detail}"
    if waived.may_change and not alarm:
        return Unavailable(told)
    return Refused(Reason.CHALLENGE_REFUSED, told, alarm=alarm)


def request_identity(endpoint: Endpoint, request: Enrolment, origin: Origin | None) -> RequestIdentity:
    """What makes this request the same as another one (design §4)."""
    return RequestIdentity(
        profile=endpoint.profile.name,
        signer_key=hashlib.sha256(request.outer.signer.spki).digest(),
        transaction_id=request.outer.header.transaction_id.value,
        csr_key=hashlib.sha256(request.csr.spki).digest(),
        names=requested_names_digest(request.csr),
        csr_info=hashlib.sha256(request.csr.info).digest(),
        renewal_signer=None if origin is None else origin.digest,
    )
